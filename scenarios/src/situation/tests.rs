//! Every situation has events that reach it, and events that are nearly the same and do not.

use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Closer, Direction, FrameDetail, Role};

use super::*;
use crate::world;
use sideband_sim_kit::event::EventKind::{self, *};

const D: &str = "d_1";
/// Why a client closed that its own side closed.
const OWN: &str = "closed by this side";

/// Events that follow each other; `at` moves on by hand.
#[derive(Clone, Default)]
struct Story {
    at: u64,
    events: Vec<Event>,
}

fn story() -> Story {
    Story::default()
}

fn sid(n: u64) -> SessionId {
    SessionId::new(n).unwrap()
}

impl Story {
    fn push(mut self, host: &str, session: Option<u64>, kind: EventKind) -> Self {
        let daemon = (host == "relay" || host == "api").then(|| D.to_owned());
        self.events.push(Event { at: self.at, host: host.to_owned(), daemon, session: session.map(sid), kind });
        self
    }

    fn wait(mut self, ms: u64) -> Self {
        self.at += ms;
        self
    }

    fn relay(self, session: Option<u64>, kind: EventKind) -> Self {
        self.push("relay", session, kind)
    }

    fn daemon(self, connection: u64) -> Self {
        self.relay(None, Opened { connection, role: Role::Daemon, token: None, resumable: None })
    }

    /// A client whose connection has its session's number.
    fn client(self, n: u64) -> Self {
        let opened = self.relay(Some(n), Opened { connection: n, role: Role::Client, token: None, resumable: None });
        opened.session(n, "paired")
    }

    /// A daemon on connection 100 and a client that has sent Data.
    fn pair(self, n: u64) -> Self {
        self.daemon(100).client(n).data(n, n)
    }

    fn session(self, n: u64, state: &str) -> Self {
        self.relay(Some(n), Session { state: state.to_owned() })
    }

    fn sessions(self, n: u64, states: &[&str]) -> Self {
        states.iter().fold(self, |story, state| story.session(n, state))
    }

    fn frame(self, connection: u64, session: Option<u64>, direction: Direction, frame: &str) -> Self {
        let detail = FrameDetail::default();
        self.relay(session, Frame { connection, direction, frame: frame.to_owned(), bytes: 50, detail })
    }

    fn data(self, connection: u64, n: u64) -> Self {
        self.frame(connection, Some(n), Direction::In, "data")
    }

    fn signal(self, n: u64, signal: &str, reason: &str) -> Self {
        let detail =
            FrameDetail { signal: Some(signal.to_owned()), reason: Some(reason.to_owned()), ..FrameDetail::default() };
        let (direction, frame) = (Direction::In, "signal".to_owned());
        self.relay(Some(n), Frame { connection: 100, direction, frame, bytes: 15, detail })
    }

    fn control(self, connection: u64, session: Option<u64>, code: &str) -> Self {
        self.relay(session, Control { connection, code: code.to_owned() })
    }

    fn closed(self, connection: u64, code: Option<u16>, by: Option<Closer>, answered: bool) -> Self {
        self.relay(None, Closed { connection, code, by, answered })
    }

    fn dropped(self, reason: &str) -> Self {
        self.relay(Some(1), Dropped { connection: 1, reason: reason.to_owned() })
    }

    fn refused(self, role: Role, status: u16, reason: &str, retry_after_ms: Option<u64>) -> Self {
        let (code, reason) = ("code".to_owned(), reason.to_owned());
        self.relay(None, UpgradeRefused { status, code, reason, role: Some(role), token: None, retry_after_ms })
    }

    fn swept(self, connection: u64) -> Self {
        self.relay(None, Swept { connection })
    }

    fn limited(self, connection: u64) -> Self {
        self.relay(None, RateLimited { connection, frames: 3 })
    }

    fn answer(self, procedure: &str, status: u16, session: Option<u64>, retry_after_ms: Option<u64>) -> Self {
        let code = (procedure == "quickConnect.redeem").then(|| "c".to_owned());
        let caller = (procedure != "quickConnect.redeem").then(|| "u".to_owned());
        let procedure = procedure.to_owned();
        self.push(
            "api",
            session,
            Request { procedure, status, caller, code, retry_after_ms, took_ms: 0, token: None, http: None },
        )
    }

