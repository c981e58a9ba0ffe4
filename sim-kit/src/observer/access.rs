//! Who comes with what: tokens and session ids that come again, codes that are redeemed again, Retry-After that is not waited for.
//!
//! Driven by events; after each, [`AccessObserver::poll_mark`] gives what was found.
//!
//! # What is proof
//!
//! | rule | who is one endpoint |
//! |---|---|
//! | CLI-01, CLI-02 (its token again) | a session id: one answer of the API has it, and one endpoint got that answer |
//! | DMN-03 | a presence token, likewise |
//! | CLI-02 (redeemed again) | a code on one HTTP connection, once its session has reached the relay: its answer was read there |
//! | CLI-06 | nobody: more asked than [`MOST_SHARING`] endpoints that wait can |
//!
//! A credential alone is nobody: a page is reloaded, a command is run again, a daemon is started again, and two processes share a token.
//! None of them knows what the other was told. A connection that is kept alive belongs to one process, if no browser or proxy is behind
//! it ([`EventKind::Request`] has no number then). What clients do on different connections is never held against each other.
//!
//! A process may run several clients that share its connections, so a connection is not one endpoint either.
//!
//! * CLI-06: each answer with a Retry-After leaves one endpoint that waits. Who asks is one whose wait is over, or else a newcomer. Those who wait
//!   at one time are different ones, so with at most [`MOST_SHARING`] endpoints no more than that ever wait: one more that asks meanwhile shows one
//!   that did not wait. A daemon is looked for by its API key on all connections, since not every daemon keeps one alive; one that is started
//!   again is a newcomer. The price: who starts more clients than that, of one user for one daemon on one connection, or its daemon more often than
//!   that, within one wait, is taken for one that does not wait.
//! * CLI-02: of two clients by one code the second may not know of the first, and its one redeem looks like the first one's second. It gets an answer
//!   that is fatal and ends. So the first such answer on the connection is not held against anybody, each further one is ([`MOST_REDEEMING`]);
//!   what may be tried again (429, 5xx) does not count. It does not matter what became of the session: it may live, be closed or be lost.

use std::collections::VecDeque;

use sideband_protocol::SessionId;

use super::{Mark, MarkFor, Rule, recent::Recent};
use crate::event::{Event, EventKind, Role};

/// Longest wait that binds, in milliseconds (CLI-06).
const LONGEST_WAIT_MS: u64 = 120_000;
/// How much earlier than its end a wait may end, in milliseconds: clocks tick in whole ones.
const EARLY_MS: u64 = 50;
/// How long session ids are remembered, in milliseconds: longer than a client's token may live (TOK-05, TOK-09).
const SESSION_LIFE_MS: u64 = 400_000;
/// How long presence tokens are remembered, in milliseconds: longer than they live.
const TOKEN_LIFE_MS: u64 = 3_700_000;
/// How long codes are remembered, in milliseconds: longer than they live (API-03).
const CODE_LIFE_MS: u64 = 3_700_000;
/// How long it is remembered who waits, in milliseconds: longer than a wait binds.
const GROUP_LIFE_MS: u64 = 180_000;
/// Most clients of one user (or by one code) and one daemon on one HTTP connection, and most processes of one daemon, that are taken for different
/// ones while they wait (CLI-06). More of them that all start within one wait are taken for one that does not wait.
pub const MOST_SHARING: usize = 16;
/// Most clients by one code on one HTTP connection that are taken for different ones (CLI-02).
pub const MOST_REDEEMING: u32 = 2;
/// Most of each kind that are remembered; the oldest go first.
pub const MOST_REMEMBERED: usize = 65_536;

#[derive(Debug, Default)]
struct Known {
    /// Among whom its endpoint is.
    group: Option<String>,
    code: Option<String>,
    upgrades: u32,
}

#[derive(Debug, Default)]
struct Token {
    upgrades: u32,
    group: Option<String>,
}

#[derive(Debug, Default)]
struct Code {
    /// The HTTP connection on which it was redeemed.
    http: Option<u64>,
    /// When its session first came to the relay.
    reached: Option<u64>,
    /// Answers on that connection, after that, that end whoever redeemed.
    ended: u32,
}

/// When the waits end of those who were told to wait and have not come since; at most [`MOST_SHARING`].
#[derive(Debug, Default)]
struct Waits(Vec<u64>);

impl Waits {
    /// Somebody comes, at `began`, and is told to wait until `told`. If nobody who waits can have come, for how long the next one would still
    /// have waited.
    fn come(&mut self, began: u64, told: Option<u64>) -> Option<u64> {
        let over = |until: u64| until <= began.saturating_add(EARLY_MS);
        // Answers are not told in the order in which requests began: what is over early is left to those that began early.
        let latest = (0..self.0.len()).filter(|&place| over(self.0[place])).max_by_key(|&place| self.0[place]);
        if let Some(place) = latest {
            self.0.swap_remove(place);
        } else if self.0.len() >= MOST_SHARING {
            return self.0.iter().min().map(|first| first.saturating_sub(began));
        }
        self.0.extend(told);
        None
    }
}

