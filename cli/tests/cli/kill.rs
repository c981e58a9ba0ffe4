//! A control plane on a file is killed under load, again and again: what it has acknowledged is there, nothing is half there, and
//! no code is good twice. When it is killed is drawn by the number of answers, not by time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, HeaderValue, Method, header::AUTHORIZATION};
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
const MAX_ANSWERS: u64 = 60;

/// Something that changes the store.
#[derive(Debug, Clone)]
enum Op {
    Create,
    Redeem(String),
    Register,
    Session,
    Rotate { hard: bool },
}

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
}

impl Ledger {
    /// Draws what to do next. One rotation at a time, so that their order is known.
    fn draw(&self, source: &mut dyn Entropy, rotating: bool) -> Op {
        match next_below(source, 12) {
            0..=2 => Op::Create,
            3..=7 => {
                let fresh: Vec<_> = self.codes.iter().filter(|(_, code)| code.taken + code.refused < 2).collect();
                match next_below(source, fresh.len() as u64) {
                    _ if fresh.is_empty() => Op::Create,
                    at => Op::Redeem(fresh[at as usize].0.clone()),
                }
            }
            8 => Op::Register,
            9 if !rotating => Op::Rotate { hard: next_below(source, 4) == 0 },
            _ => Op::Session,
        }
    }