    fn create(self, status: u16, session: Option<u64>) -> Self {
        self.answer("relay.createSession", status, session, None)
    }

    fn redeem(self, status: u16) -> Self {
        self.answer("quickConnect.redeem", status, None, None)
    }

    fn took(self, took_ms: u64) -> Self {
        let procedure = "relay.createSession".to_owned();
        self.push(
            "api",
            None,
            Request {
                procedure,
                status: 200,
                caller: None,
                code: None,
                retry_after_ms: None,
                took_ms,
                token: None,
                http: None,
            },
        )
    }

    fn keys(self, result: &str) -> Self {
        self.relay(None, KeySet { result: result.to_owned() })
    }

    fn rotated(self, hard: bool) -> Self {
        self.push("api", None, KeysRotated { current: "k".to_owned(), hard })
    }

    fn report(self, report: &str, detail: &str) -> Self {
        self.push("client", None, Endpoint { report: report.to_owned(), detail: detail.to_owned() })
    }

    fn states(self, states: &[&str]) -> Self {
        states.iter().fold(self, |story, state| story.report("state", state))
    }

    fn closes(self, state: &str, why: &str) -> Self {
        self.states(&[state, "closed"]).report("closed", why)
    }

    fn retry(self, retry: u32, cause: &str, retry_after_ms: Option<u64>) -> Self {
        self.push("client", None, Retrying { retry, delay_ms: 1_000, retry_after_ms, cause: cause.to_owned() })
    }

    fn because(self, cause: &str) -> Self {
        self.retry(0, cause, None)
    }
}

/// A client's states and calls.
fn calls(steps: &[&str]) -> BTreeSet<Situation> {
    let (call, name, method) = (7, || "add".to_owned(), "add".to_owned());
    let told = steps.iter().fold(story(), |story, step| match step.split_once(' ').unwrap_or((step, "")) {
        ("call", _) => story.push("client", None, Call { call, name: name(), method: method.clone() }),
        ("ends", outcome) => {
            story.push("client", None, CallEnded { call, name: name(), outcome: outcome.to_owned(), own: None })
        }
        ("resumed", _) => story.report("resumed", ""),
        (state, _) => story.states(&[state]),
    });
    reaches(&told)
}

fn reaches(story: &Story) -> BTreeSet<Situation> {
    Situations::of(&story.events)
}

