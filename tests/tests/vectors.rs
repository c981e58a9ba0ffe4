//! Runs the known answers of `tests/vectors`, or of the folder in `SIDEBAND_VECTORS`, one test a file, and says how many cases it ran.
//!
//! The walker itself is tested too: on a copy of the vectors in which one thing is wrong it must fail.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use sideband_tests::vectors::{check_folder, files, walk, walk_file};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// A relative folder is meant from the repository, where cargo was called, not from this package.
fn folder() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    env::var_os("SIDEBAND_VECTORS").map_or_else(shipped, |folder| repository.join(folder))
}

/// Straight to standard output: a passing test's `println!` would not be seen.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(format!("\n{text}\n").as_bytes());
}

fn run(name: &str) {
    let report = walk_file(&folder(), name);
    say(&format!("vectors {report}"));
    assert!(report.is_good(), "{report}");
}

macro_rules! file_tests {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                run($name);
            }
        )*

        /// Every file that the walker knows has a test of its own.
        #[test]
        fn vectors_every_file_has_a_test() {
            assert_eq!(files().collect::<Vec<_>>(), [$($name,)*]);
        }
    };
}

file_tests! {
    vectors_backoff: "backoff.json",
    vectors_event_patterns: "event_patterns.json",
    vectors_rpc_envelopes: "rpc_envelopes.json",
    vectors_sbp_frames: "sbp_frames.json",
    vectors_sbrp_data: "sbrp_data.json",
    vectors_sbrp_frames: "sbrp_frames.json",
    vectors_sbrp_handshake: "sbrp_handshake.json",
    vectors_sbrp_invalid: "sbrp_invalid.json",
    vectors_sbrp_largest: "sbrp_largest.json",
    vectors_sbrp_replay: "sbrp_replay.json",
    vectors_tokens: "tokens.json",
}

#[test]
fn vectors_folder_holds_every_known_file_and_no_other() {
    assert_eq!(check_folder(&folder()), Vec::<String>::new());
}

// ---- the walker fails where it must ----

/// A copy of the shipped vectors, removed when dropped.
struct Copy(PathBuf);

