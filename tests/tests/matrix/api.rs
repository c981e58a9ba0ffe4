//! Every answer of the API and of a relay's upgrade, in each mode, to first and to later attempts: CLI-02, CLI-05, CLI-06, CLI-07, DMN-01.

use sideband_protocol::quirks::Quirk;

use crate::{
    check,
    client::{Before, Mode, Row, asking, dialling, never_retrying},
    daemon, sees,
};

const ACCOUNT_API: &[(&str, Row)] = &[
    ("the first attempt", asking(Mode::Account, Before::First)),
    ("the attempt after a failed one", asking(Mode::Account, Before::Failed)),
    ("the attempt after a lost session", asking(Mode::Account, Before::Session)),
    ("the last attempt", asking(Mode::Account, Before::Exhausting)),
];

const CODE_API: &[(&str, Row)] = &[
    ("the first attempt", asking(Mode::QuickConnect, Before::First)),
    ("the attempt after a 500", asking(Mode::QuickConnect, Before::Failed)),
    ("the last attempt", asking(Mode::QuickConnect, Before::Exhausting)),
];

const ACCOUNT_UPGRADE: &[(&str, Row)] = &[
    ("the first attempt", dialling(Mode::Account, Before::First)),
    ("the attempt after a 401", dialling(Mode::Account, Before::Refused)),
    ("the attempt after a 401 and a lost session", dialling(Mode::Account, Before::RefusedAndSession)),
    ("the last attempt", dialling(Mode::Account, Before::Exhausting)),
];

const CODE_UPGRADE: &[(&str, Row)] = &[
    ("the first attempt", dialling(Mode::QuickConnect, Before::First)),
    ("the attempt after a 500", dialling(Mode::QuickConnect, Before::Failed)),
];

const NEVER: &[(&str, Row)] = &[
    ("account, waiting for the API", never_retrying(asking(Mode::Account, Before::First))),
    ("account, dialling", never_retrying(dialling(Mode::Account, Before::First))),
    ("Quick Connect, waiting for the API", never_retrying(asking(Mode::QuickConnect, Before::First))),
    ("Quick Connect, dialling", never_retrying(dialling(Mode::QuickConnect, Before::First))),
];

const DAEMON_API: &[(&str, daemon::Row)] = &[
    ("the first attempt", daemon::asking(daemon::Before::First)),
    ("the attempt after a failed one", daemon::asking(daemon::Before::Failed)),
    ("the attempt after a lost socket, a session is held", daemon::asking(daemon::Before::Session)),
];

const DAEMON_UPGRADE: &[(&str, daemon::Row)] = &[
    ("the first attempt", daemon::dialling(daemon::Before::First)),
    ("the attempt after a failed one", daemon::dialling(daemon::Before::Failed)),
    ("the attempt after a lost socket, a session is held", daemon::dialling(daemon::Before::Session)),
];

pub(crate) fn client_rows() -> impl Iterator<Item = Row> + Clone {
    [ACCOUNT_API, CODE_API, ACCOUNT_UPGRADE, CODE_UPGRADE, NEVER].into_iter().flatten().map(|(_, row)| *row)
}

pub(crate) fn daemon_rows() -> impl Iterator<Item = daemon::Row> + Clone {
    [DAEMON_API, DAEMON_UPGRADE].into_iter().flatten().map(|(_, row)| *row)
}

#[test]
fn account_api_answers() {
    check("account_api_answers", ACCOUNT_API);
}

#[test]
fn code_api_answers() {
    check("code_api_answers", CODE_API);
}

#[test]
fn account_upgrade_answers() {
    check("account_upgrade_answers", ACCOUNT_UPGRADE);
}

#[test]
fn code_upgrade_answers() {
    check("code_upgrade_answers", CODE_UPGRADE);
}

#[test]
fn answers_in_retry_mode_never() {
    check("answers_in_retry_mode_never", NEVER);
}

#[test]
fn daemon_api_answers() {
    check("daemon_api_answers", DAEMON_API);
}

#[test]
fn daemon_upgrade_answers() {
    check("daemon_upgrade_answers", DAEMON_UPGRADE);
}

#[test]
fn rows_of_the_client_s_api_change_with_its_rules() {
    let quirks = [
        Quirk::HidesBurnedCode,
        Quirk::RetriesAtOnce,
        Quirk::NeverGivesUp,
        Quirk::RetriesFatal,
        Quirk::GivesUpOnRetried,
        Quirk::RetriesConflictOfCode,
        Quirk::IgnoresRetryAfter,
        Quirk::WaitsForApiForEver,
        Quirk::HidesApiError,
    ];
    sees(CODE_API, &quirks);
}

#[test]
fn rows_of_the_client_s_upgrade_change_with_its_rules() {
    let quirks = [Quirk::RetriesUnauthorizedForEver, Quirk::RemembersUnauthorized, Quirk::WaitsForRelayForEver];
    sees(ACCOUNT_UPGRADE, &quirks);
}

#[test]
fn rows_of_the_daemon_s_api_change_with_its_rules() {
    let quirks = [
        Quirk::DaemonEndsOnServerErrors,
        Quirk::DaemonRetriesRefusals,
        Quirk::DaemonRetriesAtOnce,
        Quirk::DaemonIgnoresRetryAfter,
        Quirk::DaemonWaitsForApi,
    ];
    sees(DAEMON_API, &quirks);
}

#[test]
fn rows_of_the_daemon_s_upgrade_change_with_its_rules() {
    sees(DAEMON_UPGRADE, &[Quirk::DaemonEndsOnRefusedUpgrade, Quirk::DaemonWaitsForDial]);
}

#[test]
fn rows_in_retry_mode_never_change_with_its_rule() {
    sees(NEVER, &[Quirk::RetriesInModeNever]);
}