/// Both sides of a situation, as events.
fn sides(situation: Situation) -> (Story, Story) {
    use Situation as S;
    let relay = Some(Closer::Relay);
    match situation {
        S::Resumed => {
            let pending = || story().pair(1).sessions(1, &["paused", "pending"]);
            (pending().session(1, "paired"), pending().session(1, "ended"))
        }
        S::ResumedTwice => {
            let once = || story().pair(1).sessions(1, &["paused", "pending", "paired"]);
            (once().sessions(1, &["paused", "pending", "paired"]), once().sessions(1, &["paused", "pending"]))
        }
        S::ResumedLate => {
            let after = |ms| story().pair(1).session(1, "paused").wait(ms).sessions(1, &["pending", "paired"]);
            (after(20_000), after(19_999))
        }
        S::ManyResumedTogether => {
            let resumed = |count| {
                let clients = (1..=count).fold(story().daemon(100), |story, n| story.client(n).session(n, "paused"));
                (1..=count).fold(clients.wait(5).daemon(101), |story, n| story.sessions(n, &["pending", "paired"]))
            };
            (resumed(3), resumed(2))
        }
        S::SecondLossWhilePending => {
            let pair = || story().pair(1);
            (
                pair().sessions(1, &["paused", "pending", "paused"]),
                pair().sessions(1, &["paused", "pending", "paired", "paused"]),
            )
        }
        S::LossDuringHandshake => {
            let client = || story().daemon(100).client(1).frame(1, Some(1), Direction::In, "handshake_init");
            (client().session(1, "paused"), client().data(1, 1).session(1, "paused"))
        }
        S::GraceExpiredWhileClientWaits => {
            let expired = |story: Story| story.session(1, "paused").wait(30_000).control(1, Some(1), "session_expired");
            (expired(story().client(1)), expired(story().pair(1)))
        }
        S::GraceExpiredWhilePending => {
            let pending = || story().pair(1).sessions(1, &["paused", "pending"]).wait(5_000);
            (
                pending().control(1, Some(1), "session_expired"),
                pending().signal(1, "close", "error").control(1, Some(1), "session_expired"),
            )
        }
        S::DaemonBackWithoutResume => {
            let paused = || story().client(1).session(1, "paused");
            (
                paused().daemon(101).control(1, Some(1), "session_expired"),
                paused().control(1, Some(1), "session_expired"),
            )
        }
        S::DaemonLostItsState => {
            (story().pair(1).signal(1, "close", "state_lost"), story().pair(1).signal(1, "close", "error"))
        }
        S::DaemonShutDown => {
            (story().pair(1).signal(1, "close", "shutdown"), story().daemon(100).signal(1, "close", "shutdown"))
        }
        S::ClientLeftWhilePaused => {
            let paused = || story().pair(1).session(1, "paused");
            (paused().session(1, "ended"), paused().control(1, Some(1), "session_expired").session(1, "ended"))
        }
        S::ClientLeftWhilePending => {
            let pending = || story().pair(1).sessions(1, &["paused", "pending"]);
            (pending().session(1, "ended"), pending().signal(1, "close", "error").session(1, "ended"))
        }
        S::FrameDroppedWhilePaused => (story().dropped("session_paused"), story().dropped("session_pending")),
        S::FrameDroppedWhilePending => (story().dropped("session_pending"), story().dropped("session_paused")),
        S::FrameForEndedSession => (story().dropped("session_ended"), story().dropped("rate_limited")),
        S::SignalForEndedSession => {
            let signal = |story: Story| story.signal(1, "ready", "none").control(100, Some(1), "session_ended");
            (signal(story().daemon(100)), signal(story().pair(1)))
        }
        S::DaemonOfflineAtConnect => {
            let control = |code| story().client(1).control(1, Some(1), code);
            (control("daemon_offline"), control("daemon_not_found"))
        }
        S::ClientGhostSwept => (story().pair(1).swept(1), story().pair(1).swept(100)),
        S::PresenceSocketSwept => (story().pair(1).swept(100), story().pair(1).swept(1)),
        S::TakeoverOfAGhost => {
            let replaced = |answered| story().daemon(100).daemon(101).closed(100, Some(4_001), relay, answered);
            (replaced(false), replaced(true))
        }
        S::TakeoverOfALivingDaemon => {
            let replaced = |answered| story().daemon(100).daemon(101).closed(100, Some(4_001), relay, answered);
            (replaced(true), replaced(false))
        }
        S::DaemonRefusedByItsGhost => {
            (story().refused(Role::Daemon, 409, "daemon", None), story().refused(Role::Client, 409, "session", None))
        }
        S::SessionIdUsedAgain => {
            (story().refused(Role::Client, 409, "session", None), story().refused(Role::Daemon, 409, "daemon", None))
        }
        S::NewSessionBesideAGhost => {
            let first = || story().create(200, Some(1)).pair(1);
            let second = |story: Story| story.create(200, Some(2)).client(2);
            (second(first().wait(30_000)), second(first().wait(29_000).data(1, 1).wait(1_000)))
        }
        S::ClientCut => {
            (story().pair(1).closed(1, None, None, false), story().pair(1).closed(1, Some(1_000), None, false))
        }
        S::DaemonCutUnderSessions => (
            story().pair(1).session(1, "paused").closed(100, None, None, false),
            story().daemon(100).closed(100, None, None, false),
        ),
        S::RelayStoppedUnderClients => {
            (story().pair(1).closed(1, Some(1_012), relay, true), story().pair(1).closed(100, Some(1_012), relay, true))
        }
        S::UpgradeWhileRelayStops => {
            (story().refused(Role::Client, 503, "shutdown", None), story().refused(Role::Client, 503, "keys", None))
        }
        S::HerdAfterRestart => {
            let herd = |count| (1..=count).fold(story().relay(None, Restarted), Story::client);
            (herd(10), herd(9))
        }
        S::IdleConnectionKept => {
            let ping = |ms| story().pair(1).wait(ms).frame(1, None, Direction::In, "ping");
            (ping(90_001), ping(90_000))
        }
        S::RateLimited => (story().pair(1).limited(1), story().pair(1).dropped("rate_limited")),
        S::RateLimitedAndRecovered => {
            let later = |ms| story().pair(1).limited(1).wait(ms).data(1, 1).frame(100, Some(1), Direction::Out, "data");
            (later(1_000), later(999))
        }
        S::BackpressureClosedAClient => {
            let control = |connection| story().pair(1).control(connection, None, "backpressure");
            (control(1), control(100))
        }
        S::BackpressureClosedADaemon => {
            let control = |connection| story().pair(1).control(connection, None, "backpressure");
            (control(100), control(1))
        }
        S::SessionLimitReached => {
            (story().refused(Role::Client, 429, "sessions", None), story().refused(Role::Client, 429, "storm", None))
        }
        S::MalformedFrameRefused => {
            (story().pair(1).control(1, None, "invalid_frame_type"), story().pair(1).control(1, None, "rate_limited"))
        }
        S::MessageRefused => (
            story().pair(1).relay(None, MessageRefused { connection: 1, code: 1_003 }),
            story().pair(1).closed(1, Some(1_003), None, false),
        ),

        S::Api409 => (story().create(409, None), story().create(429, None)),
        S::Api409DuringReconnect => {
            (story().create(200, Some(1)).pair(1).create(409, None), story().create(200, Some(1)).create(409, None))
        }
        S::QuickConnectCodeRaced => {
            (story().redeem(200).wait(1_000).redeem(404), story().redeem(200).wait(1_001).redeem(404))
        }
        S::QuickConnectCodeUsedAgain => {
            (story().redeem(200).wait(1_001).redeem(404), story().redeem(200).wait(1_000).redeem(404))
        }
        S::QuickConnectBurnedOffline => (story().redeem(409), story().create(409, None)),
        S::RedeemTriedAgain => (story().redeem(503).redeem(200), story().redeem(404).redeem(404)),
        S::StormOf429 => {
            let storm = |second| [429, second, 429].iter().fold(story(), |story, status| story.create(*status, None));
            (storm(429), storm(200))
        }
        S::RetryAfterLongerThanBackoff => {
            let answer = |story: Story, ms| story.answer("relay.createSession", 429, None, Some(ms));
            (answer(story(), 2_000), answer(story().create(500, None).create(500, None), 4_000))
        }
        S::RetryAfterOverTheCap => {
            let answer = |ms| story().answer("relay.createSession", 503, None, Some(ms));
            (answer(120_001), answer(120_000))
        }
        S::RetryAfterAtUpgrade => (
            story().refused(Role::Client, 503, "rule", Some(500)),
            story().refused(Role::Client, 503, "rule", None).answer("relay.createSession", 503, None, Some(500)),
        ),
        S::ApiFailedAndRecovered => {
            (story().create(503, None).create(200, None), story().create(404, None).create(200, None))
        }
        S::DaemonTokenRefusedWhileAway => {
            let refused = |story: Story| story.answer("daemon.renewToken", 503, None, None);
            (refused(story().daemon(100)), refused(story()))
        }
        S::CredentialRefused => (story().create(403, None), story().create(404, None)),
        S::AnswerTooLate => (story().took(15_001), story().took(15_000)),
        S::KeySetRefreshedForUnknownKid => {
            let read = |ms| story().keys("ok").rotated(false).wait(ms).keys("ok");
            (read(1_000), read(300_000))
        }
        S::TokenOfAKeyThatIsGone => {
            let refused = |hard| story().rotated(hard).refused(Role::Client, 401, "kid", None);
            (refused(true), refused(false))
        }
        S::TokenRacedARotation => {
            let refused = |role| story().refused(role, 401, "kid", None);
            (refused(Role::Daemon).daemon(100), refused(Role::Client).daemon(100))
        }
        S::KeySetOutage => {
            (story().refused(Role::Client, 503, "keys", None), story().refused(Role::Client, 503, "shutdown", None))
        }
        S::CachedKeySetUsedInOutage => {
            (story().keys("ok").keys("503").client(1), story().keys("503").keys("ok").client(1))
        }
        S::TokenExpired => {
            (story().refused(Role::Client, 401, "expired", None), story().refused(Role::Client, 401, "kid", None))
        }

        S::ClosedWhileConnecting => {
            (story().closes("connecting", OWN), story().closes("connecting", "the API answered 404"))
        }
        S::ClosedWhileNegotiating => (story().closes("negotiating", OWN), story().closes("active", OWN)),
        S::ClosedWhilePaused => (story().closes("paused", OWN), story().states(&["paused"]).closes("active", OWN)),
        S::ClosedWhileReconnecting => {
            (story().closes("reconnecting", OWN), story().closes("reconnecting", "gave up after 5 retries: x"))
        }
        S::LostWhileNegotiating => {
            (story().states(&["negotiating", "reconnecting"]), story().states(&["active", "reconnecting"]))
        }
        S::ActiveAgainWithANewSession => (
            story().states(&["active", "negotiating", "active"]),
            story().states(&["negotiating", "active", "paused", "active"]),
        ),
        S::GaveUp => {
            (story().report("closed", "gave up after 5 retries: x"), story().report("closed", "closed by this side"))
        }
        S::QuickConnectLossIsFatal => (
            story().report("closed", "the Quick Connect session is over (x); get a new code"),
            story().report("closed", "closed by this side"),
        ),
        S::LongBackoff => (story().retry(5, "x", None), story().retry(4, "x", None)),
        S::SilentRelayNoticed => (
            story().because("nothing was heard from the relay for too long"),
            story().because("the connection to the relay was lost"),
        ),
        S::ApiTimedOut => {
            (story().because("the API did not answer in time"), story().because("the relay did not answer in time"))
        }
        S::DialTimedOut => {
            (story().because("the relay did not answer in time"), story().because("the API did not answer in time"))
        }
        S::HandshakeTimedOut => {
            (story().because("the handshake took too long"), story().because("the handshake failed: x"))
        }
        S::SealedMessageDidNotOpen => {
            (story().because("a sealed message did not open"), story().because("malformed frame: x"))
        }
        S::IdentityChanged => {
            let closed = |why| story().report("closed", why);
            (closed("the daemon's identity changed: expected a, received b"), closed("the handshake failed: x"))
        }
        S::UnreadableAnswer => {
            (story().because("the API's answer cannot be read: x"), story().because("the API answered 500: x"))
        }
        S::RateLimitReported => (story().report("rate_limited", ""), story().report("pending", "")),
        S::ClientWaitedForTheDaemon => {
            let after = |cause| story().because(cause).states(&["connecting", "negotiating", "active"]);
            (after("the relay says daemon_offline: x"), after("the connection to the relay was lost"))
        }

        S::ResumedWithCallInFlight
        | S::CallSurvivedAPause
        | S::CallTimedOutOnCutWire
        | S::CallTimedOutWhilePaused
        | S::CallFailedWithTheSocket
        | S::BufferedCallSent
        | S::BufferOverflow
        | S::CallEndedByClose => (story(), story()),
    }
}