impl Copy {
    fn new(case: &str) -> Self {
        let folder = env::temp_dir().join(format!("sideband-vectors-{}-{case}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for entry in fs::read_dir(shipped()).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, folder.join(from.file_name().unwrap())).unwrap();
        }
        Self(folder)
    }

    fn edit(&self, name: &str, edit: impl FnOnce(&mut serde_json::Value)) {
        let path = self.0.join(name);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut value);
        fs::write(&path, value.to_string()).unwrap();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The same text with its last hex digit (or letter) changed.
fn changed(text: &str) -> String {
    let (start, last) = text.split_at(text.len() - 1);
    format!("{start}{}", if last == "0" { '1' } else { '0' })
}

#[test]
fn vectors_untouched_copy_is_good() {
    let copy = Copy::new("untouched");
    let report = walk(&copy.0);
    assert!(report.is_good(), "{report}");
    assert_eq!(report.files.len(), 11);
    assert!(report.files.iter().all(|file| file.counts.iter().all(|(_, count)| *count > 0)));
}

/// Every member of the first case of every list that must follow from the others: one changed digit is found.
#[test]
fn vectors_one_changed_byte_fails() {
    let places = [
        ("sbrp_frames.json", "/cases/0/type_byte"),
        ("sbrp_frames.json", "/cases/0/type"),
        ("sbrp_frames.json", "/cases/0/session_id"),
        ("sbrp_frames.json", "/cases/0/payload"),
        ("sbrp_frames.json", "/cases/0/encoded"),
        ("sbrp_frames.json", "/cases/63/encoded"),
        ("sbrp_frames.json", "/control_codes/rate_limited/code"),
        ("sbrp_frames.json", "/control_codes/rate_limited/terminal"),
        ("sbrp_frames.json", "/control_codes/rate_limited/session_scope"),
        ("sbrp_largest.json", "/cases/0/session_id"),
        ("sbrp_largest.json", "/cases/0/stream_seed"),
        ("sbrp_largest.json", "/cases/0/encoded_len"),
        ("sbrp_largest.json", "/cases/0/encoded_sha256"),
        ("sbrp_invalid.json", "/cases/0/expect/code"),
        ("sbrp_invalid.json", "/cases/0/expect/session_id"),
        ("sbrp_invalid.json", "/cases/0/expect/closes"),
        ("sbrp_handshake.json", "/cases/0/daemon_id"),
        ("sbrp_handshake.json", "/cases/0/identity_seed"),
        ("sbrp_handshake.json", "/cases/0/identity_public"),
        ("sbrp_handshake.json", "/cases/0/fingerprint"),
        ("sbrp_handshake.json", "/cases/0/client_ephemeral_public"),
        ("sbrp_handshake.json", "/cases/0/daemon_ephemeral_public"),
        ("sbrp_handshake.json", "/cases/0/signature_payload"),
        ("sbrp_handshake.json", "/cases/0/signature"),
        ("sbrp_handshake.json", "/cases/0/shared_secret"),
        ("sbrp_handshake.json", "/cases/0/transcript_hash"),
        ("sbrp_handshake.json", "/cases/0/client_to_daemon_key"),
        ("sbrp_handshake.json", "/cases/0/daemon_to_client_key"),
        ("sbrp_handshake.json", "/cases/0/init_payload"),
        ("sbrp_handshake.json", "/cases/0/accept_payload"),
        ("sbrp_handshake.json", "/rejected/0/expect"),
        ("sbrp_data.json", "/cases/0/key"),
        ("sbrp_data.json", "/cases/0/direction"),
        ("sbrp_data.json", "/cases/0/seq"),
        ("sbrp_data.json", "/cases/2/plaintext"),
        ("sbrp_data.json", "/cases/0/payload"),
        ("sbrp_data.json", "/rejected/0/expect"),
        ("sbrp_replay.json", "/cases/0/accepted/0"),
        ("sbrp_replay.json", "/cases/31/accepted/0"),
        ("sbp_frames.json", "/cases/0/kind"),
        ("sbp_frames.json", "/cases/0/frame_id"),
        ("sbp_frames.json", "/cases/0/op"),
        ("sbp_frames.json", "/cases/0/data"),
        ("sbp_frames.json", "/cases/0/encoded"),
        ("sbp_frames.json", "/invalid/1/expect"),
        ("sbp_frames.json", "/subjects/0/expect"),
        ("sbp_frames.json", "/subjects/4/expect"),
        ("sbp_frames.json", "/handshakes/0/expect"),
        ("sbp_frames.json", "/handshakes/2/expect"),
        ("rpc_envelopes.json", "/cases/0/json"),
        ("rpc_envelopes.json", "/reactions/0/channel"),
        ("rpc_envelopes.json", "/reactions/0/expect"),
        ("event_patterns.json", "/cases/0/matches"),
        ("event_patterns.json", "/cases/0/pattern"),
        ("tokens.json", "/now"),
        ("tokens.json", "/issuer"),
        ("tokens.json", "/region"),
        ("tokens.json", "/jwks/keys/0/kid"),
        ("tokens.json", "/session_ids/0/session_id"),
        ("tokens.json", "/cases/0/token"),
        ("tokens.json", "/cases/0/expect/status"),
        ("tokens.json", "/cases/0/expect/did"),
        ("tokens.json", "/cases/0/expect/session_id"),
        ("tokens.json", "/cases/0/expect/resumable"),
        ("tokens.json", "/cases/13/expect/reason"),
        ("backoff.json", "/cases/1/attempt"),
        ("backoff.json", "/cases/0/initial_ms"),
        ("backoff.json", "/cases/0/base_ms"),
    ];
    for (name, place) in places {
        let copy = Copy::new("byte");
        copy.edit(name, |file| {
            let value = file.pointer_mut(place).unwrap_or_else(|| panic!("{name} has no {place}"));
            *value = match &*value {
                serde_json::Value::String(text) => changed(text).into(),
                serde_json::Value::Bool(yes) => (!yes).into(),
                serde_json::Value::Number(number) => (number.as_u64().unwrap() + 100_000).into(),
                other => panic!("{name}{place} is {other}"),
            };
        });
        let report = walk(&copy.0);
        let wrong: Vec<_> = report.files.iter().filter(|file| !file.is_good()).map(|file| &file.name[..]).collect();
        assert_eq!(wrong, [name], "{place}: {report}");
    }
}

#[test]
fn vectors_unknown_list_member_and_expect_fail() {
    for name in files() {
        let copy = Copy::new("list");
        copy.edit(name, |file| file["surprise"] = serde_json::json!([1]));
        assert!(!walk_file(&copy.0, name).is_good(), "{name} with another list");

        let copy = Copy::new("list");
        copy.edit(name, |file| file["cases"][0]["surprise"] = serde_json::json!(1));
        assert!(!walk_file(&copy.0, name).is_good(), "{name} with another member");
    }
    let expects = [
        ("sbrp_invalid.json", "/cases/0/expect/code"),
        ("sbrp_handshake.json", "/rejected/0/expect"),
        ("sbrp_data.json", "/rejected/0/expect"),
        ("sbp_frames.json", "/invalid/0/expect"),
        ("sbp_frames.json", "/subjects/0/expect"),
        ("sbp_frames.json", "/handshakes/0/expect"),
        ("rpc_envelopes.json", "/reactions/0/expect"),
        ("tokens.json", "/cases/14/expect/reason"),
    ];
    for (name, place) in expects {
        let copy = Copy::new("expect");
        copy.edit(name, |file| *file.pointer_mut(place).unwrap() = serde_json::json!("surprise"));
        assert!(!walk_file(&copy.0, name).is_good(), "{name}{place}");
    }
}

/// A set may leave none out: no file, no list, no case of a list, no member, no code of the table.
#[test]
fn vectors_something_left_out_fails() {
    for name in files() {
        let copy = Copy::new("missing");
        fs::remove_file(copy.0.join(name)).unwrap();
        let report = walk(&copy.0);
        assert_eq!(report.failures, [format!("{name} is missing")]);
        assert!(!walk_file(&copy.0, name).is_good());

        let text = fs::read(shipped().join(name)).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
        for member in file.as_object().unwrap().keys() {
            let copy = Copy::new("missing");
            copy.edit(name, |file| drop(file.as_object_mut().unwrap().remove(member)));
            assert!(!walk_file(&copy.0, name).is_good(), "{name} without {member}");
        }
        for (list, cases) in file.as_object().unwrap().iter().filter(|(_, value)| value.is_array()) {
            let copy = Copy::new("missing");
            copy.edit(name, |file| file[list] = serde_json::json!([]));
            assert!(!walk_file(&copy.0, name).is_good(), "{name} with no {list}");
            for member in cases[0].as_object().unwrap().keys() {
                let copy = Copy::new("missing");
                copy.edit(name, |file| drop(file[list][0].as_object_mut().unwrap().remove(member)));
                assert!(!walk_file(&copy.0, name).is_good(), "{name}, {list} without {member}");
            }
        }
    }
    let copy = Copy::new("missing");
    copy.edit("sbrp_frames.json", |file| drop(file["control_codes"].as_object_mut().unwrap().remove("backpressure")));
    let report = walk_file(&copy.0, "sbrp_frames.json");
    assert_eq!(report.failures, ["control_codes leaves backpressure out"]);
}

#[test]
fn vectors_unknown_file_fails() {
    let copy = Copy::new("unknown-file");
    fs::write(copy.0.join("surprise.json"), "{}").unwrap();
    assert_eq!(walk(&copy.0).failures, ["nobody knows surprise.json"]);
    assert!(!walk_file(&copy.0, "surprise.json").is_good());
}

/// A file that the README names is missing, although this walker knows nothing of it.
#[test]
fn vectors_file_that_the_readme_names_fails_if_unknown_or_missing() {
    let copy = Copy::new("readme");
    let readme = fs::read_to_string(copy.0.join("README.md")).unwrap();
    fs::write(copy.0.join("README.md"), format!("{readme}| `more.json` | more | |\n")).unwrap();
    let failures = walk(&copy.0).failures;
    assert_eq!(failures, ["README.md names more.json, which nobody knows", "more.json is missing"]);
}

#[test]
fn vectors_folder_that_is_not_there_fails() {
    assert!(!walk(Path::new("/nowhere")).is_good());
}
