//! The rules of `docs/spec`, read from the pages themselves: the id, the level, who is bound, and the words.
//!
//! A rule is a list item, `* WIRE-01 MUST both, relay: …` with its continuation lines. Where a page says of a range that each of its rules
//! has the same level and parties (`TOK-01 to TOK-11: each MUST relay`), the items of the range go without.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::Path,
};

/// How binding a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Always.
    Must,
    /// Unless there is a reason.
    Should,
    /// As one likes.
    May,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "MUST" => Some(Self::Must),
            "SHOULD" => Some(Self::Should),
            "MAY" => Some(Self::May),
            _ => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        })
    }
}

/// Whom a rule binds; the pages' `both` is client and daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// Starts sessions.
    Client,
    /// Answers them.
    Daemon,
    /// Forwards frames.
    Relay,
    /// The control plane.
    Api,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Daemon => "daemon",
            Self::Relay => "relay",
            Self::Api => "api",
        })
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Such as `WIRE-07`.
    pub id: String,
    /// How binding it is.
    pub level: Level,
    /// Whom it binds, in the order of [`Party`].
    pub parties: BTreeSet<Party>,
    /// Whether it cannot be observed from outside.
    pub internal: bool,
    /// The page's file name.
    pub file: String,
    /// The line where it starts, from 1.
    pub line: usize,
    /// Its words in one line, without the marks.
    pub text: String,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parties: Vec<_> = self.parties.iter().map(Party::to_string).collect();
        write!(f, "{} {} {}", self.id, self.level, parties.join("+"))?;
        if self.internal { f.write_str(" (internal)") } else { Ok(()) }
    }
}

/// A page that cannot be read, or a rule that cannot be understood.
#[derive(Debug)]
pub enum SpecError {
    /// A folder or page cannot be read.
    Io(io::Error),
    /// What is wrong, with file and line.
    Rule(String),
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the specification cannot be read: {error}"),
            Self::Rule(wrong) => f.write_str(wrong),
        }
    }
}

impl std::error::Error for SpecError {}

impl From<io::Error> for SpecError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads all pages (`*.md`) of a folder, in the order of their names; rules stay in the order of the page.
///
/// # Errors
/// A page that cannot be read, an item whose level or parties are unknown, or an id that stands twice.
pub fn read(folder: &Path) -> Result<Vec<Rule>, SpecError> {
    let mut pages = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            pages.insert(name, fs::read_to_string(&path)?);
        }
    }
    let mut rules = Vec::new();
    for (name, page) in &pages {
        rules.extend(parse_page(name, page)?);
    }
    let mut ids = BTreeSet::new();
    match rules.iter().find(|rule| !ids.insert(&rule.id)) {
        Some(rule) => Err(SpecError::Rule(format!("{}:{}: {} stands twice", rule.file, rule.line, rule.id))),
        None => Ok(rules),
    }
}

/// The rules of one page.
///
/// # Errors
/// An item that starts with an id and has no level, or unknown parties.
pub fn parse_page(file: &str, page: &str) -> Result<Vec<Rule>, SpecError> {
    let ranges = ranges(page);
    let mut rules = Vec::new();
    for (line, item) in items(page) {
        let Some((id, rest)) = split_id(&item) else { continue };
        let wrong = |what: &str| SpecError::Rule(format!("{file}:{line}: {id} {what}"));
        let (level, parties, words) = match split_binding(rest.trim_start()) {
            Some((level, parties, words)) => (level, parties, words),
            None => {
                let of_range = ranges.iter().find(|(ids, ..)| ids.contains(&id.to_owned()));
                let (_, level, parties) = of_range.ok_or_else(|| wrong("has no level and parties"))?;
                (*level, parties.clone(), rest)
            }
        };
        let internal = words.contains("*(internal)*");
        let text = words.replace("*(internal)*", "").trim().to_owned();
        if text.is_empty() {
            return Err(wrong("says nothing"));
        }
        rules.push(Rule { id: id.to_owned(), level, parties, internal, file: file.to_owned(), line, text });
    }
    Ok(rules)
}

