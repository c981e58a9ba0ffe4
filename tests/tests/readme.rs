//! What the README shows is what is there.

use std::{fs, path::Path};

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn readme_shows_the_example_that_is_compiled() {
    let example: String =
        read("sdk/examples/hello.rs").split_inclusive('\n').filter(|line| !line.starts_with("#![")).collect();
    let readme = read("README.md");
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a Rust block");
    assert_eq!(shown, example, "README.md shows another text than sdk/examples/hello.rs");
    assert!(example.lines().count() <= 26, "the example is short: {} lines", example.lines().count());
}

#[test]
fn links_of_the_readme_and_the_architecture_page_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for page in ["README.md", "ARCHITECTURE.md"] {
        let text = read(page);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            assert!(root.join(target).exists(), "{page} links to {target}, which is not there");
        }
    }
}

#[test]
fn every_folder_of_the_workspace_is_on_the_map() {
    let manifest = read("Cargo.toml");
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("members");
    let readme = read("README.md");
    for member in members.split(',').map(|member| member.trim().trim_matches('"')) {
        assert!(readme.contains(&format!("[{member}]({member})")), "{member} is not on the README's map");
    }
}
