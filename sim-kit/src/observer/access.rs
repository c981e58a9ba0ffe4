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
//! | CLI-02 (redeemed again) | a code on one HTTP connection, once its session's line was lost |
//! | CLI-06 | a code, an API key, or an access token for one daemon, on one HTTP connection |
//!
//! A credential alone is nobody: a page is reloaded, a command is run again, a daemon is started again, and two processes share a token.
//! None of them knows what the other was told. A connection that is kept alive belongs to one process, if no browser or proxy is behind
//! it ([`EventKind::Request`] has no number then). What came on different connections is never held against each other.
//!
//! Who redeems a code while its session lives, or after its client closed that, is another: only a lost line makes a client try again.
//! A process may run several clients with one access token. Its caller is judged only as long as nothing shows that it is several: two
//! of its sessions live at once, a session that lives while another is asked for, or two of its requests at once.

use std::collections::VecDeque;

use sideband_protocol::SessionId;

use super::{Mark, MarkFor, Rule, recent::Recent};
use crate::event::{Closer, Event, EventKind, Role};

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
/// How long callers are remembered, in milliseconds.
const CALLER_LIFE_MS: u64 = 3_700_000;
/// How long endpoints are remembered, in milliseconds: longer than a wait binds.
const ENDPOINT_LIFE_MS: u64 = 180_000;
/// How long a caller counts as several after it last was, in milliseconds: much longer than a wait binds.
const SEVERAL_MS: u64 = 600_000;
/// Most of each kind that are remembered; the oldest go first.
pub const MOST_REMEMBERED: usize = 65_536;

#[derive(Debug, Default)]
struct Known {
    /// Whose access token it was asked for with.
    caller: Option<String>,
    endpoint: Option<String>,
    code: Option<String>,
    upgrades: u32,
}

#[derive(Debug, Default)]
struct Token {
    upgrades: u32,
    endpoint: Option<String>,
}

#[derive(Debug, Default)]
struct Code {
    /// Its session has reached the relay, and its line was lost or refused.
    lost: bool,
    /// The HTTP connection on which it was redeemed.
    http: Option<u64>,
    redeemed: u32,
}

/// An access token, and what shows that several clients use it.
#[derive(Debug, Default)]
struct Caller {
    /// When its last answer was given.
    answered: u64,
    live: u32,
    /// When it last was several.
    several: Option<u64>,
}

impl Caller {
    fn is_several(&self, at: u64) -> bool {
        self.several.is_some_and(|seen| at.saturating_sub(seen) < SEVERAL_MS)
    }
}

/// What was asked of an endpoint.
#[derive(Debug)]
struct Wait {
    until: u64,
    daemon: Option<String>,
}

/// What is one endpoint for sure, and how long it was told to wait.
#[derive(Debug, Default)]
struct Endpoint {
    /// By the API, before it asks the same again.
    ask: Option<Wait>,
    /// By the relay, before it comes again.
    dial: Option<Wait>,
    early: u32,
}

/// An open client connection: whose access token or which code its session comes from.
#[derive(Debug, Default)]
struct Open {
    caller: Option<String>,
    code: Option<String>,
}

/// Judges with what endpoints come to API and relay.
#[derive(Debug)]
pub struct AccessObserver {
    sessions: Recent<SessionId, Known>,
    tokens: Recent<String, Token>,
    codes: Recent<String, Code>,
    callers: Recent<String, Caller>,
    endpoints: Recent<String, Endpoint>,
    open: Recent<u64, Open>,
    marks: VecDeque<MarkFor>,
}