/// The list items of a page, each in one line, with the number of its first line.
fn items(page: &str) -> Vec<(usize, String)> {
    let mut items: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (at, line) in page.lines().enumerate() {
        if let Some(item) = line.strip_prefix("* ") {
            items.push((at + 1, item.trim().to_owned()));
            open = true;
        } else if line.starts_with("  ")
            && open
            && let Some((_, item)) = items.last_mut()
        {
            item.push(' ');
            item.push_str(line.trim());
        } else {
            open = false;
        }
    }
    items
}

/// `MUST both, relay: …`, if the text starts so.
fn split_binding(text: &str) -> Option<(Level, BTreeSet<Party>, &str)> {
    let (level, rest) = text.split_once(' ')?;
    let level = Level::parse(level)?;
    let (parties, words) = rest.split_once(':')?;
    Some((level, parse_parties(parties)?, words))
}

fn parse_parties(text: &str) -> Option<BTreeSet<Party>> {
    let mut parties = BTreeSet::new();
    for name in text.split(',') {
        match name.trim() {
            "both" => parties.extend([Party::Client, Party::Daemon]),
            "client" => parties.extend([Party::Client]),
            "daemon" => parties.extend([Party::Daemon]),
            "relay" => parties.extend([Party::Relay]),
            "api" => parties.extend([Party::Api]),
            _ => return None,
        }
    }
    Some(parties)
}

/// What a page says of ranges: `TOK-01 to TOK-11: each MUST relay`.
fn ranges(page: &str) -> Vec<(Vec<String>, Level, BTreeSet<Party>)> {
    let words: Vec<&str> = page.split_whitespace().collect();
    let bare = |word: &str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    words
        .windows(6)
        .filter_map(|window| {
            let [first, "to", last, "each", level, party] = *window else { return None };
            Some((range(&bare(first), &bare(last))?, Level::parse(level)?, parse_parties(&bare(party))?))
        })
        .collect()
}

fn range(first: &str, last: &str) -> Option<Vec<String>> {
    let (prefix, from) = split_id(first).filter(|(_, rest)| rest.is_empty())?.0.split_once('-')?;
    let (other, to) = split_id(last).filter(|(_, rest)| rest.is_empty())?.0.split_once('-')?;
    let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
    (prefix == other).then(|| (from..=to).map(|n| format!("{prefix}-{n:02}")).collect())
}

/// Splits an id, three or four capitals, a dash and two digits, off the start of a text; it must end there.
fn split_id(text: &str) -> Option<(&str, &str)> {
    let capitals = text.bytes().take_while(u8::is_ascii_uppercase).count();
    if !(3..=4).contains(&capitals) || text.as_bytes().get(capitals) != Some(&b'-') {
        return None;
    }
    let digits = text.bytes().skip(capitals + 1).take_while(u8::is_ascii_digit).count();
    let next = text.as_bytes().get(capitals + 3);
    let ends = next.is_none_or(|byte| !byte.is_ascii_alphanumeric());
    (digits == 2 && ends).then(|| text.split_at(capitals + 3))
}

/// Every rule id that a source text cites, with its line from 1: ids (`WIRE-07`), the ends of ranges (`WIRE-09..19`), and the names of
/// functions (`fn wire_07_…`) whose first part is one of `prefixes`.
pub fn citations(source: &str, prefixes: &BTreeSet<String>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in source.lines().enumerate() {
        for (start, _) in line.char_indices() {
            let word_goes_on = line[..start].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_');
            let Some((id, rest)) = split_id(&line[start..]).filter(|_| !word_goes_on) else { continue };
            found.push((at + 1, id.to_owned()));
            let end = rest.strip_prefix("..").map(|rest| rest.trim_start_matches('='));
            let digits: String = end.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
            if let (2, Some((prefix, _))) = (digits.len(), id.split_once('-')) {
                found.push((at + 1, format!("{prefix}-{digits}")));
            }
        }
        found.extend(cited_by_name(line, prefixes).map(|id| (at + 1, id)));
    }
    found
}

fn cited_by_name(line: &str, prefixes: &BTreeSet<String>) -> Option<String> {
    let (_, name) = line.split_once("fn ")?;
    let mut parts = name.split('_');
    let (prefix, number) = (parts.next()?.to_ascii_uppercase(), parts.next()?);
    let is_number = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && prefixes.contains(&prefix)).then(|| format!("{prefix}-{number}"))
}
