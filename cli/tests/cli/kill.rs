//! A cloud on a file is killed under load, again and again: what it has acknowledged is there, nothing is half there, and no code
//! and no session token is good twice. When it is killed is drawn by the number of answers, not by time.
//!
//! Codes, sessions, sockets and registrations are under way many at once; accounts, the fault plan and the signing keys change one
//! by one each, so that it is known what may have happened to a change without an answer; a reset comes alone, last in a life.

mod accounts;
mod faults;
pub(crate) mod sockets;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use data_encoding::BASE64URL_NOPAD;
use http::{
    HeaderMap, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use rusqlite::Connection;
use serde_json::{Value, json};
use sideband_api_sim::Digest;
use sideband_env::{EntropySource, Env, HttpRequest, SeededEntropy, Timeline, real::Roots};
use sideband_protocol::{Entropy, SessionId, entropy::next_below};
use tokio::{task::JoinSet, time::timeout};

use crate::support::{PATIENCE, Scratch, Sim};

/// How often it is killed.
const LIVES: u64 = 60;

/// Requests under way at once.
const AT_ONCE: usize = 8;

/// Most answers in one life.
const MAX_ANSWERS: u64 = 80;

/// Which lives end with a reset.
const RESETS: u64 = 5;

/// How every life calls itself in tokens, so that they are good in the next.
const ISSUER: &str = "http://cloud.test";

/// The name of daemons that register themselves.
const REGISTERED: &str = "one of many";

/// Something that changes the store.
#[derive(Debug, Clone)]
enum Op {
    Create,
    Redeem(String),
    Register,
    Session,
    Rotate { hard: bool },
    Socket(String),
    Accounts(accounts::Change),
    Faults(faults::Change),
    Reset,
}

/// An HTTP status and what came with it; none if the process was gone.
type Answer = Option<(u16, Value)>;

/// What is known of a code.
#[derive(Debug, Default)]
struct CodeLife {
    /// Redeems that were told that they have it.
    taken: u32,
    /// Redeems that were told that there is none.
    refused: u32,
    /// Redeems that never got an answer.
    unknown: u32,
}

/// What a life began with, to which a reset returns.
#[derive(Debug, Default)]
struct Begun {
    key: Option<String>,
    codes: BTreeSet<String>,
    daemons: usize,
}

/// What was acknowledged in all lives.
#[derive(Debug, Default)]
struct Ledger {
    codes: BTreeMap<String, CodeLife>,
    /// Daemons with their API keys.
    daemons: Vec<(String, String)>,
    sessions: BTreeSet<SessionId>,
    /// The key that signs; none while a rotation's end is unknown.
    current: Option<String>,
    rotations: u32,
    unanswered: u32,
    accounts: accounts::Book,
    faults: faults::Book,
    sockets: sockets::Book,
    /// What this life began with: the key that signs, the codes that were known, and how many daemons.
    begun: Begun,
    /// A reset got no answer: the user that is gone if it happened.
    reset_unknown: Option<String>,
    resets: u32,
    /// API keys that a reset took away.
    lost_keys: Vec<String>,
    /// Codes that a reset took away.
    lost_codes: Vec<String>,
}

impl Ledger {
    /// Draws what to do next. One rotation at a time, so that their order is known.
    fn draw(&mut self, source: &mut dyn Entropy, has: Has) -> Op {
        let other = match next_below(source, 24) {
            0..=3 => Some(Op::Create),
            4..=8 => {
                let fresh: Vec<_> = self.codes.iter().filter(|(_, code)| code.taken + code.refused < 2).collect();
                match next_below(source, fresh.len() as u64) {
                    _ if fresh.is_empty() => None,
                    at => Some(Op::Redeem(fresh[at as usize].0.clone())),
                }
            }
            9 => Some(Op::Register),
            10 if !has.rotation => Some(Op::Rotate { hard: next_below(source, 4) == 0 }),
            11..=13 => self.accounts.draw(source).map(Op::Accounts),
            14..=15 => self.faults.draw(source).map(Op::Faults),
            16..=21 if has.relay => self.sockets.draw(source).map(Op::Socket),
            _ => None,
        };
        other.unwrap_or_else(|| if next_below(source, 2) == 0 { Op::Create } else { Op::Session })
    }

    fn note(&mut self, op: Op, answer: Answer) {
        self.unanswered += u32::from(answer.is_none());
        let (op, (status, answer)) = match (op, answer) {
            (Op::Socket(token), answer) => return self.sockets.note(token, answer.map(|(status, _)| status)),
            (Op::Accounts(change), answer) => return self.accounts.note(change, answer),
            (Op::Faults(change), answer) => return self.faults.note(change, answer),
            (op, Some(answer)) => (op, answer),
            (Op::Redeem(code), None) => return self.codes.entry(code).or_default().unknown += 1,
            (Op::Rotate { .. }, None) => return self.current = None,
            (Op::Reset, None) => return self.reset_unknown = self.accounts.newest_user().cloned(),
            (Op::Create | Op::Register | Op::Session, None) => return,
        };
        let text = |member: &str| answer["result"]["data"][member].as_str().unwrap_or_default().to_owned();
        match (op, status) {
            (Op::Create, 200) => drop(self.codes.entry(text("code")).or_default()),
            // 409: the daemon is offline, and the code is used up (API-04).
            (Op::Redeem(code), 200 | 409) => self.codes.entry(code).or_default().taken += 1,
            (Op::Redeem(code), 404) => self.codes.entry(code).or_default().refused += 1,
            (Op::Register, 200) => self.daemons.push((text("daemonId"), text("apiKey"))),
            (Op::Session, 200) => {
                assert!(self.sessions.insert(session_of(&text("token"))), "API-01");
                self.sockets.add(text("token"));
            }
            (Op::Reset, 200) => self.reset(),
            (Op::Rotate { .. }, 200) => {
                self.current = answer["keys"][0]["kid"].as_str().map(str::to_owned);
                self.rotations += 1;
            }
            (op, status) => panic!("{op:?} was answered with {status}: {answer}"),
        }
    }

    /// All is as after the start of this life, but for session ids and codes that were used.
    fn reset(&mut self) {
        self.resets += 1;
        let begun = &self.begun;
        self.lost_codes.extend(self.codes.extract_if(.., |code, _| !begun.codes.contains(code)).map(|(code, _)| code));
        self.lost_keys.extend(self.daemons.split_off(begun.daemons).into_iter().map(|(_, key)| key));
        self.current.clone_from(&begun.key);
        self.accounts.reset();
        self.faults.reset();
    }

    /// What holds whenever nothing is under way.
    fn check(&self) {
        for (code, CodeLife { taken, refused, unknown }) in &self.codes {
            assert!(*taken <= 1, "{code} was redeemed {taken} times");
            assert!(*refused == 0 || taken + unknown > 0, "{code} was acknowledged and never taken, yet refused");
        }
    }
}

fn session_of(token: &str) -> SessionId {
    let claims = token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap()).unwrap();
    SessionId::from_claim(claims["sid"].as_str().unwrap()).unwrap()
}