    fn note(&mut self, op: Op, answer: Option<(u16, Value)>) {
        let Some((status, answer)) = answer else {
            self.unanswered += 1;
            match op {
                Op::Redeem(code) => self.codes.entry(code).or_default().unknown += 1,
                Op::Rotate { .. } => self.current = None,
                Op::Create | Op::Register | Op::Session => {}
            }
            return;
        };
        let text = |member: &str| answer["result"]["data"][member].as_str().unwrap_or_default().to_owned();
        match (op, status) {
            (Op::Create, 200) => drop(self.codes.entry(text("code")).or_default()),
            // 409: the daemon is offline, and the code is used up (API-04).
            (Op::Redeem(code), 200 | 409) => self.codes.entry(code).or_default().taken += 1,
            (Op::Redeem(code), 404) => self.codes.entry(code).or_default().refused += 1,
            (Op::Register, 200) => self.daemons.push((text("daemonId"), text("apiKey"))),
            (Op::Session, 200) => assert!(self.sessions.insert(session_of(&text("token"))), "API-01"),
            (Op::Rotate { .. }, 200) => {
                self.current = answer["keys"][0]["kid"].as_str().map(str::to_owned);
                self.rotations += 1;
            }
            (op, status) => panic!("{op:?} was answered with {status}: {answer}"),
        }
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

/// One life's addresses and credentials.
#[derive(Clone)]
struct Target {
    env: Env,
    api: String,
    admin: String,
    daemon: String,
    key: String,
    user: String,
}

impl Target {
    fn of(sim: &Sim, env: &Env) -> Self {
        let get = |member: &str| sim.get(member).to_owned();
        let (api, admin, daemon) = (get("apiUrl"), get("adminUrl"), get("daemonId"));
        Self { env: env.clone(), api, admin, daemon, key: get("apiKey"), user: get("accessToken") }
    }

    /// The answer; none if there is none.
    async fn post(&self, url: String, credential: &str, body: Value) -> Option<(u16, Value)> {
        let mut headers = HeaderMap::new();
        if !credential.is_empty() {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {credential}")).unwrap());
        }
        let url = url.parse().unwrap();
        let request =
            HttpRequest { method: Method::POST, url, headers, body: body.to_string().into(), max_answer: 1 << 20 };
        let answer =
            timeout(PATIENCE, self.env.http.send(request)).await.expect("neither an answer nor an end").ok()?;
        Some((answer.status.as_u16(), serde_json::from_slice(&answer.body).ok()?))
    }

    async fn procedure(&self, name: &str, credential: &str, body: Value) -> Option<(u16, Value)> {
        self.post(format!("{}/api/trpc/{name}", self.api), credential, body).await
    }

    async fn run(self, op: Op) -> (Op, Option<(u16, Value)>) {
        let answer = match &op {
            Op::Create => self.procedure("quickConnect.create", &self.key, json!({"ttlSeconds": 3_600})).await,
            Op::Redeem(code) => self.procedure("quickConnect.redeem", "", json!({"code": code})).await,
            Op::Register => self.procedure("daemon.register", &self.user, json!({"name": "one of many"})).await,
            Op::Session => self.procedure("relay.createSession", &self.user, json!({"daemonId": self.daemon})).await,
            Op::Rotate { hard } => self.post(format!("{}/keys/rotate", self.admin), "", json!({"hard": hard})).await,
        };
        (op, answer)
    }
}

/// Runs operations until so many are answered, then kills. What is under way then may still get its answer.
async fn live(sim: &mut Sim, target: &Target, ledger: &mut Ledger, source: &mut dyn Entropy, answers: u64) {
    let mut under_way = JoinSet::new();
    let (mut answered, mut rotating) = (0, false);
    while answered < answers {
        while under_way.len() < AT_ONCE {
            let op = ledger.draw(source, rotating);
            rotating |= matches!(op, Op::Rotate { .. });
            under_way.spawn(target.clone().run(op));
        }
        let (op, answer) = under_way.join_next().await.unwrap().unwrap();
        assert!(answer.is_some(), "{op:?} got no answer from one that lives");
        rotating &= !matches!(op, Op::Rotate { .. });
        ledger.note(op, answer);
        answered += 1;
    }
    sim.kill();
    while let Some(done) = under_way.join_next().await {
        let (op, answer) = done.unwrap();
        ledger.note(op, answer);
    }
    ledger.check();
}

/// Looks into a copy, so that the program itself meets the file as it was left.
fn check_file(file: &str, copy: &str, ledger: &Ledger) {
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
    // A daemon and its key, a key that signs and the one before: never one without the other.
    assert_eq!(count("SELECT count(*) FROM daemon WHERE id NOT IN (SELECT daemon FROM api_key)"), 0);
    assert_eq!(count("SELECT count(*) FROM signing_key WHERE published_until IS NULL"), 1);
    if let Some(current) = &ledger.current {
        assert_eq!(text("SELECT kid FROM signing_key WHERE published_until IS NULL"), *current);
    }
    let has = |sql: &str, id: i64| database.prepare_cached(sql).unwrap().exists([id]).unwrap();
    for session in &ledger.sessions {
        assert!(has("SELECT 1 FROM session_id WHERE id = ?1", session.get().cast_signed()), "{session} is lost");
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

/// Through the front door: the newest daemons can log in, codes that were taken are gone.
async fn check_service(target: &Target, ledger: &mut Ledger) {
    for (daemon, key) in ledger.daemons.iter().rev().take(3) {
        let (status, answer) = target.procedure("daemon.renewToken", key, json!(null)).await.unwrap();
        assert_eq!(status, 200, "{daemon}: {answer}");
    }
    let taken = ledger.codes.iter().filter(|(_, code)| code.taken == 1).map(|(text, _)| text.clone());
    for code in taken.collect::<Vec<_>>().into_iter().rev().take(3) {
        let (status, _) = target.procedure("quickConnect.redeem", "", json!({"code": code})).await.unwrap();
        assert_eq!(status, 404, "{code} is good again");
    }
    if ledger.current.is_none() {
        let keys = format!("{}/keys/rotate", target.admin);
        ledger.note(Op::Rotate { hard: false }, target.post(keys, "", json!({})).await);
    }
}

/// `up`, whose daemon is offline, in turn with `api`, which does not know and lets redeems through.
async fn start(life: u64, file: &str) -> Sim {
    let api = ["api", "--addr", "127.0.0.1:0", "--relay-url", "ws://127.0.0.1:9/relay", "--state", file];
    let up = ["up", "--addr", "127.0.0.1:0", "--state", file];
    Sim::start(if life.is_multiple_of(2) { &up } else { &api }).await
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "figures for whoever runs it")]
async fn api_05_no_kill_loses_what_was_acknowledged_or_makes_a_code_good_twice() {
    let (scratch, env) = (Scratch::new(), Env::real(&Roots::System).unwrap());
    let (file, copy) = (scratch.file("state.db"), scratch.file("copy.db"));
    let mut source = SeededEntropy::new(5, "kills").entropy();
    let (mut ledger, mut answers, timeline) = (Ledger::default(), 0, Timeline::start());
    let mut known = None;
    for life in 0..LIVES {
        let mut sim = start(life, &file).await;
        let target = Target::of(&sim, &env);
        let credentials = (target.daemon.clone(), target.key.clone(), target.user.clone());
        assert_eq!(*known.get_or_insert(credentials.clone()), credentials, "the same in every life");
        check_service(&target, &mut ledger).await;
        let count = 1 + next_below(&mut source, MAX_ANSWERS);
        live(&mut sim, &target, &mut ledger, source.as_mut(), count).await;
        assert_eq!(sim.end().await.code, None, "it was killed");
        check_file(&file, &copy, &ledger);
        answers += count;
    }
    // In the last life every code is tried once more, and those that were taken are gone.
    let sim = start(1, &file).await;
    let target = Target::of(&sim, &env);
    for code in ledger.codes.keys().cloned().collect::<Vec<_>>() {
        let (op, answer) = target.clone().run(Op::Redeem(code)).await;
        ledger.note(op, answer);
    }
    ledger.check();
    assert!(ledger.codes.values().all(|code| code.taken == 1 || code.unknown > 0));
    assert_eq!(sim.stop().await.code, Some(0));
    let taken = ledger.codes.values().filter(|code| code.taken == 1).count();
    println!(
        "{LIVES} kills after {answers} answers, {} requests cut; {} codes of which {taken} redeemed, {} daemons, {} sessions, \
         {} rotations; {:.1} s",
        ledger.unanswered,
        ledger.codes.len(),
        ledger.daemons.len(),
        ledger.sessions.len(),
        ledger.rotations,
        timeline.elapsed().as_secs_f64(),
    );
    assert!(ledger.unanswered > 20, "the kills met {} requests under way", ledger.unanswered);
}
