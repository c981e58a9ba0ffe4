//! The state file: what survives it, what it holds, and what is refused as one.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use rusqlite::Connection;
use serde_json::json;
use sideband_protocol::SessionId;

use super::*;
use crate::{OpenError, SqliteStore};

pub(super) fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, SeededEntropy::new(9, "root").entropy().as_mut())
}

fn error(path: &Path) -> String {
    open(path).unwrap_err().to_string()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Every file of a folder with what is in it.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut all: Vec<_> = entries.map(|entry| (name(&entry), fs::read(entry.path()).unwrap())).collect();
    all.sort();
    all
}

#[tokio::test]
async fn api_05_a_restart_keeps_credentials_codes_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let live = |seed| {
        let store = open(&path).unwrap();
        let boot = Bootstrap::derive(store.root());
        boot.install(&store).unwrap();
        (on(config(), seed, Arc::new(store)), boot)
    };
    let (before, boot) = live(1);
    let (user, api_key) = (boot.access_token.expose(), boot.api_key.expose());
    let session = before.call("relay.createSession", user, json!({"daemonId": boot.daemon_id})).await.text("token");
    let presence = before.call("daemon.renewToken", api_key, json!(null)).await.text("presenceToken");
    before.api.rotate(false).unwrap();
    let used = before.call("quickConnect.create", api_key, json!({})).await.text("code");
    let code = before.call("quickConnect.create", api_key, json!({})).await.text("code");
    before.set_online(&boot.daemon_id);
    before.call("quickConnect.redeem", "", json!({"code": used})).await.data();
    let keys = before.api.keys_overview();
    drop(before);

    let (after, again) = live(2);
    assert_eq!((again.daemon_id.as_str(), again.access_token.expose()), (boot.daemon_id.as_str(), user));
    assert_eq!(again.api_key.expose(), api_key);
    assert_eq!(after.api.keys_overview(), keys);
    for token in [&session, &presence] {
        assert_eq!(after.check(token).unwrap().daemon_id, boot.daemon_id);
    }
    after.set_online(&boot.daemon_id);
    assert_eq!(after.call("quickConnect.redeem", "", json!({"code": used})).await.status, 404);
    after.call("quickConnect.redeem", "", json!({"code": code})).await.data();
    assert_eq!(after.call("quickConnect.redeem", "", json!({"code": code})).await.status, 404);
    let sid = SessionId::from_claim(claims(&session)["sid"].as_str().unwrap()).unwrap();
    assert!(!after.store.insert_session_id_if_new(sid).unwrap(), "API-01 holds over lives");

    // What was revoked in an earlier life stays so, also after a reset, which brings back what was there when this one began.
    assert!(after.store.revoke_api_key(Digest::of(api_key).id()).unwrap());
    after.api.rotate(true).unwrap();
    after.store.add_user(&User::new("u_earlier"), Digest::of("t")).unwrap();
    let (keys, accounts) = (after.api.keys_overview(), after.store.directory().unwrap());
    drop(after);
    let (last, _) = live(3);
    for _ in 0..2 {
        assert_eq!(last.call("daemon.renewToken", api_key, json!(null)).await.status, 401);
        assert!(last.check(&presence).is_err(), "KEY-04 holds over lives");
        assert!(last.store.remove_user("u_earlier").unwrap().is_some());
        assert!(last.store.remove_user(&boot.user_id).unwrap().is_some());
        last.api.rotate(true).unwrap();
        last.api.reset().unwrap();
        assert_eq!((last.api.keys_overview(), last.store.directory().unwrap()), (keys.clone(), accounts.clone()));
    }
    let token = last.call("relay.createSession", user, json!({"daemonId": boot.daemon_id})).await.text("token");
    assert!(last.check(&token).is_ok());
    drop(last);
    assert_eq!(live(4).0.store.directory().unwrap(), accounts);
}

#[test]
fn api_07_files_are_private_and_hold_no_credential() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let store = open(&path).unwrap();
    let boot = Bootstrap::derive(store.root());
    boot.install(&store).unwrap();
    store.add_user(&User::new("u_2"), Digest::of("sim_at_plain")).unwrap();
    let files = contents(folder.path());
    assert_eq!(files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["state", "state-wal"]);
    for (name, bytes) in &files {
        assert_eq!(mode(&folder.path().join(name)), 0o600, "{name}");
        for secret in [boot.api_key.expose(), boot.access_token.expose(), "sim_at_plain"] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{name}");
        }
    }
    assert!(files[1].1.windows(3).any(|part| part == b"u_2"), "it is there, and was looked for in the right place");
    drop(store);
    assert_eq!(contents(folder.path()).len(), 1, "the log goes with an orderly end");
}

#[test]
fn a_file_has_one_user_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let store = open(&path).unwrap();
    for _ in 0..2 {
        assert!(matches!(open(&path), Err(OpenError::InUse { .. })));
        assert!(error(&path).contains("in use by another simulator"));
    }
    store.add_user(&User::new("u_1"), Digest::of("t")).unwrap();
    drop(store);
    assert!(open(&path).unwrap().user("u_1").unwrap().is_some());
}