/// Both sides of a situation that is about calls.
fn sides_with_calls(situation: Situation) -> Option<(&'static [&'static str], &'static [&'static str])> {
    use Situation as S;
    Some(match situation {
        S::ResumedWithCallInFlight => {
            (&["active", "call", "paused", "resumed"], &["active", "call", "ends result", "paused", "resumed"])
        }
        S::CallSurvivedAPause => (
            &["active", "call", "paused", "active", "ends result"],
            &["active", "paused", "active", "call", "ends result"],
        ),
        S::CallTimedOutOnCutWire => (
            &["active", "call", "paused", "active", "ends rpc_timeout"],
            &["active", "call", "ends rpc_timeout", "paused", "active"],
        ),
        S::CallTimedOutWhilePaused => (
            &["active", "call", "paused", "ends rpc_timeout"],
            &["active", "call", "paused", "active", "ends rpc_timeout"],
        ),
        S::CallFailedWithTheSocket => {
            (&["active", "call", "reconnecting", "ends not_connected"], &["reconnecting", "call", "ends not_connected"])
        }
        S::BufferedCallSent => (&["reconnecting", "call", "active", "ends result"], &["active", "call", "ends result"]),
        S::BufferOverflow => (&["paused", "call", "ends buffer_overflow"], &["paused", "call", "ends session_paused"]),
        S::CallEndedByClose => {
            (&["active", "call", "closed", "ends peer_closed"], &["active", "call", "ends rpc_error:2000"])
        }
        _ => return None,
    })
}

