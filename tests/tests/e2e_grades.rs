//! Live grades: peers that break rules are marked by a real relay and API, and the SDK is not.

mod support;

use bytes::Bytes;
use sideband::{Lifecycle, State};
use sideband_protocol::{
    SessionId,
    wire::{Frame, Reason, Signal},
};
use sideband_scenarios::cloud::CloudOptions;
use sideband_sim_kit::{
    admin::AdminClient,
    event::EventKind,
    fault::{FaultPlan, Format},
    observer::MOST_SHARING,
};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

/// The rules broken so far, in the order in which they were.
fn rules(world: &World) -> Vec<String> {
    world.cloud.events().grades().grades.into_iter().map(|grade| grade.rule).collect()
}

/// Waits until a grade is told, and gives its rule.
async fn graded(world: &mut World) -> String {
    match world.event(|event| matches!(event.kind, EventKind::Grade { .. })).await.kind {
        EventKind::Grade { rule, .. } => rule,
        other => panic!("{other:?}"),
    }
}

fn sealed(session: SessionId, direction: u32, sequence: u64) -> Bytes {
    let mut payload = direction.to_be_bytes().to_vec();
    payload.extend(sequence.to_be_bytes());
    payload.extend([0xa5; 30]);
    data(session, payload)
}

/// A daemon and a client with an exchange of keys behind them.
async fn pair(world: &World, resumable: bool) -> (SessionId, Peer, Peer) {
    let mut daemon = world.raw_daemon(resumable).await;
    let (session, mut client) = world.raw_client().await;
    client.send(Frame::HandshakeInit { session, client_ephemeral: [1; 32] }.encode()).await;
    daemon.got().await;
    daemon.send(Frame::HandshakeAccept { session, payload: vec![2; 128].into() }.encode()).await;
    client.got().await;
    (session, daemon, client)
}

#[tokio::test]
async fn wrong_frames_are_marked() {
    let mut world = World::start().await;
    world.has_wrong_peers();
    let (session, mut daemon, mut client) = pair(&world, true).await;
    client.send(sealed(session, 1, 0)).await;
    daemon.got().await;
    assert_eq!(rules(&world), [""; 0], "nothing is wrong so far");
    // Another number than the next one.
    client.send(sealed(session, 1, 0)).await;
    assert_eq!(graded(&mut world).await, "CRY-04");
    client.send(sealed(session, 2, 1)).await;
    assert_eq!(graded(&mut world).await, "CRY-09");
    daemon.send(Frame::HandshakeAccept { session, payload: vec![2; 128].into() }.encode()).await;
    assert_eq!(graded(&mut world).await, "WIRE-21");
    client.send(signal(session, Signal::Ready, Reason::None)).await;
    assert_eq!(graded(&mut world).await, "WIRE-15");
    daemon.send(sealed(SessionId::new(1).unwrap(), 2, 0)).await;
    assert_eq!(graded(&mut world).await, "WIRE-17");
}