/// What stands in the way of some operations.
#[derive(Clone, Copy)]
struct Has {
    rotation: bool,
    relay: bool,
}

/// One life's addresses and credentials.
#[derive(Clone)]
struct Target {
    env: Env,
    /// Host and port.
    addr: String,
    api: String,
    admin: String,
    relay: bool,
    daemon: String,
    key: String,
    user: String,
}

impl Target {
    fn of(sim: &Sim, env: &Env, relay: bool) -> Self {
        let get = |member: &str| sim.get(member).to_owned();
        let (admin, daemon) = (get("adminUrl"), get("daemonId"));
        let api = admin.trim_end_matches("/__sim").to_owned();
        let addr = api.trim_start_matches("http://").to_owned();
        Self { env: env.clone(), addr, api, admin, relay, daemon, key: get("apiKey"), user: get("accessToken") }
    }

    /// The answer; none if there is none.
    async fn ask(&self, method: Method, url: String, credential: &str, body: Value) -> Answer {
        let mut headers = HeaderMap::new();
        if !credential.is_empty() {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {credential}")).unwrap());
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = if body.is_null() && credential.is_empty() { Default::default() } else { body.to_string().into() };
        let request = HttpRequest { method, url: url.parse().unwrap(), headers, body, max_answer: 1 << 20 };
        let answer =
            timeout(PATIENCE, self.env.http.send(request)).await.expect("neither an answer nor an end").ok()?;
        Some((answer.status.as_u16(), serde_json::from_slice(&answer.body).ok()?))
    }

    async fn procedure(&self, name: &str, credential: &str, body: Value) -> Answer {
        self.ask(Method::POST, format!("{}/api/trpc/{name}", self.api), credential, body).await
    }

    async fn admin(&self, method: Method, path: &str, body: Value) -> Answer {
        self.ask(method, format!("{}/{path}", self.admin), "", body).await
    }

    async fn run(self, op: Op) -> (Op, Answer) {
        let answer = match &op {
            Op::Create => self.procedure("quickConnect.create", &self.key, json!({"ttlSeconds": 3_600})).await,
            Op::Redeem(code) => self.procedure("quickConnect.redeem", "", json!({"code": code})).await,
            Op::Register => self.procedure("daemon.register", &self.user, json!({"name": REGISTERED})).await,
            Op::Session => self.procedure("relay.createSession", &self.user, json!({"daemonId": self.daemon})).await,
            Op::Rotate { hard } => self.admin(Method::POST, "keys/rotate", json!({"hard": hard})).await,
            Op::Socket(token) => sockets::upgrade(&self.addr, token).await.map(|status| (status, Value::Null)),
            Op::Accounts(change) => {
                let (method, path, body) = change.request();
                self.admin(method, &format!("accounts/{path}"), body).await
            }
            Op::Faults(change) => {
                let (method, path, body) = change.request();
                self.admin(method, &path, body).await
            }
            Op::Reset => self.admin(Method::POST, "reset", Value::Null).await,
        };
        (op, answer)
    }
}

/// Runs operations until so many are answered, then kills. What is under way then may still get its answer. A life that ends with
/// a reset is killed while that is under way, or right after its answer.
async fn live(
    sim: &mut Sim,
    target: &Target,
    ledger: &mut Ledger,
    source: &mut dyn Entropy,
    answers: u64,
    reset: bool,
) {
    let mut under_way = JoinSet::new();
    let (mut answered, mut rotation) = (0, false);
    while answered < answers || (reset && !under_way.is_empty()) {
        while answered < answers && under_way.len() < AT_ONCE {
            let op = ledger.draw(source, Has { rotation, relay: target.relay });
            rotation |= matches!(op, Op::Rotate { .. });
            under_way.spawn(target.clone().run(op));
        }
        let (op, answer) = under_way.join_next().await.unwrap().unwrap();
        assert!(answer.is_some(), "{op:?} got no answer from one that lives");
        rotation &= !matches!(op, Op::Rotate { .. });
        ledger.note(op, answer);
        answered += 1;
    }
    if reset {
        // Whether it is there tells afterwards whether the reset happened.
        let (op, answer) = target.clone().run(Op::Accounts(ledger.accounts.add_user())).await;
        ledger.note(op, answer);
        under_way.spawn(target.clone().run(Op::Reset));
        match next_below(source, 3) {
            0 => {
                let (op, answer) = under_way.join_next().await.unwrap().unwrap();
                ledger.note(op, answer);
            }
            // Until the request is on its way.
            1 => drop(target.admin(Method::GET, "ready", Value::Null).await),
            _ => tokio::task::yield_now().await,
        }
    }
    sim.kill();
    while let Some(done) = under_way.join_next().await {
        let (op, answer) = done.unwrap();
        ledger.note(op, answer);
    }
    ledger.check();
}

/// Looks into a copy, so that the program itself meets the file as it was left.
fn check_file(file: &str, copy: &str, ledger: &mut Ledger) {
    for ending in ["", "-wal"] {
        let (from, to) = (format!("{file}{ending}"), format!("{copy}{ending}"));
        if Path::new(&from).exists() {
            fs::copy(from, to).unwrap();
        }
    }
    let database = Connection::open(copy).unwrap();
    let text = |sql: &str| database.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    assert_eq!(count("SELECT count(*) FROM pragma_foreign_key_check"), 0);
    if let Some(user) = ledger.reset_unknown.take()
        && !database.prepare("SELECT 1 FROM user WHERE id = ?1").unwrap().exists([user]).unwrap()
    {
        ledger.reset();
    }
    // A daemon that registered and its key, a key that signs and the one before: never one without the other.
    let keyless = "SELECT count(*) FROM daemon WHERE name = 'one of many' AND id NOT IN (SELECT daemon FROM api_key)";
    assert_eq!(count(keyless), 0);
    assert_eq!(count("SELECT count(*) FROM signing_key WHERE published_until IS NULL"), 1);
    if let Some(current) = &ledger.current {
        assert_eq!(text("SELECT kid FROM signing_key WHERE published_until IS NULL"), *current);
    }
    let has = |sql: &str, id: i64| database.prepare_cached(sql).unwrap().exists([id]).unwrap();
    for session in &ledger.sessions {
        assert!(has("SELECT 1 FROM session_id WHERE id = ?1", session.get().cast_signed()), "{session} is lost");
    }
    for session in ledger.sockets.take_opened() {
        let used = has("SELECT 1 FROM used_session WHERE id = ?1", session.get().cast_signed());
        assert!(used, "that {session} was used is lost");
    }
    for (code, CodeLife { taken, refused: _, unknown }) in &ledger.codes {
        let there = has("SELECT 1 FROM code WHERE id = ?1", Digest::of(code).id().get().cast_signed());
        assert!(there || taken + unknown > 0, "{code} is lost");
        assert!(!there || *taken == 0, "{code} was redeemed and is there again");
    }
    for (daemon, key) in &ledger.daemons {
        assert!(
            has("SELECT 1 FROM api_key WHERE id = ?1", Digest::of(key).id().get().cast_signed()),
            "{daemon} is lost"
        );
    }
    drop(database);
    fs::remove_file(copy).unwrap();
    // Gone with the connection, if there was one.
    let _ = fs::remove_file(format!("{copy}-wal"));
}

/// Through the front door: accounts and faults are those that were acknowledged, the newest daemons can log in, and what was used or
/// taken away is not good again.
async fn check_service(target: &Target, ledger: &mut Ledger) {
    ledger.accounts.check(target).await;
    ledger.faults.check(target).await;
    if target.relay {
        ledger.sockets.check(&target.addr).await;
    }
    for (daemon, key) in ledger.daemons.iter().rev().take(3) {
        let (status, answer) = target.procedure("daemon.renewToken", key, json!(null)).await.unwrap();
        assert_eq!(status, 200, "{daemon}: {answer}");
    }
    for key in ledger.lost_keys.iter().rev().take(2) {
        assert_eq!(target.procedure("daemon.renewToken", key, json!(null)).await.unwrap().0, 401);
    }
    let taken = ledger.codes.iter().filter(|(_, code)| code.taken == 1).map(|(text, _)| text);
    let lost = ledger.lost_codes.iter().rev().take(2);
    for code in taken.rev().take(3).chain(lost) {
        let (status, _) = target.procedure("quickConnect.redeem", "", json!({"code": code})).await.unwrap();
        assert_eq!(status, 404, "{code} is good again");
    }
    let (_, keys) = target.admin(Method::GET, "keys", Value::Null).await.unwrap();
    let key = keys["keys"][0]["kid"].as_str().map(str::to_owned);
    if ledger.begun.key.is_none() {
        ledger.current.clone_from(&key);
    }
    let (codes, daemons) = (ledger.codes.keys().cloned().collect(), ledger.daemons.len());
    ledger.begun = Begun { key, codes, daemons };
    if ledger.current.is_none() {
        let (op, answer) = target.clone().run(Op::Rotate { hard: false }).await;
        ledger.note(op, answer);
    }
}

/// `up`, whose daemon is offline, in turn with `api`, which does not know and lets redeems through.
async fn start(relay: bool, file: &str) -> Sim {
    let here = ["--addr", "127.0.0.1:0", "--state", file];
    let api = [&["api", "--relay-url", "ws://127.0.0.1:9/relay", "--issuer", ISSUER][..], &here].concat();
    let up = [&["up", "--advertise-url", ISSUER][..], &here].concat();
    Sim::start(if relay { &up } else { &api }).await
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "figures for whoever runs it")]
async fn api_05_rel_10_no_kill_loses_what_was_acknowledged_or_makes_anything_good_twice() {
    let (scratch, env) = (Scratch::new(), Env::real(&Roots::System).unwrap());
    let (file, copy) = (scratch.file("state.db"), scratch.file("copy.db"));
    let mut source = SeededEntropy::new(5, "kills").entropy();
    let (mut ledger, mut answers, timeline) = (Ledger::default(), 0, Timeline::start());
    let mut known = None;
    for life in 0..LIVES {
        let relay = life.is_multiple_of(2);
        let mut sim = start(relay, &file).await;
        let target = Target::of(&sim, &env, relay);
        let credentials = (target.daemon.clone(), target.key.clone(), target.user.clone());
        assert_eq!(*known.get_or_insert(credentials.clone()), credentials, "the same in every life");
        check_service(&target, &mut ledger).await;
        let (count, reset) = (1 + next_below(&mut source, MAX_ANSWERS), life % RESETS == RESETS - 1);
        live(&mut sim, &target, &mut ledger, source.as_mut(), count, reset).await;
        assert_eq!(sim.end().await.code, None, "it was killed");
        check_file(&file, &copy, &mut ledger);
        answers += count;
    }
    // In the last life every code is tried once more, and those that were taken are gone.
    let sim = start(false, &file).await;
    let target = Target::of(&sim, &env, false);
    check_service(&target, &mut ledger).await;
    for code in ledger.codes.keys().cloned().collect::<Vec<_>>() {
        let (op, answer) = target.clone().run(Op::Redeem(code)).await;
        ledger.note(op, answer);
    }
    ledger.check();
    assert!(ledger.codes.values().all(|code| code.taken == 1 || code.unknown > 0));
    assert_eq!(sim.stop().await.code, Some(0));
    let taken = ledger.codes.values().filter(|code| code.taken == 1).count();
    let Ledger { accounts, faults, sockets, .. } = &ledger;
    println!(
        "{LIVES} kills after {answers} answers, {} requests cut; {} codes of which {taken} redeemed, {} daemons, {} sessions, {} \
         sockets, {} used tokens refused later, {} rotations, {} changes of accounts and {} of faults, {} resets; {:.1} s",
        ledger.unanswered,
        ledger.codes.len(),
        ledger.daemons.len(),
        ledger.sessions.len(),
        sockets.opened,
        sockets.refused,
        ledger.rotations,
        accounts.changes,
        faults.changes,
        ledger.resets,
        timeline.elapsed().as_secs_f64(),
    );
    assert!(ledger.unanswered > 20, "the kills met {} requests under way", ledger.unanswered);
    assert!(sockets.refused > 20, "{} tokens were tried again", sockets.refused);
    assert!(accounts.changes > 50 && faults.changes > 50 && ledger.resets >= 3, "too little happened");
}
