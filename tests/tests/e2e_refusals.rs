//! What the running relay refuses: every case of `tests/vectors/sbrp_invalid.json` and every row of
//! `tests/vectors/tokens.json`, over real sockets.

mod support;

use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::Deserialize;
use sideband::SessionId;
use sideband_env::{Env, FixedClock};
use sideband_protocol::{
    token::{KeySet, MAX_TOKEN},
    wire::{
        ControlCode::{self, SessionEnded, SessionPaused, SessionPending, SessionResumed},
        Reason, Signal,
    },
};
use sideband_relay_sim::RelayConfig;
use sideband_sim_kit::event::{EventKind, Role};

use self::support::*;

fn id(n: u64) -> SessionId {
    SessionId::new(n).unwrap()
}

// ---- frames

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frames {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    cases: Vec<FrameCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrameCase {
    name: String,
    sender: Role,
    sender_session: SessionId,
    bytes: String,
    expect: FrameVerdict,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrameVerdict {
    code: String,
    session_id: String,
    closes: bool,
}

#[tokio::test]
async fn wire_11_to_17_every_invalid_frame_of_the_vectors() {
    let file: Frames = serde_json::from_str(include_str!("../vectors/sbrp_invalid.json")).unwrap();
    assert!(file.cases.len() >= 45);
    let world = real();
    for case in file.cases {
        let name = &case.name;
        let (own, other) = (case.sender_session, id(0x5ea7_ed00));
        assert_ne!(own, other);
        let relay = Relaying::in_world(world.clone()).await;
        let mut daemon = relay.daemon().await;
        let mut client = relay.client(own).await;
        let mut bystander = relay.client(other).await;
        bystander.reaches(&mut daemon, other).await;

        let code = *ControlCode::ALL.iter().find(|code| code.name() == case.expect.code).expect("a code of the table");
        let told = control(code, u64::from_str_radix(&case.expect.session_id, 16).unwrap());
        let sender = match case.sender {
            Role::Client => &mut client,
            Role::Daemon => &mut daemon,
        };
        sender.send(HEXLOWER.decode(case.bytes.as_bytes()).unwrap().into()).await;
        assert_eq!(sender.got().await, told, "{name}");
        if case.expect.closes {
            assert_eq!(sender.got().await, Got::Close(code.close_code()), "{name}");
            assert_eq!(sender.got().await, Got::Lost, "{name}");
        } else {
            sender.is_undisturbed().await;
        }

        match (case.sender, case.expect.closes) {
            (_, false) => {
                bystander.reaches(&mut daemon, other).await;
                daemon.reaches(&mut bystander, other).await;
            }
            // One client's fault is its own (REL-04).
            (Role::Client, true) => {
                assert_eq!(daemon.got().await, control(SessionEnded, own.get()), "{name}");
                bystander.reaches(&mut daemon, other).await;
                daemon.reaches(&mut bystander, other).await;
            }
            // A daemon's fault costs its socket, and no session.
            (Role::Daemon, true) => {
                for (client, session) in [(&mut client, own), (&mut bystander, other)] {
                    assert_eq!(client.got().await, control(SessionPaused, session.get()), "{name}");
                }
                let mut daemon = relay.daemon().await;
                for (client, session) in [(&mut client, own), (&mut bystander, other)] {
                    assert_eq!(client.got().await, control(SessionPending, session.get()), "{name}");
                    daemon.send(signal(session, Signal::Ready, Reason::None)).await;
                    assert_eq!(client.got().await, control(SessionResumed, session.get()), "{name}");
                    client.reaches(&mut daemon, session).await;
                    daemon.reaches(client, session).await;
                }
            }
        }
    }
}

// ---- tokens

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tokens {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    issuer: String,
    region: String,
    now: u64,
    jwks: serde_json::Value,
    #[serde(rename = "session_ids")]
    _session_ids: serde_json::Value,
    cases: Vec<TokenCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenCase {
    name: String,
    token: String,
    expect: TokenVerdict,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenVerdict {
    status: u16,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    role: Option<Role>,
    #[serde(default)]
    session_id: Option<SessionId>,
    #[serde(default)]
    did: Option<String>,
    #[serde(default)]
    resumable: Option<bool>,
}

fn tokens() -> Tokens {
    serde_json::from_str(include_str!("../vectors/tokens.json")).unwrap()
}

/// A relay with the vectors' issuer, region, clock and keys.
async fn relay_of(file: &Tokens, world: &Env) -> Relaying {
    let env = Env { clock: Arc::new(FixedClock::at_seconds(file.now)), ..world.clone() };
    let keys = KeySet::parse(file.jwks.to_string().as_bytes()).unwrap();
    let mut config = RelayConfig::new(&file.issuer, keys_of(keys));
    config.region = Some(file.region.clone());
    Relaying::with(env, config).await
}

/// How a request can carry a token.
#[derive(Debug, Clone, Copy)]
enum Way {
    Header,
    Query,
}

impl Way {
    async fn ask(self, relay: &Relaying, token: &str) -> Answer {
        match self {
            Self::Header => ask_upgrade(relay.addr, "/relay", &[("authorization", &format!("Bearer {token}"))]).await,
            Self::Query => ask_upgrade(relay.addr, &format!("/any/path?x=1&token={token}"), &[]).await,
        }
    }
}

/// The body of a refusal has a stable code and nothing of the token (TOK-13).
fn tells_nothing(answer: &Answer, token: &str, name: &str) {
    let text = format!("{}{}", answer.head, answer.body).to_ascii_lowercase();
    let parts = token.split('.').filter(|part| part.len() >= 8);
    for part in parts {
        assert!(!text.contains(&part.to_ascii_lowercase()), "{name}: a part of the token is in {text}");
    }
    let claims = token.split('.').nth(1).and_then(|part| data_encoding::BASE64URL_NOPAD.decode(part.as_bytes()).ok());
    let claims: serde_json::Value = claims.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    // Those whose values are no words of the language anyway.
    for claim in ["iss", "sub", "did", "sid", "jti", "region"] {
        let Some(value) = claims[claim].as_str().filter(|value| value.len() > 2) else { continue };
        assert!(!text.contains(&value.to_ascii_lowercase()), "{name}: claim {claim} is in {text}");
    }
}

#[tokio::test]
async fn tok_01_to_11_and_13_every_token_of_the_vectors_both_ways() {
    let file = tokens();
    assert!(file.cases.len() > 40);
    let world = real();
    let mut statuses = std::collections::BTreeMap::new();
    for case in &file.cases {
        for way in [Way::Header, Way::Query] {
            let name = format!("{} by {way:?}", case.name);
            // A session id is used once: a relay for each.
            let relay = relay_of(&file, &world).await;
            let mut seen = relay.events.subscribe();
            let answer = way.ask(&relay, &case.token).await;
            assert_eq!(answer.status, case.expect.status, "{name}: {answer:?}");
            *statuses.entry(answer.status).or_insert(0) += 1;
            let event = soon(seen.recv()).await.unwrap();
            match case.expect.status {
                101 => {
                    assert!(answer.head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer:?}");
                    let EventKind::Opened { role, .. } = event.kind else { panic!("{name}: {event:?}") };
                    assert_eq!(Some(role), case.expect.role, "{name}");
                    assert_eq!(event.session, case.expect.session_id, "{name}");
                    assert_eq!(event.daemon, case.expect.did, "{name}");
                    assert!(case.expect.resumable.is_some() && case.expect.reason.is_none(), "{name}");
                }
                401 | 403 => {
                    let code = if answer.status == 401 { "unauthorized" } else { "forbidden" };
                    assert_eq!(answer.code(), code, "{name}");
                    tells_nothing(&answer, &case.token, &name);
                    let EventKind::UpgradeRefused { status, reason, .. } = event.kind else {
                        panic!("{name}: {event:?}")
                    };
                    assert_eq!((status, Some(reason)), (answer.status, case.expect.reason.clone()), "{name}");
                }
                other => panic!("{name}: the vectors expect {other}"),
            }
        }
    }
    assert_eq!(statuses.keys().copied().collect::<Vec<_>>(), [101, 401, 403]);
}

#[tokio::test]
async fn dmn_12_a_granted_daemon_is_resumable_as_its_token_says() {
    let file = tokens();
    let world = real();
    let client = &file.cases.iter().find(|case| case.name == "client").unwrap();
    let session = client.expect.session_id.unwrap();
    let daemons = file.cases.iter().filter(|case| case.expect.role == Some(Role::Daemon));
    let mut seen = [0, 0];
    for case in daemons.filter(|case| case.expect.did == client.expect.did) {
        let relay = relay_of(&file, &world).await;
        let _first = connect(relay.addr, &case.token).await.unwrap();
        let mut peer = connect(relay.addr, &client.token).await.unwrap();
        assert!(relay.relay.drop_daemon(case.expect.did.as_deref().unwrap()));
        assert_eq!(peer.got().await, control(SessionPaused, session.get()));
        let _again = connect(relay.addr, &case.token).await.unwrap();
        let resumable = case.expect.resumable.unwrap();
        let told = if resumable { SessionPending } else { ControlCode::SessionExpired };
        assert_eq!(peer.got().await, control(told, session.get()), "{}", case.name);
        seen[usize::from(resumable)] += 1;
    }
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

#[tokio::test]
async fn tok_01_the_header_wins_over_the_query() {
    let file = tokens();
    let world = real();
    let find = |name: &str| &file.cases.iter().find(|case| case.name == name).unwrap().token;
    let (good, bad) = (find("client"), &find("client").replace('.', ".x"));
    for (header, query, status) in [(good, bad, 101), (bad, good, 401)] {
        let relay = relay_of(&file, &world).await;
        let headers = [("authorization", &*format!("Bearer {header}"))];
        let answer = ask_upgrade(relay.addr, &format!("/relay?token={query}"), &headers).await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn tok_01_no_token_and_one_that_is_too_long_get_401() {
    let file = tokens();
    let relay = relay_of(&file, &real()).await;
    let none = ask_upgrade(relay.addr, "/relay", &[]).await;
    assert_eq!((none.status, none.code().as_str()), (401, "unauthorized"));
    let long = format!("a.b.{}", "c".repeat(MAX_TOKEN));
    let answer = Way::Header.ask(&relay, &long).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"));
    tells_nothing(&answer, &long, "too long");
}

#[tokio::test]
async fn tok_12_a_connection_outlives_its_token() {
    let file = tokens();
    let clock = Arc::new(FixedClock::at_seconds(file.now));
    let env = Env { clock: clock.clone(), ..real() };
    let keys = KeySet::parse(file.jwks.to_string().as_bytes()).unwrap();
    let mut config = RelayConfig::new(&file.issuer, keys_of(keys));
    config.region = Some(file.region.clone());
    let relay = Relaying::with(env, config).await;
    let find = |name: &str| file.cases.iter().find(|case| case.name == name).unwrap();
    let (client, daemon) = (find("client"), find("daemon, resumable"));
    let mut daemon_peer = connect(relay.addr, &daemon.token).await.unwrap();
    let mut client_peer = connect(relay.addr, &client.token).await.unwrap();
    clock.advance(std::time::Duration::from_secs(7_200));
    let session = client.expect.session_id.unwrap();
    client_peer.reaches(&mut daemon_peer, session).await;
    daemon_peer.reaches(&mut client_peer, session).await;
    assert_eq!(connect(relay.addr, &daemon.token).await.err(), Some(401), "expired by now");
}