#[tokio::test]
async fn messages_that_no_relay_takes_are_marked() {
    let mut world = World::start().await;
    world.has_wrong_peers();
    let _daemon = world.raw_daemon(true).await;
    for (message, rule) in [
        (Message::text("hello"), "WIRE-03"),
        (Message::binary(vec![0; (1 << 20) + 1]), "WIRE-04"),
        (Message::binary(vec![3; 12]), "WIRE-11"),
        (Message::binary(vec![0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "WIRE-13"),
    ] {
        let (_, mut client) = world.raw_client().await;
        client.send_message(message).await;
        assert_eq!(graded(&mut world).await, rule);
    }
}

#[tokio::test]
async fn tokens_and_codes_that_come_again_are_marked() {
    let mut world = World::start().await;
    world.has_wrong_peers();
    let token = world.presence_token(true).await;
    let _first = world.connect(&token).await.unwrap();
    let _daemon = world.connect(&token).await.unwrap();
    assert_eq!(graded(&mut world).await, "DMN-03");

    let grant = world.grant().await;
    let client = world.connect(&grant.token).await.unwrap();
    client.close().await;
    assert_eq!(world.connect(&grant.token).await.err(), Some(409));
    assert_eq!(graded(&mut world).await, "CLI-01");

    let key = format!("Bearer {}", world.cloud.bootstrap().api_key.expose());
    let (_, made) = world.post("quickConnect.create", &[("authorization", &key)], serde_json::json!({})).await;
    let code = made["result"]["data"]["code"].as_str().unwrap().to_owned();
    let (status, redeemed) = world.redeem(&code).await;
    assert_eq!(status, 200);
    let client = world.connect(redeemed["result"]["data"]["token"].as_str().unwrap()).await.unwrap();
    drop(client);
    world.event(|event| matches!(event.kind, EventKind::Closed { .. })).await;
    assert_eq!(world.redeem(&code).await.0, 404);
    assert_eq!(rules(&world), ["DMN-03", "CLI-01"], "it may be another client with the same code");
    assert_eq!(world.redeem(&code).await.0, 404);
    assert_eq!(graded(&mut world).await, "CLI-02");
    assert_eq!(rules(&world), ["DMN-03", "CLI-01", "CLI-02"]);
    let told = serde_json::to_string(&world.cloud.events().recent()).unwrap();
    for secret in [&code, &token, &grant.token] {
        assert!(!told.contains(secret.as_str()), "no event holds a token or a code");
    }
}

#[tokio::test]
async fn a_wrong_order_after_a_resume_is_marked() {
    let mut world = World::start().await;
    world.has_wrong_peers();
    let (session, daemon, _client) = pair(&world, true).await;
    drop(daemon);
    world.session(session, "paused").await;
    let mut daemon = world.raw_daemon(true).await;
    daemon.send(sealed(session, 2, 0)).await;
    assert_eq!(graded(&mut world).await, "DMN-11");
    daemon.send(signal(session, Signal::Ready, Reason::None)).await;
    world.session(session, "paired").await;
    assert_eq!(rules(&world), ["DMN-11"; 2], "Data before ready, and ready after Data");
    let grades = world.cloud.events().grades();
    assert_eq!(
        (grades.grades[0].session, grades.grades[0].daemon.as_deref()),
        (Some(session), Some(world.daemon_id()))
    );
}

#[tokio::test]
async fn the_admin_api_tells_grades_and_forgets_them() {
    let mut world = World::start().await;
    world.has_wrong_peers();
    let mut daemon = world.raw_daemon(true).await;
    daemon.send_message(Message::text("hello")).await;
    assert_eq!(graded(&mut world).await, "WIRE-03");
    let admin = AdminClient::new(world.env.clone(), world.cloud.admin_url().parse().unwrap(), None);
    let grades = admin.grades().await.unwrap();
    assert_eq!(grades, world.cloud.events().grades());
    assert_eq!(admin.status().await.unwrap().grades, grades.counts);
    assert_eq!((&*grades.counts[0].rule, grades.counts[0].count), ("WIRE-03", 1));
    assert_eq!(admin.clear_grades().await.unwrap(), Default::default());
    assert_eq!(admin.status().await.unwrap().grades, []);
}

/// `grades`, `status` and `/metrics` count each breach, though few are told.
#[tokio::test]
async fn every_breach_is_counted_the_same_everywhere() {
    let world = World::start().await;
    world.has_wrong_peers();
    let (session, mut daemon, mut client) = pair(&world, true).await;
    client.send(sealed(session, 1, 0)).await;
    daemon.got().await;
    for _ in 0..999 {
        client.send(sealed(session, 1, 0)).await;
        daemon.got().await;
    }
    let admin = AdminClient::new(world.env.clone(), world.cloud.admin_url().parse().unwrap(), None);
    let grades = admin.grades().await.unwrap();
    assert_eq!(grades.counts.iter().map(|count| (&*count.rule, count.count)).collect::<Vec<_>>(), [("CRY-04", 999)]);
    assert_eq!(
        grades.grades.iter().map(|grade| grade.times).collect::<Vec<_>>(),
        (0..10).map(|n| 1 << n).collect::<Vec<_>>()
    );
    assert_eq!(admin.status().await.unwrap().grades, grades.counts);
    let metrics = metrics(&world).await;
    let line = r#"sideband_sim_grades_total{rule="CRY-04",party="client"} 999"#;
    assert!(metrics.lines().any(|found| found.trim() == line), "{metrics}");
}

/// The text of `/metrics`.
async fn metrics(world: &World) -> String {
    let mut stream = TcpStream::connect(world.cloud.addr()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    soon(stream.read_to_string(&mut text)).await.unwrap();
    text
}

/// The parameters of a raw request for a session.
fn ask_for_a_session(world: &World, more: &str) -> String {
    let body = serde_json::json!({ "daemonId": world.daemon_id() }).to_string();
    format!(
        "POST /api/trpc/relay.createSession HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\n{more}content-length: {}\r\n\r\n{body}",
        world.cloud.bootstrap().access_token.expose(),
        body.len()
    )
}

/// The statuses of these requests, one after the other on one connection.
async fn on_one_connection(world: &World, requests: &[String]) -> Vec<u16> {
    let mut stream = TcpStream::connect(world.cloud.addr()).await.unwrap();
    let mut statuses = Vec::new();
    for request in requests {
        stream.write_all(request.as_bytes()).await.unwrap();
        statuses.push(soon(status(&mut stream)).await);
    }
    statuses
}

/// Reads one answer with its body.
async fn status(stream: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    head[9..12].parse().unwrap()
}

const TOLD_TO_WAIT: &str = "[[fault]]\non = \"api.request\"\n\
     do = { status = 429, retry_after = \"60s\" }";

#[tokio::test]
async fn cli_06_a_client_that_was_told_to_wait_and_does_not_is_marked() {
    let mut world = World::start().await;
    world.has_wrong_peers();
    world.cloud.faults().set(FaultPlan::parse(TOLD_TO_WAIT, Format::Toml).unwrap()).unwrap();
    let ask = vec![ask_for_a_session(&world, ""); 20];
    assert_eq!(on_one_connection(&world, &ask[..MOST_SHARING]).await, [429; MOST_SHARING]);
    assert_eq!(rules(&world), [""; 0], "so many clients may share a connection");
    assert_eq!(on_one_connection(&world, &ask).await, [429; 20]);
    assert_eq!(graded(&mut world).await, "CLI-06");
    let grades = world.cloud.events().grades();
    let grade = &grades.grades[0];
    assert_eq!((grade.daemon.as_deref(), grade.connection), (Some(world.daemon_id()), None));
    assert!(grade.evidence.starts_with("relay.createSession "), "{}", grade.evidence);
    assert_eq!(grades.counts[0].count, 4);
}

#[tokio::test]
async fn cli_06_a_daemon_that_does_not_wait_is_marked_whatever_connections_it_uses() {
    let mut world = World::start().await;
    world.has_wrong_peers();
    world.cloud.faults().set(FaultPlan::parse(TOLD_TO_WAIT, Format::Toml).unwrap()).unwrap();
    let key = world.cloud.bootstrap().api_key.expose().to_owned();
    let ask = [format!(
        "POST /api/trpc/daemon.renewToken HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
    )];
    for _ in 0..20 {
        assert_eq!(on_one_connection(&world, &ask).await, [429]);
    }
    assert_eq!(graded(&mut world).await, "CLI-06");
    assert_eq!(world.cloud.events().grades().counts[0].count, 4);
}

/// Other processes, a page that is loaded again, and who asks through a proxy were not told, though they have the same token.
#[tokio::test]
async fn cli_06_who_was_not_told_to_wait_gets_no_mark() {
    for more in ["", "origin: http://localhost:3000\r\n", "via: 1.1 proxy\r\n"] {
        let world = World::start().await;
        world.cloud.faults().set(FaultPlan::parse(TOLD_TO_WAIT, Format::Toml).unwrap()).unwrap();
        let ask = vec![ask_for_a_session(&world, more); 20];
        let statuses = if more.is_empty() {
            [on_one_connection(&world, &ask[..10]).await, on_one_connection(&world, &ask[10..]).await].concat()
        } else {
            on_one_connection(&world, &ask).await
        };
        assert_eq!((statuses, rules(&world)), (vec![429; 20], Vec::new()), "{more}");
    }
}

/// Connect, calls, a resume, a lost client, Quick Connect, and goodbye.
#[tokio::test]
async fn the_sdk_gets_no_mark() {
    let world = World::with(CloudOptions { trace_frames: true, ..CloudOptions::default() }).await;
    let server = world.serve().await;
    let (first, second) = (world.client().await, world.client().await);
    echoes(&first).await;
    let mut events = first.events_from_now();
    assert!(world.cloud.relay().drop_daemon(world.daemon_id()));
    lifecycle(&mut events, |event| matches!(event, Lifecycle::Resumed)).await;
    for client in [&first, &second] {
        reaches(&mut client.state(), State::Active).await;
        echoes(client).await;
    }
    let mut events = second.events_from_now();
    let sessions = world.cloud.relay().status().daemons[0].sessions.clone();
    for session in sessions {
        world.cloud.relay().drop_session(session.session_id);
    }
    lifecycle(&mut events, |event| matches!(event, Lifecycle::Connected { .. })).await;
    echoes(&second).await;
    let code = soon(server.create_quick_connect(None)).await.unwrap();
    let third = world.quick_connect(&code.code).connect().unwrap();
    soon(third.when_ready()).await.unwrap();
    echoes(&third).await;
    for client in [first, second, third] {
        soon(client.close()).await;
    }
    soon(server.close()).await;
    soon(world.cloud.relay().shutdown()).await;
    assert_eq!(world.cloud.events().grades(), Default::default());
    let frames =
        world.cloud.events().recent().iter().filter(|event| matches!(event.kind, EventKind::Frame { .. })).count();
    assert!(frames > 50, "{frames} frames were judged");
}
