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
mod ending;
mod record;

use std::{collections::BTreeMap, fmt::Write as _, future::Future, time::Duration};

use columns::Column;
use sideband_protocol::quirks::Quirk;
use sideband_tests::failure::{Failure, catch, on_the_way};

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
        match tokio::time::timeout(day, future).await {
            Ok(value) => value,
            // Where it hangs is not said, so it is no invariant's.
            Err(_) => on_the_way(async { panic!("the cell does not end") }).await,
        }
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

/// The cells of a row that do not keep the invariants, and what each says.
fn broken(row: impl Row + std::fmt::Debug) -> Vec<(String, Failure)> {
    let columns = row.columns();
    assert!(!columns.is_empty(), "nothing happens in {row:?}");
    let walked = columns.iter().filter_map(|column| {
        let failure = catch(|| in_virtual_time(row.walk(column))).err()?;
        Some((format!("{row:?}, {} {}", column.family(), column.name()), failure))
    });
    walked.collect()
}

fn walk(row: impl Row + std::fmt::Debug) {
    if let Some((cell, failure)) = broken(row).first() {
        panic!("in the cell {cell}: {failure}");
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

/// Asserts that a check fails, and says this.
fn is_refused(words: &str, check: impl FnOnce()) {
    let failure = catch(check).expect_err(words);
    assert!(failure.is_of("tests/matrix") && failure.text().contains(words), "{failure}");
}

/// Asserts that this quirk keeps a cell of a row from keeping this invariant.
fn ends_badly(row: impl Row + std::fmt::Debug, quirk: Quirk, words: &str) {
    let broken = broken(row.broken_by(quirk));
    let seen = broken.iter().any(|(_, failure)| failure.is_of("tests/matrix") && failure.text().contains(words));
    assert!(seen, "{quirk:?} is not seen to break “{words}” but {broken:?}");
}

/// Walks look at the invariants: a broken rule is seen by the one that it breaks. What each takes for wrong is shown beside it.
#[test]
fn the_invariants_can_fail() {
    use client::{At, Mode, row};
    ends_badly(row(Mode::Account, At::Paused), Quirk::ConnectedOnResume, "connected is told once");
    ends_badly(row(Mode::Account, At::Paused), Quirk::FinishesCallsBeforeClosing, LATE);
    ends_badly(row(Mode::Account, At::Paused), Quirk::HidesNegotiating, "a state that cannot follow");
    ends_badly(row(Mode::Account, At::Accept), Quirk::ClosesOnlyFromSession, LATE);
    ends_badly(row(Mode::Account, At::Active), Quirk::ForgetsHandlers, "subscriptions survive");
    ends_badly(row(Mode::Account, At::Active), Quirk::ClosesTwice, "closed is final");
    ends_badly(
        client::dialling(Mode::Account, client::Before::First),
        Quirk::WaitsForRelayForEver,
        "a session follows",
    );
    ends_badly(daemon::row(daemon::At::Offline, true), Quirk::ClosesOnlyWhenOnline, LATE);
    ends_badly(daemon::asking(daemon::Before::First), Quirk::DaemonWaitsForApi, "the socket comes back");
}

/// Asserts that each of these quirks changes what is recorded in a cell of a row. A cell that does not come about shows nothing.
fn sees<R: Row>(rows: &[(&str, R)], quirks: &[Quirk]) {
    let cells: Vec<_> =
        rows.iter().flat_map(|(_, row)| row.columns().into_iter().map(|column| (*row, column))).collect();
    let right: Vec<_> = cells.iter().map(|(row, column)| in_virtual_time(row.record(column))).collect();
    let changes = |quirk: &&Quirk| {
        cells.iter().zip(&right).any(|((row, column), right)| {
            let wrong = catch(|| in_virtual_time(row.broken_by(**quirk).record(column)));
            wrong.is_ok_and(|wrong| wrong != *right)
        })
    };
    let unseen: Vec<_> = quirks.iter().filter(|quirk| !changes(quirk)).collect();
    assert!(unseen.is_empty(), "the table is the same with each of {unseen:?}");
}
