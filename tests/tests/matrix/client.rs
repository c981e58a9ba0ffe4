//! The client's rows: CLI-01, CLI-02, CLI-05, CLI-09, CLI-11, CLI-12, CLI-14 in every state that its user can see.

mod cell;
mod life;

use std::time::Duration;

use sideband_protocol::{
    quirks::{Quirk, Quirks},
    wire::ControlCode,
};

use self::cell::Cell;
use crate::{
    check,
    columns::{Column, Of},
    sees,
};

/// How the client gets its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Account,
    QuickConnect,
}

/// Where it is when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// Connecting: the user's token source is asked.
    Token,
    /// Connecting: the API is asked.
    Api,
    /// Connecting: the relay is dialled.
    Dial,
    /// Negotiating: the Accept is awaited.
    Accept,
    /// Negotiating: the user is asked.
    Trust,
    /// Negotiating: the daemon's introduction is awaited.
    Introduction,
    Active,
    Paused,
    /// Paused, and told that the daemon is back.
    Pending,
    /// Reconnecting: the next attempt is awaited.
    Delay,
    Closed,
}

impl At {
    /// Whether a socket to the relay is open.
    const fn has_a_socket(self) -> bool {
        matches!(self, Self::Accept | Self::Trust | Self::Introduction | Self::Active | Self::Paused | Self::Pending)
    }
}

/// What came before the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing.
    First,
    /// An attempt that the API answered with 500.
    Failed,
    /// An attempt that the relay answered with 401.
    Refused,
    /// A session that was cut.
    Session,
    /// An attempt that the relay answered with 401, then a session that was cut.
    RefusedAndSession,
    /// As many failed attempts as the policy retries.
    Exhausting,
}

/// A client in a state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) mode: Mode,
    pub(crate) at: At,
    pub(crate) before: Before,
    /// Whether the columns are the answers to what is under way, or everything else.
    pub(crate) answers: bool,
    /// Whether calls fail where they would wait (CLI-09).
    fails: bool,
    /// Whether the first failure closes (CLI-04).
    never_retries: bool,
    quirks: Quirks,
}

/// A client on its first attempt.
pub(crate) const fn row(mode: Mode, at: At) -> Row {
    Row { mode, at, before: Before::First, answers: false, fails: false, never_retries: false, quirks: Quirks::NONE }
}

/// A client under `fail`.
const fn failing(at: At) -> Row {
    Row { fails: true, ..row(Mode::Account, at) }
}

/// A client whose retry mode is `never`.
pub(crate) const fn never_retrying(row: Row) -> Row {
    Row { never_retries: true, ..row }
}

/// The answers of the API.
pub(crate) const fn asking(mode: Mode, before: Before) -> Row {
    Row { before, answers: true, ..row(mode, At::Api) }
}

/// The answers of the relay.
pub(crate) const fn dialling(mode: Mode, before: Before) -> Row {
    Row { before, answers: true, ..row(mode, At::Dial) }
}

const STATES: &[At] = &[
    At::Token,
    At::Api,
    At::Dial,
    At::Accept,
    At::Trust,
    At::Introduction,
    At::Active,
    At::Paused,
    At::Pending,
    At::Delay,
    At::Closed,
];

