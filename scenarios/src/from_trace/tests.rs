//! Recordings of the proven world as the field would have written it, and of events made by hand.

use sideband_protocol::SessionId;
use sideband_sim_kit::{
    event::{Closer, Direction, Event, EventKind, FrameDetail, Role},
    fault::{FaultPlan, Format},
};

use super::*;
use crate::{
    scenario::{Action, Kind, Scenario},
    sim,
    situation::{Situation, Situations},
    trace::Trace,
    world,
};

const D: &str = "d_1";

fn event(at: u64, session: Option<u64>, kind: EventKind) -> Event {
    let host = if matches!(kind, EventKind::Request { .. } | EventKind::KeysRotated { .. }) { "api" } else { "relay" };
    let session = session.and_then(SessionId::new);
    Event { at, host: host.to_owned(), daemon: Some(D.to_owned()), session, kind }
}

fn opened(at: u64, connection: u64, session: Option<u64>) -> Event {
    let (role, resumable) = match session {
        Some(_) => (Role::Client, None),
        None => (Role::Daemon, Some(true)),
    };
    event(at, session, EventKind::Opened { connection, role, token: None, resumable })
}

fn closed(at: u64, connection: u64, code: Option<u16>, by: Option<Closer>) -> Event {
    event(at, None, EventKind::Closed { connection, code, by, answered: false })
}

fn fault(at: u64, session: Option<u64>, number: u64, on: &str, action: &str) -> Event {
    let (on, action) = (on.to_owned(), action.to_owned());
    event(at, session, EventKind::Fault { rule: "storm".to_owned(), number, on, action })
}

fn request(at: u64, procedure: &str, status: u16, session: Option<u64>) -> Event {
    let (procedure, caller) = (procedure.to_owned(), Some("u".to_owned()));
    let retry_after_ms = (status == 429).then_some(7_000);
    event(
        at,
        session,
        EventKind::Request {
            procedure,
            status,
            caller,
            code: None,
            retry_after_ms,
            took_ms: 0,
            token: None,
            http: None,
        },
    )
}

fn data(at: u64, connection: u64, session: u64, direction: Direction, bytes: usize) -> Event {
    let (frame, detail) = ("data".to_owned(), FrameDetail::default());
    event(at, Some(session), EventKind::Frame { connection, direction, frame, bytes, detail })
}

fn read(events: Vec<Event>) -> FieldRecording {
    FieldRecording::read(&Trace::new(events))
}

fn scenario(recording: &FieldRecording) -> Replay {
    recording.to_scenario("field", None).unwrap()
}

/// What the scenario's file says reads as the same scenario.
fn file(scenario: &Scenario) -> String {
    let text = scenario.to_toml();
    let again = Scenario::parse("field.toml", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again, *scenario, "{text}");
    text
}

#[test]
fn the_world_is_found_again_in_what_relay_and_api_told() {
    let trace = world::run(0).unwrap();
    let wire: Vec<Event> =
        trace.events().iter().filter(|event| event.host == "relay" || event.host == "api").cloned().collect();
    let recording = read(wire);
    assert_eq!(recording.daemons.len(), 1);
    assert_eq!(recording.daemons[0].connections.len(), 2, "it came back once");
    assert!(recording.daemons[0].resumable);
    // Both clients have one user; the second session of client-b follows the one that was swept.
    assert_eq!(recording.clients.len(), 2);
    let sessions: Vec<usize> = recording.clients.iter().map(|client| client.connections.len()).collect();
    assert_eq!(sessions, [1, 2]);
    let calls: Vec<usize> = recording.clients.iter().map(|client| client.calls.len()).collect();
    assert_eq!(calls, [7, 6], "five sums, the slow one, one more; five sums, and one with the new session");
    let drops: Vec<&FieldAct> = recording.steps.iter().map(|step| &step.what).collect();
    assert_eq!(drops, [&FieldAct::DropDaemon { daemon: 0 }]);
    let replay = scenario(&recording);
    file(&replay.scenario);
    let kinds: Vec<Kind> = replay.scenario.hosts.iter().map(|host| host.kind).collect();
    assert_eq!(kinds, [Kind::Cloud, Kind::Daemon, Kind::Client, Kind::Client]);
    assert!(replay.scenario.steps.iter().any(|step| step.action == Action::Drop("daemon-1".to_owned())));
}

#[test]
fn the_worlds_replay_runs_and_resumes_as_the_world_did() {
    let trace = world::run(0).unwrap();
    let wire: Vec<Event> =
        trace.events().iter().filter(|event| event.host == "relay" || event.host == "api").cloned().collect();
    let replay = scenario(&read(wire));
    let run = sim::run(&replay.scenario, 0, &sim::RunOptions::default()).unwrap();
    assert_eq!(run.failures, []);
    let again = FieldRecording::read(&run.trace);
    assert_eq!(again.clients.len(), 2);
    assert_eq!(again.daemons[0].connections.len(), 2);
    let reached = Situations::of(run.trace.events());
    for situation in [Situation::Resumed, Situation::DaemonCutUnderSessions, Situation::ResumedWithCallInFlight] {
        assert!(reached.contains(&situation), "{situation}: {reached:?}");
    }
}