#[test]
fn what_is_no_plain_private_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    drop(open(&at("state")).unwrap());
    symlink(at("state"), at("link")).unwrap();
    symlink(at("nothing"), at("dangling")).unwrap();
    for link in ["link", "dangling"] {
        assert!(error(&at(link)).contains("is a symbolic link"), "{}", error(&at(link)));
    }
    assert!(!at("nothing").exists(), "nothing was made behind the link");
    assert!(error(folder.path()).contains("is a folder"));
    assert!(matches!(open(&at("no/such/folder")), Err(OpenError::Io { .. })));
    assert!(matches!(open(Path::new("/")), Err(OpenError::Io { .. })));
    fs::set_permissions(at("state"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(error(&at("state")).contains("(mode 0640); run `chmod 600`"));
    // A link among its folders is the user's own affair.
    fs::set_permissions(at("state"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink(folder.path(), at("here")).unwrap();
    drop(open(&at("here/state")).unwrap());
}

#[test]
fn an_empty_file_is_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let root = open(&path).unwrap().root().clone();
    assert_eq!(*open(&path).unwrap().root(), root);
}

/// Makes a private file, tries it, and sees that it and its folder are as before.
fn refused(make: impl FnOnce(&Path)) -> OpenError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    make(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let before = contents(folder.path());
    let error = open(&path).unwrap_err();
    assert!(contents(folder.path()) == before, "it was touched: {error}");
    error
}

/// Changes a good state file with another program.
fn changed(sql: &'static str) -> impl FnOnce(&Path) {
    move |path| {
        drop(open(path).unwrap());
        Connection::open(path).unwrap().execute_batch(sql).unwrap();
    }
}

#[test]
fn a_file_of_something_else_is_left_as_it_is() {
    let text = refused(|path| fs::write(path, "seed = 7\n").unwrap());
    assert!(text.to_string().contains("is not a state file of this simulator"), "{text}");
    for journal in ["WAL", "DELETE"] {
        let foreign = refused(|path| {
            let other = Connection::open(path).unwrap();
            let sql = format!("PRAGMA journal_mode = {journal}; CREATE TABLE t (x); INSERT INTO t VALUES (1)");
            other.execute_batch(&sql).unwrap();
        });
        assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign}");
    }
}

#[test]
fn a_newer_file_is_left_as_it_is() {
    let newer = refused(changed("PRAGMA journal_mode = DELETE; PRAGMA user_version = 3"));
    assert!(matches!(newer, OpenError::Newer { found: 3, .. }), "{newer}");
    assert!(newer.to_string().contains("version 3, of a newer release; this one knows versions up to 2"), "{newer}");
    let none = refused(changed("PRAGMA journal_mode = DELETE; PRAGMA user_version = 0"));
    assert!(matches!(none, OpenError::Damaged { .. }), "{none}");
}

/// Writes with another program that is killed before its log is brought into the file.
fn in_the_log(path: &Path, sql: &str) {
    let copies = [("", path.with_extension("copy")), ("-wal", path.with_extension("copy-wal"))];
    let other = Connection::open(path).unwrap();
    other.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    other.execute_batch(sql).unwrap();
    for (ending, copy) in &copies {
        fs::copy(format!("{}{ending}", path.display()), copy).unwrap();
    }
    drop(other);
    for (ending, copy) in copies {
        fs::rename(copy, format!("{}{ending}", path.display())).unwrap();
    }
}

#[test]
fn a_newer_file_whose_version_is_only_in_its_log_is_refused_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    drop(open(&path).unwrap());
    in_the_log(&path, "PRAGMA user_version = 3; CREATE TABLE more (x)");
    assert!(matches!(open(&path), Err(OpenError::Newer { found: 3, .. })), "{}", error(&path));
    assert!(matches!(open(&path), Err(OpenError::Newer { found: 3, .. })), "and again: it was left as it is");
}