/// Every state; a code needs no access token. The answers of API and relay stand in [`crate::api`].
pub(crate) fn rows() -> impl Iterator<Item = Row> + Clone {
    let modes = [Mode::Account, Mode::QuickConnect].into_iter();
    let rows = modes.flat_map(|mode| STATES.iter().map(move |at| row(mode, *at)));
    let rows = rows.filter(|row| (row.mode, row.at) != (Mode::QuickConnect, At::Token));
    rows.chain(STATES.iter().map(|at| failing(*at)))
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
        if self.fails {
            return vec![Column::Nothing(Duration::ZERO)];
        }
        let mut columns = Column::of_the_user();
        match self.at {
            At::Token => columns.extend([Column::Token, Column::NoToken, Column::Nothing(Duration::from_secs(15))]),
            At::Api | At::Dial | At::Delay | At::Closed => {}
            At::Accept | At::Introduction => columns.push(Column::Nothing(Duration::from_secs(30))),
            At::Trust => {
                columns.extend([Column::Trust(true), Column::Trust(false), Column::Nothing(Duration::from_secs(30))]);
            }
            At::Active | At::Paused | At::Pending => {}
        }
        if self.at.has_a_socket() {
            columns.extend(Column::of_the_socket());
            columns.extend(Column::controls(Of::Scope));
            columns.push(Column::Control(Ok(ControlCode::SessionPaused), Of::Unknown));
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
fn account_without_a_socket() {
    check(
        "account_without_a_socket",
        &[
            ("connecting, waiting for a token", row(Mode::Account, At::Token)),
            ("connecting, waiting for the API", row(Mode::Account, At::Api)),
            ("connecting, dialling", row(Mode::Account, At::Dial)),
            ("reconnecting", row(Mode::Account, At::Delay)),
            ("closed", row(Mode::Account, At::Closed)),
        ],
    );
}

#[test]
fn account_before_the_accept() {
    check("account_before_the_accept", &[("negotiating, before the Accept", row(Mode::Account, At::Accept))]);
}

#[test]
fn account_while_trust_is_asked() {
    check("account_while_trust_is_asked", &[("negotiating, while trust is asked", row(Mode::Account, At::Trust))]);
}

#[test]
fn account_before_the_introduction() {
    let rows = &[("negotiating, before the introduction", row(Mode::Account, At::Introduction))];
    check("account_before_the_introduction", rows);
}

#[test]
fn account_calls_under_fail() {
    check(
        "account_calls_under_fail",
        &[
            ("connecting, waiting for a token", failing(At::Token)),
            ("connecting, waiting for the API", failing(At::Api)),
            ("connecting, dialling", failing(At::Dial)),
            ("negotiating, before the Accept", failing(At::Accept)),
            ("negotiating, while trust is asked", failing(At::Trust)),
            ("negotiating, before the introduction", failing(At::Introduction)),
            ("active", failing(At::Active)),
            ("paused", failing(At::Paused)),
            ("paused, pending", failing(At::Pending)),
            ("reconnecting", failing(At::Delay)),
            ("closed", failing(At::Closed)),
        ],
    );
}

#[test]
fn account_active() {
    check("account_active", &[("active", row(Mode::Account, At::Active))]);
}

#[test]
fn account_paused() {
    check("account_paused", &[("paused", row(Mode::Account, At::Paused))]);
}

#[test]
fn account_pending() {
    check("account_pending", &[("paused, pending", row(Mode::Account, At::Pending))]);
}

#[test]
fn code_without_a_socket() {
    check(
        "code_without_a_socket",
        &[
            ("connecting, waiting for the API", row(Mode::QuickConnect, At::Api)),
            ("connecting, dialling", row(Mode::QuickConnect, At::Dial)),
            ("reconnecting", row(Mode::QuickConnect, At::Delay)),
            ("closed", row(Mode::QuickConnect, At::Closed)),
        ],
    );
}

#[test]
fn code_before_the_accept() {
    check("code_before_the_accept", &[("negotiating, before the Accept", row(Mode::QuickConnect, At::Accept))]);
}

#[test]
fn code_while_trust_is_asked() {
    check("code_while_trust_is_asked", &[("negotiating, while trust is asked", row(Mode::QuickConnect, At::Trust))]);
}

#[test]
fn code_before_the_introduction() {
    let rows = &[("negotiating, before the introduction", row(Mode::QuickConnect, At::Introduction))];
    check("code_before_the_introduction", rows);
}

#[test]
fn code_active() {
    check("code_active", &[("active", row(Mode::QuickConnect, At::Active))]);
}

#[test]
fn code_paused() {
    check("code_paused", &[("paused", row(Mode::QuickConnect, At::Paused))]);
}

#[test]
fn code_pending() {
    check("code_pending", &[("paused, pending", row(Mode::QuickConnect, At::Pending))]);
}

#[test]
fn rows_before_a_session_change_with_its_rules() {
    let quirks = [Quirk::BearsControlBeforeActive, Quirk::ClosesOnlyFromSession];
    sees(&[("before the Accept", row(Mode::Account, At::Accept))], &quirks);
    sees(&[("while trust is asked", row(Mode::Account, At::Trust))], &[Quirk::AsksAgain]);
}

#[test]
fn rows_of_a_session_change_with_its_rules() {
    let quirks = [
        Quirk::CallsOutliveSocket,
        Quirk::LeavesSocketOnPause,
        Quirk::FailsCallsOnPause,
        Quirk::EndsOnRateLimit,
        Quirk::KeepsExpiredSession,
        Quirk::KeepsEndedSession,
        Quirk::ReconnectsOnPending,
        Quirk::FinishesCallsBeforeClosing,
        Quirk::ClosesAsDisconnected,
        Quirk::LeavesSilently,
    ];
    sees(&[("active", row(Mode::Account, At::Active))], &quirks);
    let quirks = [Quirk::SendsWhilePaused, Quirk::StartsOverOnResume, Quirk::ConnectedOnResume];
    sees(&[("paused", row(Mode::Account, At::Paused))], &quirks);
    sees(&[("active", row(Mode::QuickConnect, At::Active))], &[Quirk::RedeemsAgain]);
    let quirks = [Quirk::BuffersUnderFail, Quirk::ConfusesPausedWithLost];
    sees(&[("dialling", failing(At::Dial)), ("paused", failing(At::Paused))], &quirks);
}