#[test]
fn a_replayed_fault_hits_the_same_event() {
    // The second session was refused twice, at the first retry and the next one.
    let mut events = vec![opened(0, 1, None)];
    events.push(request(1_000, "relay.createSession", 200, Some(5)));
    events.push(opened(1_050, 2, Some(5)));
    events.push(closed(4_000, 2, None, None));
    for (n, at) in [(1, 5_000), (2, 7_000)] {
        events.push(fault(at, None, n, "api.request", "status"));
        events.push(request(at, "relay.createSession", 503, None));
    }
    events.push(request(11_000, "relay.createSession", 200, Some(6)));
    events.push(opened(11_050, 3, Some(6)));
    events.push(closed(20_000, 3, Some(1_000), Some(Closer::Peer)));
    let replay = scenario(&read(events));
    let run = sim::run(&replay.scenario, 0, &sim::RunOptions::default()).unwrap();
    assert_eq!((run.failures.as_slice(), run.never_fired.as_slice()), (&[][..], &[][..]));
    let again = FieldRecording::read(&run.trace);
    let hit: Vec<_> =
        again.faults.iter().map(|fault| (fault.count, fault.status, fault.procedure.as_deref())).collect();
    assert_eq!(
        hit,
        [(Some(1), Some(503), Some("relay.createSession")), (Some(2), Some(503), Some("relay.createSession"))]
    );
    assert_eq!(again.clients.len(), 1);
    assert_eq!(again.clients[0].connections.len(), 2);
}

#[test]
fn faults_keep_their_counts_and_those_in_a_row_are_one_rule() {
    let mut events = vec![opened(0, 1, None), request(10, "relay.createSession", 200, Some(5)), opened(20, 2, Some(5))];
    for n in 0..3 {
        events.push(fault(1_000 + n * 1_000, None, n + 1, "api.request", "status"));
        events.push(request(1_000 + n * 1_000, "relay.createSession", 429, None));
    }
    events.push(request(5_000, "relay.createSession", 200, Some(6)));
    events.push(fault(6_000, None, 4, "api.request", "status"));
    events.push(request(6_000, "relay.createSession", 429, None));
    let recording = read(events);
    let counts: Vec<Option<u64>> = recording.faults.iter().map(|fault| fault.count).collect();
    assert_eq!(counts, [Some(1), Some(2), Some(3), Some(5)]);
    assert!(recording.refusals.iter().all(|refusal| refusal.by_fault));
    let replay = scenario(&recording);
    let rules = &replay.scenario.faults;
    assert_eq!(rules.len(), 2);
    assert_eq!((rules[0].skip, rules[0].times, rules[1].skip), (Some(1), Some(3), Some(5)));
    let text = file(&replay.scenario);
    assert!(text.contains("retry_after = \"7s\"") && text.contains("status = 429"), "{text}");
}

#[test]
fn a_fault_at_a_connection_knows_whose_it_was_and_how_old() {
    let recording = read(vec![
        opened(0, 1, None),
        opened(100, 2, Some(5)),
        opened(200, 3, Some(6)),
        fault(5_200, Some(6), 1, "relay.connection", "cut"),
        closed(5_200, 3, None, None),
    ]);
    let fault = &recording.faults[0];
    assert_eq!((fault.role, fault.age, fault.count), (Some(Role::Client), Some(5_000), Some(1)));
    assert_eq!(recording.steps, [], "the fault cut it, nobody else");
    let rule = &scenario(&recording).scenario.faults[0];
    assert_eq!((rule.skip, rule.role), (Some(1), Some(Role::Client)));
}

#[test]
fn a_socket_that_broke_without_a_fault_was_dropped() {
    let recording = read(vec![
        opened(0, 1, None),
        opened(100, 2, Some(5)),
        closed(3_000, 2, None, None),
        closed(4_000, 1, None, None),
    ]);
    let acts: Vec<(u64, &FieldAct)> = recording.steps.iter().map(|step| (step.at, &step.what)).collect();
    assert_eq!(acts, [(3_000, &FieldAct::DropClient { client: 0 }), (4_000, &FieldAct::DropDaemon { daemon: 0 })]);
}