/// A file of version 1, as its release left it.
fn version_1(path: &Path, more: &str) {
    let old = Connection::open(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    old.execute_batch(include_str!("../sqlite/schema/1.sql")).unwrap();
    old.execute("INSERT INTO setting (name, value) VALUES ('root', ?1)", [[7; 32]]).unwrap();
    old.execute_batch(&format!("PRAGMA application_id = {}; PRAGMA user_version = 1; {more}", 0x5342_736d)).unwrap();
    old.execute_batch("PRAGMA journal_mode = WAL; INSERT INTO user (id) VALUES ('u_old')").unwrap();
}

#[test]
fn a_file_of_version_1_is_brought_to_this_one_and_keeps_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    version_1(&path, "INSERT INTO session_id (id) VALUES (9)");
    for life in 0..2 {
        let store = open(&path).unwrap();
        assert_eq!(*store.root(), crate::RootSecret::from_bytes([7; 32]));
        assert!(store.user("u_old").unwrap().is_some());
        assert!(!store.insert_session_id_if_new(SessionId::new(9).unwrap()).unwrap());
        assert_eq!(store.used_sessions(0, 0).unwrap().len(), life);
        store.use_session(SessionId::new(1).unwrap(), 150, &[], 0).unwrap();
    }
    let now: u32 = Connection::open(&path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(now, 2);
}

#[test]
fn a_file_of_version_1_killed_right_after_it_was_brought_to_this_one_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    version_1(&path, "");
    let step = include_str!("../sqlite/schema/2.sql");
    in_the_log(&path, &format!("BEGIN; {step} PRAGMA user_version = 2; COMMIT"));
    assert_eq!(fs::read(&path).unwrap()[60..64], [0, 0, 0, 1], "the header still says 1");
    assert!(open(&path).unwrap().user("u_old").unwrap().is_some());
}

#[test]
fn a_damaged_file_of_version_1_is_left_as_it_is() {
    let tables = refused(|path| version_1(path, "CREATE TABLE used_session (id)"));
    let root = refused(|path| version_1(path, "DELETE FROM setting"));
    for error in [tables, root] {
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    }
}

#[test]
fn a_damaged_file_is_left_as_it_is() {
    let scribbled = refused(|path| {
        drop(open(path).unwrap());
        let mut bytes = fs::read(path).unwrap();
        let page = 4096;
        bytes[2 * page..6 * page].fill(0x5a);
        fs::write(path, bytes).unwrap();
    });
    let short = refused(|path| {
        drop(open(path).unwrap());
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
    // What is left says that it is one of ours, and no more.
    let header = refused(|path| {
        drop(open(path).unwrap());
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..100]).unwrap();
    });
    let tables = refused(changed("DROP TABLE code"));
    let root = refused(changed("DELETE FROM setting WHERE name = 'root'"));
    for error in [scribbled, short, header, tables, root] {
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("restore it, or remove it"), "{error}");
    }
}

#[test]
fn a_root_secret_gives_credentials_that_are_its_alone() {
    let roots = [[1; 32], [2; 32]].map(crate::RootSecret::from_bytes);
    let [one, other] = [&roots[0], &roots[1]].map(Bootstrap::derive);
    let again = Bootstrap::derive(&roots[0]);
    assert_eq!(one.api_key.expose(), again.api_key.expose());
    assert_eq!((&one.user_id, &one.daemon_id), (&again.user_id, &again.daemon_id));
    assert_ne!(one.api_key.expose(), other.api_key.expose());
    assert_ne!(one.access_token, other.access_token);
    assert_ne!(one.api_key.expose()[9..], one.access_token.expose()[7..]);
    assert_eq!(format!("{:?}", roots[0]), "RootSecret(…)");
}

/// How long transactions take, which run in the tasks that ask for them; and what a used session id costs.
#[test]
#[expect(clippy::print_stdout, reason = "figures for whoever runs it")]
fn api_01_figures_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let store = open(&path).unwrap();
    let mut source = SeededEntropy::new(1, "ids").entropy();
    let (count, timeline) = (20_000, Timeline::start());
    for _ in 0..count {
        assert!(store.insert_session_id_if_new(SessionId::random(source.as_mut())).unwrap());
    }
    let took = timeline.elapsed().as_secs_f64() * 1e6 / f64::from(count);
    drop(store);
    let each = fs::metadata(&path).unwrap().len() as f64 / f64::from(count);
    println!("{count} session ids: {took:.1} µs each, {each:.1} bytes each");
    assert!(each < 40.0, "{each} bytes for a session id");
}

/// The environment variable that makes [`another_program`] one.
const THEIRS: &str = "SIDEBAND_TEST_STATE_FILE";

/// Another process, which tells whether it could open the file; nothing unless it is asked to be one.
#[test]
fn another_program() {
    let Some(path) = std::env::var_os(THEIRS) else { return };
    match open(Path::new(&path)) {
        Ok(store) => assert!(store.user("u_1").unwrap().is_some(), "THEIRS: opened, and nothing is in it"),
        Err(error) => panic!("THEIRS: {error}"),
    }
}

#[test]
fn another_program_is_locked_out_with_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let try_it = || {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["tests::file::another_program", "--exact", "--nocapture"]).env(THEIRS, &path);
        let output = child.output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("running 1 test"), "{text}");
        (output.status.success(), text)
    };
    let store = open(&path).unwrap();
    store.add_user(&User::new("u_1"), Digest::of("t")).unwrap();
    let (opened, text) = try_it();
    assert!(!opened && text.contains("THEIRS: ") && text.contains("in use by another simulator"), "{text}");
    // It has disturbed nobody, and gets in once the file is free.
    store.add_user(&User::new("u_2"), Digest::of("t2")).unwrap();
    drop(store);
    let (opened, text) = try_it();
    assert!(opened, "{text}");
}
