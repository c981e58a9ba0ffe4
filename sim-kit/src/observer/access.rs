//! Who comes with what: tokens and session ids that come again, codes that are redeemed again, Retry-After that is not waited for.
//!
//! Driven by events; after each, [`AccessObserver::poll_mark`] gives what was found.
//!
//! # What is proof
//!
//! A token and a session id have one owner, so their coming again is proof. So has a code until its session has reached the relay. A
//! Retry-After binds the client that got it, which has no name: the caller of a request is a credential, and several clients may share
//! one. A caller is judged only as long as nothing shows that it is several: two of its sessions live at once, or two of its requests at
//! once.

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
/// How long callers are remembered, in milliseconds.
const CALLER_LIFE_MS: u64 = 3_700_000;
/// Most of each kind that are remembered; the oldest go first.
pub const MOST_REMEMBERED: usize = 65_536;

#[derive(Debug, Default)]
struct Known {
    caller: Option<String>,
    code: Option<String>,
    upgrades: u32,
}

#[derive(Debug, Default)]
struct Code {
    reached: bool,
    redeemed: u32,
}

#[derive(Debug, Default)]
struct Caller {
    /// When its last answer was given.
    answered: u64,
    /// When what it asks for may be asked for again.
    wait: Option<(String, u64)>,
    live: u32,
    several: bool,
    early: u32,
}

/// Judges with what endpoints come to API and relay.
#[derive(Debug)]
pub struct AccessObserver {
    sessions: Recent<SessionId, Known>,
    tokens: Recent<String, u32>,
    codes: Recent<String, Code>,
    callers: Recent<String, Caller>,
    /// Open client connections, with their callers.
    open: Recent<u64, Option<String>>,
    marks: VecDeque<MarkFor>,
}

impl Default for AccessObserver {
    fn default() -> Self {
        Self {
            sessions: Recent::new(SESSION_LIFE_MS, MOST_REMEMBERED),
            tokens: Recent::new(TOKEN_LIFE_MS, MOST_REMEMBERED),
            codes: Recent::new(CODE_LIFE_MS, MOST_REMEMBERED),
            callers: Recent::new(CALLER_LIFE_MS, MOST_REMEMBERED),
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
    }

    /// How many things are remembered.
    pub fn remembered(&self) -> usize {
        self.sessions.len() + self.tokens.len() + self.codes.len() + self.callers.len() + self.open.len()
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
            EventKind::Closed { connection, .. } => self.closed(*connection),
            EventKind::Request { procedure, status, caller, code, retry_after_ms, took_ms } => {
                let request = Request {
                    at,
                    began: at.saturating_sub(*took_ms),
                    procedure,
                    status: *status,
                    caller: caller.as_deref(),
                    code: code.as_deref(),
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

    /// CLI-01, CLI-02.
    fn client_upgrade(&mut self, event: &Event, upgrade: &Upgrade<'_>) {
        let Some(session) = event.session else { return };
        let known = self.sessions.touch(upgrade.at, &session);
        known.upgrades = known.upgrades.saturating_add(1);
        let (again, caller, code) = (known.upgrades - 1, known.caller.clone(), known.code.clone());
        if again > 0 {
            let rule = if code.is_some() { Rule::Cli02 } else { Rule::Cli01 };
            self.mark(
                event,
                rule,
                Role::Client,
                upgrade.connection,
                again,
                "the session's token came again".to_owned(),
            );
        }
        if let Some(code) = code.and_then(|code| self.codes.get_mut(&code)) {
            code.reached = true;
        }
        if let Some(connection) = upgrade.connection {
            *self.open.touch(upgrade.at, &connection) = caller.clone();
        }
        if let Some(caller) = caller {
            let caller = self.callers.touch(upgrade.at, &caller);
            if upgrade.connection.is_some() {
                caller.live += 1;
                caller.several |= caller.live > 1;
            }
            if let Some(wait) = upgrade.wait {
                caller.wait = Some(("relay.createSession".to_owned(), until(upgrade.at, wait)));
            }
        }
    }

    /// DMN-03; and CLI-06 by DMN-13 for what the relay asked for.
    fn daemon_upgrade(&mut self, event: &Event, upgrade: &Upgrade<'_>) {
        if let Some(token) = upgrade.token {
            let times = self.tokens.touch(upgrade.at, &token.to_owned());
            let again = *times;
            *times = again.saturating_add(1);
            if again > 0 {
                let evidence = "the presence token came again".to_owned();
                self.mark(event, Rule::Dmn03, Role::Daemon, upgrade.connection, again, evidence);
            }
        }
        let Some(name) = event.daemon.as_ref().map(|daemon| format!("daemon {daemon}")) else { return };
        self.early(event, &name, "upgrade", upgrade.at, Role::Daemon);
        if let Some(wait) = upgrade.wait {
            self.callers.touch(upgrade.at, &name).wait = Some(("upgrade".to_owned(), until(upgrade.at, wait)));
        }
    }

    fn closed(&mut self, connection: u64) {
        let caller = self.open.remove(&connection).flatten();
        if let Some(caller) = caller.and_then(|caller| self.callers.get_mut(&caller)) {
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
        self.busy(&name, request, role);
        self.early(event, &name, request.procedure, request.began, role);
        if let Some(code) = request.code {
            self.redeemed(event, request, code);
        }
        let caller = self.callers.touch(request.at, &name);
        caller.wait = request.wait.map(|wait| (request.procedure.to_owned(), until(request.at, wait)));
        if let (200, Some(session), Role::Client) = (request.status, event.session, role) {
            let known = self.sessions.touch(request.at, &session);
            known.caller = Some(name);
            known.code = request.code.map(str::to_owned);
        }
    }

    /// Two requests of a client's credential at once are of two clients.
    fn busy(&mut self, name: &str, request: &Request<'_>, role: Role) {
        let caller = self.callers.touch(request.at, &name.to_owned());
        caller.several |= role == Role::Client && request.began < caller.answered;
        caller.answered = request.at;
    }

    /// CLI-06.
    fn early(&mut self, event: &Event, name: &str, what: &str, began: u64, role: Role) {
        let Some(caller) = self.callers.get_mut(&name.to_owned()) else { return };
        let Some((asked, until)) = &caller.wait else { return };
        let before = until.saturating_sub(began);
        if asked != what || before <= EARLY_MS || caller.several || caller.live > 0 {
            return;
        }
        caller.early = caller.early.saturating_add(1);
        let (times, evidence) = (caller.early, format!("{what} {before} ms before its Retry-After was over"));
        self.mark(event, Rule::Cli06, role, None, times, evidence);
    }

    /// CLI-02.
    fn redeemed(&mut self, event: &Event, request: &Request<'_>, digest: &str) {
        let code = self.codes.touch(request.at, &digest.to_owned());
        if !code.reached {
            return;
        }
        code.redeemed = code.redeemed.saturating_add(1);
        let times = code.redeemed;
        let evidence = "the code was redeemed again after its session had reached the relay".to_owned();
        self.mark(event, Rule::Cli02, Role::Client, None, times, evidence);
    }
}

fn until(at: u64, wait: u64) -> u64 {
    at.saturating_add(wait.min(LONGEST_WAIT_MS))
}