#[test]
fn the_operators_steps_are_found() {
    let rotated = |hard| EventKind::KeysRotated { current: "k".to_owned(), hard };
    let recording = read(vec![
        opened(0, 1, None),
        event(1_000, None, rotated(true)),
        fault(2_000, None, 1, "keys", "rotate"),
        event(2_000, None, rotated(false)),
        closed(3_000, 1, Some(1_012), Some(Closer::Relay)),
        event(5_000, None, EventKind::Restarted),
        event(6_000, None, EventKind::LimitsChanged),
    ]);
    let acts: Vec<(u64, &FieldAct)> = recording.steps.iter().map(|step| (step.at, &step.what)).collect();
    assert_eq!(
        acts,
        [
            (1_000, &FieldAct::Rotate { hard: true }),
            (3_000, &FieldAct::Restart { down: 2_000 }),
            (6_000, &FieldAct::Limits)
        ]
    );
    assert_eq!(recording.faults[0].hard, Some(false));
    let replay = scenario(&recording);
    assert!(replay.guesses.iter().any(|guess| guess.contains("limits")), "{:?}", replay.guesses);
    file(&replay.scenario);
}

#[test]
fn calls_have_the_times_and_sizes_of_their_frames() {
    use Direction::{In, Out};
    let recording = read(vec![
        opened(0, 1, None),
        opened(0, 2, Some(5)),
        data(10, 2, 5, Out, 153),
        data(20, 2, 5, In, 153),
        data(1_000, 2, 5, In, 1_130),
        data(1_040, 2, 5, Out, 1_130),
        data(2_000, 2, 5, In, 136),
        data(6_000, 2, 5, Out, 136),
        data(6_990, 2, 5, In, 60),
        closed(7_000, 2, Some(1_000), Some(Closer::Peer)),
    ]);
    assert_eq!(
        recording.clients[0].calls,
        [
            FieldCall { at: 1_000, bytes: 1_130, answered_after: Some(40) },
            FieldCall { at: 2_000, bytes: 136, answered_after: Some(4_000) }
        ]
    );
    let replay = scenario(&recording);
    let methods: Vec<(&str, usize)> = replay
        .scenario
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Call(call) => {
                Some((call.method.as_str(), call.params.as_ref().map_or(0, |params| params.0.to_string().len())))
            }
            _ => None,
        })
        .collect();
    assert_eq!(methods, [("echo", 1_011), ("sleep", 11)]);
    assert_eq!(replay.scenario.steps.last().unwrap().action, Action::Close, "it closed by itself");
}

#[test]
fn with_the_plan_that_ran_a_rule_does_what_the_plan_says() {
    let recording = read(vec![opened(0, 1, None), fault(3_000, None, 1, "relay.connection", "pause")]);
    let without = scenario(&recording);
    assert!(without.guesses.iter().any(|guess| guess.contains("the pause of rule `storm`")), "{:?}", without.guesses);
    let text = "[[fault]]\nid = \"storm\"\non = \"relay.connection\"\nage = \"3s\"\ndo = { pause = \"12s\" }\n";
    let plan = FaultPlan::parse(text, Format::Toml).unwrap();
    let with = recording.to_scenario("field", Some(&plan)).unwrap();
    assert!(!with.guesses.iter().any(|guess| guess.contains("storm")), "{:?}", with.guesses);
    assert!(file(&with.scenario).contains("pause = \"12s\""));
}

#[test]
fn sessions_at_one_time_are_of_several_clients_and_one_after_the_other_of_one() {
    let request = |at, session| request(at, "relay.createSession", 200, Some(session));
    let recording = read(vec![
        opened(0, 1, None),
        request(0, 5),
        opened(10, 2, Some(5)),
        request(20, 6),
        opened(30, 3, Some(6)),
        closed(1_000, 2, None, None),
        request(2_000, 7),
        opened(2_010, 4, Some(7)),
        closed(3_000, 3, Some(1_000), Some(Closer::Peer)),
        request(4_000, 8),
        opened(4_010, 5, Some(8)),
    ]);
    let numbers: Vec<Vec<u64>> = recording
        .clients
        .iter()
        .map(|client| client.connections.iter().map(|connection| connection.number).collect())
        .collect();
    assert_eq!(numbers, [vec![2, 4], vec![3], vec![5]], "who closed in order was done");
}

#[test]
fn a_trace_without_anybody_or_with_nonsense_in_it_is_refused_or_told_of() {
    assert!(matches!(read(Vec::new()).to_scenario("field", None), Err(FieldError::Empty)));
    let nonsense = read(vec![
        opened(0, 1, None),
        fault(1, None, 1, "nowhere", "cut"),
        fault(2, None, 2, "api.request", "ghost"),
        fault(3, None, 3, "relay.connection", "limit"),
    ]);
    let replay = scenario(&nonsense);
    assert_eq!(replay.scenario.faults, []);
    insta::assert_snapshot!("guesses", replay.guesses.join("\n"));
    let crowd = read((1..=300).map(|n| opened(0, n, Some(n))).collect());
    assert!(matches!(crowd.to_scenario("field", None), Err(FieldError::TooManyHosts(301 | 300))));
}