/// Those who cannot be told apart, and how long they were told to wait.
#[derive(Debug, Default)]
struct Group {
    /// By the API, before they ask the same again.
    ask: Waits,
    /// By the relay, before they come again.
    dial: Waits,
    early: u32,
}

/// Judges with what endpoints come to API and relay.
#[derive(Debug)]
pub struct AccessObserver {
    sessions: Recent<SessionId, Known>,
    tokens: Recent<String, Token>,
    codes: Recent<String, Code>,
    groups: Recent<String, Group>,
    marks: VecDeque<MarkFor>,
}

impl Default for AccessObserver {
    fn default() -> Self {
        Self {
            sessions: Recent::new(SESSION_LIFE_MS, MOST_REMEMBERED),
            tokens: Recent::new(TOKEN_LIFE_MS, MOST_REMEMBERED),
            codes: Recent::new(CODE_LIFE_MS, MOST_REMEMBERED),
            groups: Recent::new(GROUP_LIFE_MS, MOST_REMEMBERED),
            marks: VecDeque::new(),
        }
    }
}

/// One request, as its event tells it.
struct Request<'a> {
    at: u64,
    began: u64,
    procedure: &'a str,
    status: u16,
    caller: Option<&'a str>,
    code: Option<&'a str>,
    token: Option<&'a str>,
    http: Option<u64>,
    wait: Option<u64>,
}

/// One upgrade, as its event tells it.
struct Upgrade<'a> {
    at: u64,
    connection: Option<u64>,
    role: Role,
    token: Option<&'a str>,
    wait: Option<u64>,
}

impl AccessObserver {
    /// Nobody has come yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next thing that was found, and about which daemon.
    pub fn poll_mark(&mut self) -> Option<MarkFor> {
        self.marks.pop_front()
    }

    /// Forgets what is too old to matter.
    pub fn tick(&mut self, at: u64) {
        self.sessions.forget(at);
        self.tokens.forget(at);
        self.codes.forget(at);
        self.groups.forget(at);
    }

    /// How many things are remembered.
    pub fn remembered(&self) -> usize {
        self.sessions.len() + self.tokens.len() + self.codes.len() + self.groups.len()
    }

    /// Something happened.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other events are of no interest here, new ones too")]
    pub fn observe(&mut self, event: &Event) {
        let at = event.at;
        match &event.kind {
            EventKind::Opened { connection, role, token, .. } => {
                let (connection, token) = (Some(*connection), token.as_deref());
                self.upgrade(event, &Upgrade { at, connection, role: *role, token, wait: None });
            }
            EventKind::UpgradeRefused { role: Some(role), token, retry_after_ms, .. } => {
                let (token, wait) = (token.as_deref(), *retry_after_ms);
                self.upgrade(event, &Upgrade { at, connection: None, role: *role, token, wait });
            }
            EventKind::Request { procedure, status, caller, code, token, http, retry_after_ms, took_ms } => {
                let request = Request {
                    at,
                    began: at.saturating_sub(*took_ms),
                    procedure,
                    status: *status,
                    caller: caller.as_deref(),
                    code: code.as_deref(),
                    token: token.as_deref(),
                    http: *http,
                    wait: *retry_after_ms,
                };
                self.request(event, &request);
            }
            _ => {}
        }
    }

    fn mark(&mut self, event: &Event, rule: Rule, party: Role, connection: Option<u64>, times: u32, evidence: String) {
        let mark = Mark { at: event.at, rule, party, connection, session: event.session, evidence, times };
        self.marks.push_back(MarkFor { daemon: event.daemon.clone(), mark });
    }

    // ---- upgrades

    fn upgrade(&mut self, event: &Event, upgrade: &Upgrade<'_>) {
        match upgrade.role {
            Role::Client => self.client_upgrade(event, upgrade),
            Role::Daemon => self.daemon_upgrade(event, upgrade),
        }
    }

    /// CLI-01, CLI-02; and CLI-06 for what the relay asked for.
    fn client_upgrade(&mut self, event: &Event, upgrade: &Upgrade<'_>) {
        let Some(session) = event.session else { return };
        let known = self.sessions.touch(upgrade.at, &session);
        known.upgrades = known.upgrades.saturating_add(1);
        let again = known.upgrades - 1;
        let (group, code) = (known.group.clone(), known.code.clone());
        if again > 0 {
            let rule = if code.is_some() { Rule::Cli02 } else { Rule::Cli01 };
            let evidence = "the session's token came again".to_owned();
            self.mark(event, rule, Role::Client, upgrade.connection, again, evidence);
        }
        if let Some(code) = code.and_then(|code| self.codes.get_mut(&code)) {
            code.reached.get_or_insert(upgrade.at);
        }
        if let Some(group) = group {
            self.dialled(event, upgrade, &group);
        }
    }

