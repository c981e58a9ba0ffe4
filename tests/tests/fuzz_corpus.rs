//! The fuzz targets with their corpus: what was found once stays mended, without a fuzzer.

#[expect(unreachable_pub, reason = "it is a library of its own, too")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::{fs, io::Write as _, path::Path};

#[test]
fn every_reader_holds_on_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let mut files: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 5, "{name} has a corpus of {}", files.len());
        for file in &files {
            let _ = writeln!(std::io::stderr(), "{}", file.display());
            target(&fs::read(file).unwrap());
        }
        // Each file cut short and with a byte changed: near to what is right is where readers go wrong.
        for file in &files {
            let data = fs::read(file).unwrap();
            for at in (0..data.len()).step_by(data.len() / 64 + 1) {
                target(&data[..at]);
                let mut changed = data.clone();
                changed[at] ^= 1 << (at % 8);
                target(&changed);
            }
        }
    }
    let folders = fs::read_dir(&corpus).unwrap().count();
    assert_eq!(folders, targets::TARGETS.len(), "a folder of the corpus belongs to no target");
}
