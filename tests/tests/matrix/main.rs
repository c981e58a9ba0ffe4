//! The every-state matrix: what follows from each thing that can happen, in each state of each endpoint.
//!
//! A row is an endpoint in a state ([`client::Row`], [`daemon::Row`]), a column is something that happens to it ([`Column`]). Each cell runs in a
//! scripted world of its own, in virtual time, and what the endpoint does is recorded as a list of events. A snapshot holds the cells of
//! one row; columns with the same events stand together, and where they differ in nothing but their own name or number, that name is left out (`‹…›`).
//! More tests walk the same table: one for each endpoint goes on from each cell to an active session where one is due, closes, and asserts what must hold in every
//! life of it; others show that the rows change when a rule is broken.

mod api;
mod client;
mod columns;
mod daemon;
mod record;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use columns::Column;
use sideband_protocol::quirks::Quirk;

/// How long a cell is watched after something happened: less than the shortest delay before a retry.
const MOMENT: Duration = Duration::from_millis(100);
/// What `close()` may take at most (CLI-14, DMN-05).
const PROMPT: Duration = Duration::from_secs(1);
/// The event of a `close()` that took longer.
const LATE: &str = "close() was not prompt";
/// The longest line of a snapshot.
const WIDTH: usize = 140;

/// An endpoint in a state, of which every column makes a cell.
trait Row: Copy {
    /// The same, wrong on purpose.
    fn broken_by(self, quirk: Quirk) -> Self;
    /// What can happen in this state.
    fn columns(self) -> Vec<Column>;
    /// Makes the column happen and records what follows.
    fn record(self, column: &Column) -> impl Future<Output = Vec<String>>;
    /// As [`record`](Self::record), goes on from there, and asserts what holds in every cell.
    fn walk(self, column: &Column) -> impl Future<Output = ()>;
}

/// Runs one cell in virtual time, a day of it at most.
fn in_virtual_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let day = Duration::from_secs(86_400);
        tokio::time::timeout(day, future).await.expect("the cell ends")
    })
}

/// The cells of a row as text: columns with the same events together, in the order of their first.
fn table(row: impl Row) -> String {
    let columns = row.columns();
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups: Vec<(Vec<&Column>, Vec<String>)> = Vec::new();
    for column in &columns {
        *sizes.entry(column.family()).or_default() += 1;
        let events = in_virtual_time(row.record(column));
        match groups.iter_mut().find(|(_, known)| *known == events) {
            Some((members, _)) => members.push(column),
            None => groups.push((vec![column], events)),
        }
    }
    let mut text = String::new();
    for (members, events) in groups {
        text += &heading(&members, &sizes);
        let nothing = events.is_empty().then(|| "(nothing)".to_owned());
        for event in events.into_iter().chain(nothing) {
            let _ = writeln!(text, "    {event}");
        }
    }
    text
}

/// `control unauthorized, forbidden; socket cut:`, broken into lines.
fn heading(members: &[&Column], sizes: &BTreeMap<&str, usize>) -> String {
    let mut families: Vec<(&str, Vec<String>)> = Vec::new();
    for column in members {
        match families.iter_mut().find(|(family, _)| *family == column.family()) {
            Some((_, names)) => names.push(column.name()),
            None => families.push((column.family(), vec![column.name()])),
        }
    }
    let parts = families.iter().map(|(family, names)| {
        let whole = names.len() > 1 && sizes.get(family) == Some(&names.len());
        let names = if whole && !family.is_empty() { "(each)".to_owned() } else { names.join(", ") };
        if family.is_empty() { names } else { format!("{family} {names}") }
    });
    let mut lines = vec![String::new()];
    for word in parts.collect::<Vec<_>>().join("; ").split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() < WIDTH => *line += &format!(" {word}"),
            _ => lines.push(format!("  {word}")),
        }
    }
    lines.join("\n") + ":\n"
}

/// Compares the cells of several rows, each under its name, with a snapshot.
fn check<R: Row>(snapshot: &str, rows: &[(&str, R)]) {
    let tables: Vec<_> = rows.iter().map(|(name, row)| format!("## {name}\n\n{}", table(*row))).collect();
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!(snapshot, tables.join("\n"));
    });
}

fn walk(row: impl Row + std::fmt::Debug) {
    for column in row.columns() {
        let cell = format!("{row:?}, {} {}", column.family(), column.name());
        let walked = catch_unwind(AssertUnwindSafe(|| in_virtual_time(row.walk(&column))));
        assert!(walked.is_ok(), "in the cell {cell}");
    }
}

#[test]
fn every_cell_of_the_client_keeps_the_invariants() {
    client::rows().chain(api::client_rows()).for_each(walk);
}

#[test]
fn every_cell_of_the_daemon_keeps_the_invariants() {
    daemon::rows().chain(api::daemon_rows()).for_each(walk);
}

/// Asserts that each of these quirks keeps a cell of a row from keeping the invariants.
fn ends_badly(row: impl Row + std::fmt::Debug, quirks: &[Quirk]) {
    for quirk in quirks {
        let walked = catch_unwind(AssertUnwindSafe(|| walk(row.broken_by(*quirk))));
        assert!(walked.is_err(), "the invariants hold although {quirk:?} breaks {}", quirk.rule());
    }
}

#[test]
fn the_invariants_can_fail() {
    use client::{At, Mode, row};
    let quirks = [Quirk::ConnectedOnResume, Quirk::FinishesCallsBeforeClosing, Quirk::HidesNegotiating];
    ends_badly(row(Mode::Account, At::Paused), &quirks);
    ends_badly(row(Mode::Account, At::Accept), &[Quirk::ClosesOnlyFromSession]);
    ends_badly(daemon::row(daemon::At::Offline, true), &[Quirk::ClosesOnlyWhenOnline]);
}

/// Asserts that each of these quirks changes the table of a row; one that keeps a cell from coming about changes it too.
fn sees<R: Row>(rows: &[(&str, R)], quirks: &[Quirk]) {
    let right: Vec<_> = rows.iter().map(|(_, row)| table(*row)).collect();
    let changes = |quirk: &&Quirk| {
        rows.iter().zip(&right).any(|((_, row), right)| {
            let wrong = catch_unwind(AssertUnwindSafe(|| table(row.broken_by(**quirk))));
            wrong.map_or(true, |wrong| wrong != *right)
        })
    };
    let unseen: Vec<_> = quirks.iter().filter(|quirk| !changes(quirk)).collect();
    assert!(unseen.is_empty(), "the table is the same with each of {unseen:?}");
}
