//! Rules that cannot be seen from outside, or that have more tests than the witnesses.

/// A test that is no witness.
pub(crate) struct Elsewhere {
    /// The rules that it is about.
    pub(crate) rules: &'static [&'static str],
    /// Its file, below the workspace.
    pub(crate) file: &'static str,
    /// Its function.
    pub(crate) test: &'static str,
}

/// Rules that nobody outside can see broken, and why nothing breaks them here.
pub(crate) const INTERNAL: &[(&str, &str)] = &[
    ("API-07", "what is stored and how it is compared shows in no answer; the store's own bytes are searched"),
    ("TOK-14", "logs are not part of the protocol; all that is logged and shown is searched for tokens"),
    ("REL-25", "memory is measured, with figures, and no peer can tell"),
];

const ALL_TOKENS: &[&str] = &[
    "TOK-01", "TOK-02", "TOK-03", "TOK-04", "TOK-05", "TOK-06", "TOK-07", "TOK-08", "TOK-09", "TOK-10", "TOK-11",
    "TOK-13",
];

macro_rules! elsewhere {
    ($($rules:expr => $file:literal $test:ident;)*) => {
        pub(crate) const ELSEWHERE: &[Elsewhere] =
            &[$(Elsewhere { rules: $rules, file: $file, test: stringify!($test) }),*];
    };
}

elsewhere! {
    ALL_TOKENS => "tests/tests/e2e_refusals.rs" tok_01_to_11_and_13_every_token_of_the_vectors_both_ways;
    ALL_TOKENS => "protocol/src/token/tests/vectors.rs" tok_01_to_11_every_vector;
    &["TOK-12"] => "tests/tests/e2e_refusals.rs" tok_12_a_connection_outlives_its_token;
    &["TOK-14"] => "protocol/src/token/tests/check.rs" tok_14_debug_shows_no_claim;
    &["REL-25"] => "tests/tests/relay_memory.rs" rel_25_idle_connections_and_paused_sessions_are_small_and_cannot_be_made_to_grow;
    &["REL-25"] => "tests/tests/relay_memory.rs" rel_25_a_message_without_end_is_bounded_and_swept;
    &["TOK-14"] => "relay-sim/tests/relay/upgrade.rs" tok_13_a_refused_token_gets_401_and_is_not_repeated;
    &["API-07"] => "api-sim/src/tests/store.rs" api_07_nothing_stored_shows_a_secret;
    &["API-07"] => "api-sim/src/tests/file.rs" api_07_files_are_private_and_hold_no_credential;
    &["API-07"] => "protocol/src/api/tests.rs" api_07_secrets_match_only_if_they_are_the_same;
    &["API-05"] => "tests/tests/e2e_quick_connect.rs" api_05_of_many_redeems_at_once_exactly_one_succeeds;
    &["API-05"] => "api-sim/src/tests/quick_connect.rs" api_05_of_many_redeems_at_once_exactly_one_succeeds_on_a_file;
    &["KEY-02", "KEY-04"] => "tests/tests/e2e_rotation.rs" key_02_a_rotation_under_load_loses_none_of_50_daemons;
    &["KEY-04"] => "tests/tests/e2e_keys.rs" key_04_after_a_hard_rotation_a_connected_daemon_comes_back_with_its_sessions;
}