#[test]
fn every_situation_is_reached_by_its_events_and_not_by_those_that_are_nearly_the_same() {
    for situation in Situation::ALL {
        let (yes, no) = match sides_with_calls(*situation) {
            Some((yes, no)) => (calls(yes), calls(no)),
            None => {
                let (yes, no) = sides(*situation);
                (reaches(&yes), reaches(&no))
            }
        };
        assert!(yes.contains(situation), "{situation} is not reached: {yes:?}");
        assert!(!no.contains(situation), "{situation} is reached by what it is not");
    }
}

#[test]
fn there_are_enough_and_each_says_what_it_is() {
    assert!(Situation::ALL.len() >= 40, "{}", Situation::ALL.len());
    let ids: BTreeSet<&str> = Situation::ALL.iter().map(|situation| situation.id()).collect();
    assert_eq!(ids.len(), Situation::ALL.len());
    for situation in Situation::ALL {
        let id = situation.id();
        assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{id}");
        assert!(situation.means().ends_with('.'), "{id}");
        assert!(!situation.rules().is_empty(), "{id}");
        assert_eq!(id.parse(), Ok(*situation));
        assert_eq!(serde_json::to_string(situation).unwrap(), format!("\"{id}\""));
    }
    assert!("no-such-thing".parse::<Situation>().is_err());
}