impl Default for AccessObserver {
    fn default() -> Self {
        Self {
            sessions: Recent::new(SESSION_LIFE_MS, MOST_REMEMBERED),
            tokens: Recent::new(TOKEN_LIFE_MS, MOST_REMEMBERED),
            codes: Recent::new(CODE_LIFE_MS, MOST_REMEMBERED),
            callers: Recent::new(CALLER_LIFE_MS, MOST_REMEMBERED),
            endpoints: Recent::new(ENDPOINT_LIFE_MS, MOST_REMEMBERED),
            open: Recent::new(u64::MAX, MOST_REMEMBERED),
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
        self.callers.forget(at);
        self.endpoints.forget(at);
    }

    /// How many things are remembered.
    pub fn remembered(&self) -> usize {
        let of_people = self.callers.len() + self.endpoints.len() + self.open.len();
        self.sessions.len() + self.tokens.len() + self.codes.len() + of_people
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
            EventKind::Closed { connection, by, .. } => self.closed(at, *connection, *by == Some(Closer::Peer)),
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
        if times.is_power_of_two() {
            let mark = Mark { at: event.at, rule, party, connection, session: event.session, evidence, times };
            self.marks.push_back(MarkFor { daemon: event.daemon.clone(), mark });
        }
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
        let (caller, endpoint, code) = (known.caller.clone(), known.endpoint.clone(), known.code.clone());
        if again > 0 {
            let rule = if code.is_some() { Rule::Cli02 } else { Rule::Cli01 };
            let evidence = "the session's token came again".to_owned();
            self.mark(event, rule, Role::Client, upgrade.connection, again, evidence);
        }
        if upgrade.connection.is_none()
            && let Some(code) = code.as_ref().and_then(|code| self.codes.get_mut(code))
        {
            code.lost = true;
        }
        if let Some(endpoint) = endpoint {
            self.dialled(event, upgrade, &endpoint, caller.as_deref());
        }
        let Some(connection) = upgrade.connection else { return };
        if let Some(caller) = &caller {
            let caller = self.callers.touch(upgrade.at, caller);
            caller.live += 1;
            if caller.live > 1 {
                caller.several = Some(upgrade.at);
            }
        }
        *self.open.touch(upgrade.at, &connection) = Open { caller, code };
    }

    /// DMN-03; and CLI-06 by DMN-13 for what the relay asked for.
    fn daemon_upgrade(&mut self, event: &Event, upgrade: &Upgrade<'_>) {
        let Some(token) = upgrade.token else { return };
        let token = self.tokens.touch(upgrade.at, &token.to_owned());
        let again = token.upgrades;
        token.upgrades = again.saturating_add(1);
        let endpoint = token.endpoint.clone();
        if again > 0 {
            let evidence = "the presence token came again".to_owned();
            self.mark(event, Rule::Dmn03, Role::Daemon, upgrade.connection, again, evidence);
        }
        if let Some(endpoint) = endpoint {
            self.dialled(event, upgrade, &endpoint, None);
        }
    }

    /// CLI-06: an endpoint comes to the relay.
    fn dialled(&mut self, event: &Event, upgrade: &Upgrade<'_>, endpoint: &str, caller: Option<&str>) {
        let known = self.endpoints.touch(upgrade.at, &endpoint.to_owned());
        let (told, daemon) = (known.dial.take(), event.daemon.clone());
        known.dial = upgrade.wait.map(|wait| Wait { until: until(upgrade.at, wait), daemon });
        if let Some(told) = told {
            let (role, connection) = (upgrade.role, upgrade.connection);
            let early = Early { endpoint, caller, what: "it came to the relay", role, connection };
            self.early(event, &told, upgrade.at, early);
        }
    }

    fn closed(&mut self, at: u64, connection: u64, by_peer: bool) {
        let Some(Open { caller, code }) = self.open.remove(&connection) else { return };
        if let Some(code) = code.filter(|_| !by_peer).and_then(|code| self.codes.get_mut(&code)) {
            code.lost = true;
        }
        if let Some(caller) = caller.and_then(|caller| self.callers.get_mut(&caller)) {
            if caller.live > 1 {
                caller.several = Some(at);
            }
            caller.live = caller.live.saturating_sub(1);
        }
    }

    // ---- requests

    fn request(&mut self, event: &Event, request: &Request<'_>) {
        let (role, name) = match (request.procedure, request.caller, request.code) {
            ("relay.createSession", Some(caller), _) => (Role::Client, format!("client {caller}")),
            ("quickConnect.redeem", _, Some(code)) => (Role::Client, format!("code {code}")),
            ("daemon.renewToken", Some(caller), _) => (Role::Daemon, format!("key {caller}")),
            (_, _, _) => return,
        };
        let caller = (role == Role::Client && request.code.is_none()).then(|| name.clone());
        let endpoint = request.http.map(|http| format!("{name} on {http}"));
        if let Some(caller) = &caller {
            // Two requests at once are of two clients, and who has a session that lives asks for no other.
            let caller = self.callers.touch(request.at, caller);
            if request.began < caller.answered || caller.live > 0 {
                caller.several = Some(request.at);
            }
            caller.answered = request.at;
        }
        if let Some(endpoint) = &endpoint {
            self.asked(event, request, role, endpoint, caller.as_deref());
        }
        if let Some(code) = request.code {
            self.redeemed(event, request, code);
        }
        if let (200, Some(session), Role::Client) = (request.status, event.session, role) {
            let known = self.sessions.touch(request.at, &session);
            (known.caller, known.endpoint) = (caller, endpoint.clone());
            known.code = request.code.map(str::to_owned);
        }
        if let (200, Some(token), Role::Daemon) = (request.status, request.token, role) {
            self.tokens.touch(request.at, &token.to_owned()).endpoint = endpoint;
        }
    }

    /// CLI-06: an endpoint asks the API.
    fn asked(&mut self, event: &Event, request: &Request<'_>, role: Role, endpoint: &str, caller: Option<&str>) {
        let known = self.endpoints.touch(request.at, &endpoint.to_owned());
        let (told, daemon) = (known.ask.take(), event.daemon.clone());
        known.ask = request.wait.map(|wait| Wait { until: until(request.at, wait), daemon });
        if let Some(told) = told {
            let early = Early { endpoint, caller, what: request.procedure, role, connection: None };
            self.early(event, &told, request.began, early);
        }
    }

    /// CLI-06.
    fn early(&mut self, event: &Event, told: &Wait, began: u64, early: Early<'_>) {
        let before = told.until.saturating_sub(began);
        if before <= EARLY_MS {
            return;
        }
        if let Some(caller) = early.caller {
            // Another daemon's client may be another client.
            let same = told.daemon.is_some() && told.daemon == event.daemon;
            if !same || self.callers.get_mut(&caller.to_owned()).is_none_or(|caller| caller.is_several(event.at)) {
                return;
            }
        }
        let known = self.endpoints.touch(event.at, &early.endpoint.to_owned());
        known.early = known.early.saturating_add(1);
        let times = known.early;
        let evidence = format!("{} {before} ms before its Retry-After was over", early.what);
        self.mark(event, Rule::Cli06, early.role, early.connection, times, evidence);
    }

    /// CLI-02.
    fn redeemed(&mut self, event: &Event, request: &Request<'_>, digest: &str) {
        let code = self.codes.touch(request.at, &digest.to_owned());
        if request.status == 200 {
            code.http = request.http;
        }
        if !code.lost || request.http.is_none() || code.http != request.http {
            return;
        }
        code.redeemed = code.redeemed.saturating_add(1);
        let times = code.redeemed;
        let evidence = "the code was redeemed again after its session was lost".to_owned();
        self.mark(event, Rule::Cli02, Role::Client, None, times, evidence);
    }
}

/// Somebody who may have come too early.
struct Early<'a> {
    endpoint: &'a str,
    caller: Option<&'a str>,
    what: &'a str,
    role: Role,
    connection: Option<u64>,
}

fn until(at: u64, wait: u64) -> u64 {
    at.saturating_add(wait.min(LONGEST_WAIT_MS))
}
