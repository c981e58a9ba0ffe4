//! Walks the known answers: every case of every list of every file (`tests/vectors/README.md`).
//!
//! A set of vectors leaves nothing out and brings nothing unknown: a file that is missing or that nobody knows, an unknown list, member or
//! `expect` value, and an empty list are failures, as a wrong answer is. [`walk`] looks at a whole folder, [`walk_file`] at one file of it.

mod crypto;
mod sbp;
mod sbrp;
mod token;

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    fs,
    path::Path,
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

/// What is wrong with a case.
pub(crate) type Wrong = String;

type Check = fn(&[u8], &mut FileReport) -> Result<(), Wrong>;

/// Every file of a set, with what checks it.
const CHECKS: [(&str, Check); 11] = [
    ("backoff.json", token::backoff),
    ("event_patterns.json", sbp::event_patterns),
    ("rpc_envelopes.json", sbp::rpc_envelopes),
    ("sbp_frames.json", sbp::sbp_frames),
    ("sbrp_data.json", crypto::data),
    ("sbrp_frames.json", sbrp::frames),
    ("sbrp_handshake.json", crypto::handshake),
    ("sbrp_invalid.json", sbrp::invalid),
    ("sbrp_largest.json", sbrp::largest),
    ("sbrp_replay.json", crypto::replay),
    ("tokens.json", token::tokens),
];

/// The names of the files of a set, in order.
pub fn files() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|(name, _)| *name)
}

/// What came of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// The file's name.
    pub name: String,
    /// Lists, and how many of their cases were run.
    pub counts: Vec<(&'static str, usize)>,
    /// What a reader of the counts should know.
    pub notes: Vec<String>,
    /// What went wrong.
    pub failures: Vec<String>,
}

/// What came of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The files that every set has, in order.
    pub files: Vec<FileReport>,
    /// What is wrong with the folder itself.
    pub failures: Vec<String>,
}

impl FileReport {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), counts: Vec::new(), notes: Vec::new(), failures: Vec::new() }
    }

    /// Runs one list; each case fails for itself. An empty list leaves something out.
    fn each<T>(
        &mut self,
        list: &'static str,
        cases: impl IntoIterator<Item = T>,
        name: impl Fn(&T) -> String,
        run: impl Fn(&T) -> Result<(), Wrong>,
    ) {
        let mut count = 0;
        for case in cases {
            count += 1;
            if let Err(wrong) = run(&case) {
                self.failures.push(format!("{list}, `{}`: {wrong}", name(&case)));
            }
        }
        if count == 0 {
            self.failures.push(format!("{list} is empty"));
        }
        self.counts.push((list, count));
    }

    /// Whether nothing went wrong.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name)?;
        for (i, (list, count)) in self.counts.iter().enumerate() {
            write!(f, "{} {count} {list}", if i == 0 { "" } else { "," })?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n  note: {note}"))?;
        self.failures.iter().try_for_each(|failure| write!(f, "\n  WRONG {failure}"))
    }
}

impl Report {
    /// Whether nothing went wrong.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.files.iter().all(FileReport::is_good)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.iter().try_for_each(|file| writeln!(f, "{file}"))?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "WRONG {failure}"))
    }
}

/// Walks a whole folder.
pub fn walk(folder: &Path) -> Report {
    let files = files().map(|name| walk_file(folder, name)).collect();
    Report { files, failures: check_folder(folder) }
}

/// Runs every case of one file.
pub fn walk_file(folder: &Path, name: &str) -> FileReport {
    let mut report = FileReport::new(name);
    let ran = match CHECKS.iter().find(|(known, _)| *known == name) {
        None => Err("nobody knows this file".to_owned()),
        Some((_, check)) => match fs::read(folder.join(name)) {
            Err(error) => Err(format!("cannot be read: {error}")),
            Ok(text) => check(&text, &mut report),
        },
    };
    report.failures.extend(ran.err());
    report
}

/// Whether a folder holds the files that a set has, those that its README names, and no other.
pub fn check_folder(folder: &Path) -> Vec<String> {
    let mut failures = Vec::new();
    let known: BTreeSet<String> = files().map(str::to_owned).collect();
    let there = match entries(folder) {
        Ok(there) => there,
        Err(error) => return vec![format!("{} cannot be read: {error}", folder.display())],
    };
    let named = match fs::read_to_string(folder.join("README.md")) {
        Ok(readme) => named_in(&readme),
        Err(_) => BTreeSet::new(),
    };
    for name in named.difference(&known) {
        failures.push(format!("README.md names {name}, which nobody knows"));
    }
    for name in known.union(&named).filter(|name| !there.contains(*name)) {
        failures.push(format!("{name} is missing"));
    }
    for name in there.iter().filter(|name| *name != "README.md" && !known.contains(*name)) {
        failures.push(format!("nobody knows {name}"));
    }
    failures
}

fn entries(folder: &Path) -> std::io::Result<BTreeSet<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The files that a README's table names in its first column.
fn named_in(readme: &str) -> BTreeSet<String> {
    let first = |line: &str| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name.to_owned());
    readme.lines().filter_map(first).filter(|name| name.ends_with(".json")).collect()
}

// ---- reading ----

/// Reads a file; every member must be known and every one that the type has must be there.
fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Wrong> {
    serde_json::from_slice(text).map_err(|error| format!("cannot be read: {error}"))
}

/// For `deserialize_with`: the member must be there, though it may be `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(d)
}

/// Bytes in lower-case hex.
#[derive(Clone, PartialEq, Eq)]
struct Hex(Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        HEXLOWER.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(64)];
        f.write_str(&HEXLOWER.encode(shown))?;
        if shown.len() < self.0.len() { write!(f, "… ({} bytes)", self.0.len()) } else { Ok(()) }
    }
}

impl Hex {
    /// The bytes, if there are exactly `N`.
    fn array<const N: usize>(&self) -> Result<[u8; N], Wrong> {
        self.0[..].try_into().map_err(|_| format!("{} bytes instead of {N}", self.0.len()))
    }

    fn bytes(&self) -> bytes::Bytes {
        self.0.clone().into()
    }
}

/// The error of a difference.
fn same<T: PartialEq + fmt::Debug>(what: &str, got: T, expected: T) -> Result<(), Wrong> {
    if got == expected {
        return Ok(());
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(text, "{what} is {got:?}, not {expected:?}");
    Err(text)
}

fn same_bytes(what: &str, got: &[u8], expected: &Hex) -> Result<(), Wrong> {
    same(what, &Hex(got.to_vec()), expected)
}
