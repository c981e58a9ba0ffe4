//! The daemon's rows: DMN-01, DMN-05, DMN-09 to DMN-12, DMN-16 in every state, with sessions that can be resumed and without.

mod cell;
mod life;

use std::time::Duration;

use sideband_protocol::quirks::{Quirk, Quirks};

use self::cell::Cell;
use crate::{
    check,
    columns::{Column, Of},
    sees,
};

/// Where the daemon is when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The API is asked for a presence token.
    Token,
    Dial,
    /// Online, without a session.
    Alone,
    /// Online, with a session whose introduction is awaited.
    Negotiating,
    /// Online, with an active session.
    Active,
    /// As `Active`, for longer than a connection takes to count as settled (DMN-04).
    Settled,
    /// Offline: the next attempt is awaited. A session that was active is held, if it can be.
    Offline,
    /// As `Offline`, with a session that was cut before its introduction.
    OfflineEarly,
    Ended,
}

/// What came before the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing.
    First,
    /// An attempt that the API answered with 500.
    Failed,
    /// A socket that was cut, with a session on it.
    Session,
}

/// A daemon in a state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    at: At,
    before: Before,
    resumable: bool,
    /// Whether the columns are the answers to what is under way, or everything else.
    answers: bool,
    quirks: Quirks,
}

/// A daemon on its first attempt, or in the state that follows it.
pub(crate) const fn row(at: At, resumable: bool) -> Row {
    Row { at, before: Before::First, resumable, answers: false, quirks: Quirks::NONE }
}

/// The answers of the API.
pub(crate) const fn asking(before: Before) -> Row {
    Row { before, answers: true, ..row(At::Token, true) }
}

/// The answers of the relay.
pub(crate) const fn dialling(before: Before) -> Row {
    Row { before, answers: true, ..row(At::Dial, true) }
}

/// The delay before the first retry.
fn initial(row: Row) -> Duration {
    // The delay after a clean close, 0 to 2 s, can then be told from the one after any other.
    Duration::from_secs(if row.at == At::Settled { 4 } else { 1 })
}

const STATES: &[At] = &[
    At::Token,
    At::Dial,
    At::Alone,
    At::Negotiating,
    At::Active,
    At::Settled,
    At::Offline,
    At::OfflineEarly,
    At::Ended,
];

/// Every state. The answers of API and relay stand in [`crate::api`].
pub(crate) fn rows() -> impl Iterator<Item = Row> + Clone {
    [true, false].into_iter().flat_map(|resumable| STATES.iter().map(move |at| row(*at, resumable)))
}

impl crate::Row for Row {
    fn broken_by(self, quirk: Quirk) -> Self {
        Self { quirks: Quirks::only(quirk), ..self }
    }

    fn columns(self) -> Vec<Column> {
        if self.answers {
            return match self.at {
                At::Dial => Column::upgrades(),
                _ => Column::api_answers(),
            };
        }
        let mut columns = Column::of_the_user();
        match self.at {
            At::Token | At::Dial | At::Ended => {}
            At::Settled => columns = Column::of_the_socket(),
            At::Offline | At::OfflineEarly => {
                columns.extend([Column::Back { resumable: true }, Column::Back { resumable: false }])
            }
            At::Alone | At::Negotiating | At::Active => {
                if self.at == At::Negotiating {
                    columns.push(Column::Nothing(Duration::from_secs(30)));
                }
                columns.extend(Column::of_the_socket());
                columns.extend(Column::controls(Of::Zero));
                columns.extend(Column::controls(Of::Unknown));
                if self.at != At::Alone {
                    columns.extend(Column::controls(Of::Own));
                }
            }
        }
        columns
    }

    async fn record(self, column: &Column) -> Vec<String> {
        let mut cell = Cell::reach(self).await;
        cell.apply(column).await;
        cell.events().iter().map(|event| column.anonymous(event)).collect()
    }

    async fn walk(self, column: &Column) {
        let mut cell = Cell::reach(self).await;
        cell.apply(column).await;
        cell.recover().await;
        cell.end().await;
    }
}

#[test]
fn resumable_without_a_socket() {
    check(
        "resumable_without_a_socket",
        &[
            ("getting a token", row(At::Token, true)),
            ("dialling", row(At::Dial, true)),
            ("offline, after an active session", row(At::Offline, true)),
            ("offline, after a session before its introduction", row(At::OfflineEarly, true)),
            ("ended", row(At::Ended, true)),
        ],
    );
}

#[test]
fn resumable_online_without_a_session() {
    check("resumable_online_without_a_session", &[("online, without a session", row(At::Alone, true))]);
}

#[test]
fn resumable_online_negotiating() {
    check("resumable_online_negotiating", &[("online, a session before its introduction", row(At::Negotiating, true))]);
}

#[test]
fn resumable_online_active() {
    check(
        "resumable_online_active",
        &[
            ("online, an active session", row(At::Active, true)),
            ("online for 6 s, an active session", row(At::Settled, true)),
        ],
    );
}

#[test]
fn not_resumable_without_a_socket() {
    check(
        "not_resumable_without_a_socket",
        &[
            ("getting a token", row(At::Token, false)),
            ("dialling", row(At::Dial, false)),
            ("offline, after an active session", row(At::Offline, false)),
            ("offline, after a session before its introduction", row(At::OfflineEarly, false)),
            ("ended", row(At::Ended, false)),
        ],
    );
}

#[test]
fn not_resumable_online_without_a_session() {
    check("not_resumable_online_without_a_session", &[("online, without a session", row(At::Alone, false))]);
}

#[test]
fn not_resumable_online_negotiating() {
    check(
        "not_resumable_online_negotiating",
        &[("online, a session before its introduction", row(At::Negotiating, false))],
    );
}

#[test]
fn not_resumable_online_active() {
    check(
        "not_resumable_online_active",
        &[
            ("online, an active session", row(At::Active, false)),
            ("online for 6 s, an active session", row(At::Settled, false)),
        ],
    );
}

#[test]
fn rows_online_change_with_its_rules() {
    let quirks = [
        Quirk::DuelsForItsPlace,
        Quirk::ReconnectsWhenRateLimited,
        Quirk::IgnoresConnectionControl,
        Quirk::ReconnectsAtOnceAfterControl,
        Quirk::KeepsEndedSessions,
        Quirk::KeepsRefusedSessions,
        Quirk::EndsCallsOnPause,
        Quirk::NeverResumes,
        Quirk::LeavesWithoutSignal,
        Quirk::LeavesAsGoingAway,
    ];
    sees(&[("active", row(At::Active, true))], &quirks);
    sees(&[("settled", row(At::Settled, true))], &[Quirk::TakesCleanCloseForFault]);
    sees(&[("active", row(At::Active, false))], &[Quirk::ResumesWithoutScope]);
}

#[test]
fn rows_offline_change_with_its_rules() {
    let quirks = [
        Quirk::ClosesOnlyWhenOnline,
        Quirk::ForgetsReady,
        Quirk::SendsBeforeReady,
        Quirk::LosesHeldFrames,
        Quirk::HoldsNewCalls,
    ];
    sees(&[("offline", row(At::Offline, true))], &quirks);
    let quirks = [Quirk::ResumesHalfMadeSessions, Quirk::ForgetsWhatEndedAway];
    sees(&[("offline", row(At::OfflineEarly, true))], &quirks);
}