    /// DMN-03; and CLI-06 by DMN-13 for what the relay asked for.
    fn daemon_upgrade(&mut self, event: &Event, upgrade: &Upgrade<'_>) {
        let Some(token) = upgrade.token else { return };
        let token = self.tokens.touch(upgrade.at, &token.to_owned());
        let again = token.upgrades;
        token.upgrades = again.saturating_add(1);
        let group = token.group.clone();
        if again > 0 {
            let evidence = "the presence token came again".to_owned();
            self.mark(event, Rule::Dmn03, Role::Daemon, upgrade.connection, again, evidence);
        }
        if let Some(group) = group {
            self.dialled(event, upgrade, &group);
        }
    }

    /// CLI-06: somebody comes to the relay.
    fn dialled(&mut self, event: &Event, upgrade: &Upgrade<'_>, name: &str) {
        let group = self.groups.touch(upgrade.at, &name.to_owned());
        let told = upgrade.wait.map(|wait| until(upgrade.at, wait));
        let Some(before) = group.dial.come(upgrade.at, told) else { return };
        group.early = group.early.saturating_add(1);
        let (times, evidence) = (group.early, early("it came to the relay", before));
        self.mark(event, Rule::Cli06, upgrade.role, upgrade.connection, times, evidence);
    }

    // ---- requests

    fn request(&mut self, event: &Event, request: &Request<'_>) {
        let http = request.http;
        let (role, group) = match (request.procedure, request.caller, request.code) {
            ("relay.createSession", Some(caller), _) => {
                let daemon = event.daemon.as_deref();
                (Role::Client, daemon.zip(http).map(|(daemon, http)| format!("client {caller} of {daemon} on {http}")))
            }
            ("quickConnect.redeem", _, Some(code)) => (Role::Client, http.map(|http| format!("code {code} on {http}"))),
            ("daemon.renewToken", Some(caller), _) => (Role::Daemon, Some(format!("key {caller}"))),
            (_, _, _) => return,
        };
        if let Some(group) = &group {
            self.asked(event, request, role, group);
        }
        if let Some(code) = request.code {
            self.redeemed(event, request, code);
        }
        if let (200, Some(session), Role::Client) = (request.status, event.session, role) {
            let known = self.sessions.touch(request.at, &session);
            known.group = group.clone();
            known.code = request.code.map(str::to_owned);
        }
        if let (200, Some(token), Role::Daemon) = (request.status, request.token, role) {
            self.tokens.touch(request.at, &token.to_owned()).group = group;
        }
    }

    /// CLI-06: somebody asks the API.
    fn asked(&mut self, event: &Event, request: &Request<'_>, role: Role, name: &str) {
        let group = self.groups.touch(request.at, &name.to_owned());
        let told = request.wait.map(|wait| until(request.at, wait));
        let Some(before) = group.ask.come(request.began, told) else { return };
        group.early = group.early.saturating_add(1);
        let (times, evidence) = (group.early, early(request.procedure, before));
        self.mark(event, Rule::Cli06, role, None, times, evidence);
    }

    /// CLI-02.
    fn redeemed(&mut self, event: &Event, request: &Request<'_>, digest: &str) {
        let code = self.codes.touch(request.at, &digest.to_owned());
        let there = request.http.is_some() && code.http == request.http;
        let again = there && code.reached.is_some_and(|reached| reached <= request.began);
        if request.status == 200 {
            code.http = request.http;
        }
        if !again || !ends(request.status) {
            return;
        }
        code.ended = code.ended.saturating_add(1);
        let Some(times) = code.ended.checked_sub(MOST_REDEEMING - 1).filter(|&times| times > 0) else { return };
        let evidence =
            "the code was redeemed again on its connection after its session had reached the relay".to_owned();
        self.mark(event, Rule::Cli02, Role::Client, None, times, evidence);
    }
}

/// Whether nobody who gets this answer to a redeem may try again (CLI-02, CLI-05).
fn ends(status: u16) -> bool {
    status != 429 && matches!(status, 200 | 400..=499)
}

fn until(at: u64, wait: u64) -> u64 {
    at.saturating_add(wait.min(LONGEST_WAIT_MS))
}

fn early(what: &str, before: u64) -> String {
    format!("{what} {before} ms before the first of {MOST_SHARING} Retry-Afters was over")
}