#[test]
fn every_rule_that_is_named_is_one_of_the_specification() {
    let spec = ["1-wire", "2-crypto", "3-control-plane", "4-relay", "5-endpoints"]
        .map(|page| std::fs::read_to_string(format!("{}/../docs/spec/{page}.md", env!("CARGO_MANIFEST_DIR"))).unwrap())
        .join("\n");
    for situation in Situation::ALL {
        for rule in situation.rules() {
            assert!(spec.contains(&format!("* {rule} ")), "{situation}: {rule}");
        }
    }
}

#[test]
fn the_proven_world_reaches_what_it_is_built_for() {
    let reached = Situations::of(world::run(0).unwrap().events());
    use Situation as S;
    for situation in [
        S::Resumed,
        S::DaemonCutUnderSessions,
        S::ClientGhostSwept,
        S::SilentRelayNoticed,
        S::ActiveAgainWithANewSession,
    ] {
        assert!(reached.contains(&situation), "{situation}: {reached:?}");
    }
    for situation in [S::StormOf429, S::GaveUp, S::SecondLossWhilePending, S::MalformedFrameRefused, S::TokenExpired] {
        assert!(!reached.contains(&situation), "{situation}: {reached:?}");
    }
}

#[test]
fn who_waits_knows_best_whether_a_retry_after_is_longer() {
    let longer = |retry, after| {
        reaches(&story().retry(retry, "x", Some(after))).contains(&Situation::RetryAfterLongerThanBackoff)
    };
    assert!(longer(0, 1_201) && !longer(0, 1_200));
    assert!(longer(3, 9_601) && !longer(3, 9_600));
    assert!(longer(9, 36_001) && !longer(9, 36_000));
}

#[test]
fn a_reset_forgets_what_was_before() {
    let before = story().pair(1).sessions(1, &["paused", "pending"]);
    let reset = |story: Story| story.push("relay", None, Reset).session(1, "paired");
    assert!(!reaches(&reset(before)).contains(&Situation::Resumed));
}
