//! `relay.frame`.

use std::time::Duration;

use bytes::Bytes;
use sideband_protocol::wire::{ControlCode, Frame, Signal};
use sideband_sim_kit::limits::RelayLimitsPatch;

use crate::{Faulty, bench::*};

fn one(filter: &str, action: &str) -> Faulty {
    Faulty::one(&format!("on = \"relay.frame\"\n{filter}\ndo = {action}"))
}

/// A Data that is told from others by its first byte.
fn numbered(n: u8) -> Bytes {
    data(1, vec![n; 40])
}

fn number(got: Got) -> u8 {
    match got {
        Got::Frame(frame) => frame[13],
        other => panic!("{other:?}"),
    }
}

const DATA_IN: &str = "frame = \"data\"\nrole = \"client\"\ndirection = \"in\"";
const DATA_OUT: &str = "frame = \"data\"\nrole = \"daemon\"\ndirection = \"out\"";

/// A client sends so many Data, and this is what its daemon gets of them.
async fn passed(faulty: &Faulty, count: u8) -> Vec<u8> {
    let mut daemon = faulty.bench.daemon().await;
    let mut client = faulty.bench.client(1).await;
    (0..count).for_each(|n| client.send(numbered(n)));
    let mut passed = Vec::new();
    while let Some(got) = daemon.within(Duration::from_secs(5)).await {
        passed.push(number(got));
    }
    client.is_undisturbed().await;
    daemon.is_undisturbed().await;
    passed
}

#[tokio::test(start_paused = true)]
async fn frames_are_lost_doubled_and_put_behind_others_in_both_directions_exactly_as_often_as_asked() {
    for place in [DATA_IN, DATA_OUT] {
        for (action, wanted) in [
            ("\"drop\"", vec![0, 1, 4, 5, 6, 7]),
            ("\"duplicate\"", vec![0, 1, 2, 2, 3, 3, 4, 5, 6, 7]),
            ("{ reorder = 3 }", vec![0, 1, 4, 5, 6, 2, 3, 7]),
        ] {
            let faulty = one(&format!("{place}\nskip = 2\ntimes = 2"), action);
            assert_eq!(passed(&faulty, 8).await, wanted, "{place} {action}");
            assert_eq!(faulty.counts(), [(8, 2)], "{place} {action}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_lets_more_pass_than_come_goes_before_the_close() {
    let faulty = one(&format!("{DATA_IN}\ntimes = 1"), "{ reorder = 9 }");
    let mut daemon = faulty.bench.daemon().await;
    let client = faulty.bench.client(1).await;
    (0..2).for_each(|n| client.send(numbered(n)));
    assert_eq!(number(daemon.got().await), 1);
    drop(client);
    assert_eq!(number(daemon.got().await), 0);
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
}

#[tokio::test(start_paused = true)]
async fn a_delay_keeps_all_that_follows_in_its_direction_and_loses_nothing() {
    for place in [DATA_IN, DATA_OUT] {
        let faulty = one(&format!("{place}\nskip = 1\ntimes = 1"), "{ delay = \"60s\" }");
        let mut daemon = faulty.bench.daemon().await;
        let mut client = faulty.bench.client(1).await;
        (0..4).for_each(|n| client.send(numbered(n)));
        assert_eq!(number(daemon.got().await), 0);
        daemon.send(numbered(9));
        assert_eq!(number(client.got().await), 9, "{place}: the other direction goes on");
        assert_eq!(daemon.within(Duration::from_secs(59)).await, None, "{place}");
        for n in 1..4 {
            assert_eq!(number(daemon.got().await), n);
        }
        assert_eq!((faulty.bench.seconds(), faulty.counts()), (60, vec![(4, 1)]), "{place}");
        client.is_undisturbed().await;
        daemon.is_undisturbed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_bit_of_the_payload_changes_and_the_same_one_each_time() {
    let mut bits = Vec::new();
    for place in [DATA_IN, DATA_IN, DATA_OUT] {
        let faulty = one(&format!("{place}\nskip = 1\ntimes = 1"), "\"corrupt\"");
        let mut daemon = faulty.bench.daemon().await;
        let client = faulty.bench.client(1).await;
        (0..3).for_each(|_| client.send(numbered(0)));
        let mut changed = Vec::new();
        for _ in 0..3 {
            let Got::Frame(frame) = daemon.got().await else { panic!("no frame") };
            let ones = |byte: &u8| byte.count_ones();
            changed.push((frame[..13] == numbered(0)[..13], frame[13..].iter().map(ones).sum::<u32>()));
            bits.extend((changed.len() == 2).then_some(frame));
        }
        assert_eq!(changed, [(true, 0), (true, 1), (true, 0)]);
        assert_eq!(faulty.counts(), [(3, 1)]);
    }
    assert!(bits.iter().all(|frame| *frame == bits[0]));
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_in_place_of_a_frame_and_what_came_before_arrives() {
    for (action, end) in [("\"cut\"", Got::Lost), ("{ close = 3456 }", Got::Close(3456))] {
        let faulty = one(&format!("{DATA_IN}\nskip = 2\ntimes = 1"), action);
        let mut daemon = faulty.bench.daemon().await;
        let mut client = faulty.bench.client(1).await;
        (0..4).for_each(|n| client.send(numbered(n)));
        assert_eq!(client.got().await, end);
        assert_eq!([number(daemon.got().await), number(daemon.got().await)], [0, 1]);
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
        assert_eq!(faulty.counts(), [(3, 1)], "{action}");

        let faulty = one(&format!("{DATA_OUT}\nskip = 2\ntimes = 1"), action);
        let mut daemon = faulty.bench.daemon().await;
        let mut client = faulty.bench.client(1).await;
        (0..3).for_each(|n| client.send(numbered(n)));
        assert_eq!([number(daemon.got().await), number(daemon.got().await)], [0, 1]);
        assert_eq!(daemon.got().await, end);
        assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
        assert_eq!(faulty.counts(), [(3, 1)], "{action}");
    }
}

#[tokio::test(start_paused = true)]
async fn wire_09_a_terminal_control_takes_the_place_of_a_frame_and_another_comes_before_it() {
    let faulty = one(&format!("{DATA_IN}\ntimes = 1"), "{ control = \"session_expired\" }");
    let mut daemon = faulty.bench.daemon().await;
    let mut client = faulty.bench.client(1).await;
    client.send(numbered(0));
    client.is_refused(ControlCode::SessionExpired, 1, 1000).await;
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));

    let faulty = one(&format!("{DATA_OUT}\ntimes = 1"), "{ control = \"session_ended\" }");
    let mut daemon = faulty.bench.daemon().await;
    let client = faulty.bench.client(1).await;
    client.send(numbered(7));
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
    assert_eq!(number(daemon.got().await), 7);
    daemon.is_undisturbed().await;
}

#[tokio::test(start_paused = true)]
async fn rel_11_from_a_frame_on_a_connection_is_a_ghost() {
    let faulty = one(&format!("{DATA_IN}\nskip = 1\ntimes = 1"), "\"ghost\"");
    let mut daemon = faulty.bench.daemon().await;
    let mut client = faulty.bench.client(1).await;
    (0..3).for_each(|n| client.send(numbered(n)));
    assert_eq!(number(daemon.got().await), 0);
    daemon.send(numbered(9));
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
    assert_eq!((faulty.bench.seconds(), client.got().await), (90, Got::Lost));
    assert_eq!(faulty.counts(), [(2, 1)]);
}

/// A client's daemon goes, the client answers a Ping, sends a Data, and its daemon comes back. Whether it is marked for that Data.
async fn marked(faulty: &Faulty, told: bool) -> bool {
    let patch = RelayLimitsPatch::parse_json(br#"{"ping":"2s"}"#).unwrap();
    faulty.bench.relay.set_limits(&patch).unwrap();
    let mut client = {
        let _daemon = faulty.bench.daemon().await;
        faulty.bench.client(1).await
    };
    if told {
        assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
    }
    assert_eq!(client.within(Duration::from_secs(5)).await, None);
    client.is_undisturbed().await;
    client.send(numbered(1));
    client.is_undisturbed().await;
    let mut daemon = faulty.bench.daemon().await;
    assert_eq!(client.got().await, control(ControlCode::SessionPending, 1));
    daemon.send(signal(1, Signal::Ready));
    assert_eq!(client.got().await, control(ControlCode::SessionResumed, 1));
    client.send(numbered(2));
    assert_eq!(number(daemon.got().await), 2);
    faulty.bench.relay.events().grades().counts.iter().any(|count| count.rule == "CLI-11")
}

#[tokio::test(start_paused = true)]
async fn cli_11_a_control_that_is_lost_changes_nothing_else_and_who_never_heard_it_is_not_blamed() {
    let rule = "frame = \"control\"\nrole = \"client\"\ndirection = \"out\"\ntimes = 1";
    let faulty = one(rule, "\"drop\"");
    assert!(!marked(&faulty, false).await);
    assert_eq!(faulty.counts(), [(3, 1)]);
    assert!(marked(&Faulty::new(""), true).await, "one who heard it is");
}

#[tokio::test(start_paused = true)]
async fn every_frame_is_counted_once_at_each_rule() {
    let plan = "seed = 3\n[[fault]]\non = \"relay.frame\"\nframe = \"ping\"\nprobability = 0.5\ndo = \"drop\"\n\
                [[fault]]\non = \"relay.frame\"\nframe = \"pong\"\ndo = \"duplicate\"\n";
    let faulty = Faulty::new(plan);
    let mut daemon = faulty.bench.daemon().await;
    (0..100).for_each(|_| daemon.send(Frame::Ping(Bytes::new()).encode()));
    let mut pongs = 0;
    while daemon.within(Duration::from_secs(5)).await.is_some() {
        pongs += 1;
    }
    let counts = faulty.counts();
    let ((100, lost), (answered, doubled)) = (counts[0], counts[1]) else { panic!("{counts:?}") };
    assert_eq!((answered, doubled, pongs), (100 - lost, 100 - lost, 2 * (100 - lost)));
    assert!((20..80).contains(&lost), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn rules_that_are_taken_away_leave_nothing_behind() {
    for place in [DATA_IN, DATA_OUT] {
        let faulty = one(place, "{ delay = \"1h\" }");
        let mut daemon = faulty.bench.daemon().await;
        let client = faulty.bench.client(1).await;
        client.send(numbered(0));
        client.send(numbered(1));
        assert_eq!(daemon.within(Duration::from_secs(1)).await, None, "{place}");
        faulty.faults.clear().unwrap();
        assert_eq!([number(daemon.got().await), number(daemon.got().await)], [0, 1], "{place}");
        client.send(numbered(2));
        assert_eq!((number(daemon.got().await), faulty.bench.seconds()), (2, 1), "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_ends_with_its_rule_and_those_of_other_rules_go_on() {
    let faulty = Faulty::new(&format!(
        "[[fault]]\nid = \"long\"\non = \"relay.frame\"\n{DATA_IN}\ndo = {{ delay = \"1h\" }}\n\
         [[fault]]\nid = \"short\"\non = \"relay.frame\"\n{DATA_IN}\ndo = {{ delay = \"20s\" }}\n\
         [[fault]]\nid = \"over\"\non = \"relay.frame\"\n{DATA_OUT}\nfor = \"40s\"\ndo = {{ delay = \"1h\" }}\n"
    ));
    let mut daemon = faulty.bench.daemon().await;
    let client = faulty.bench.client(1).await;
    client.send(numbered(0));
    assert_eq!(daemon.within(Duration::from_secs(1)).await, None);
    assert!(faulty.faults.remove("long").unwrap());
    assert_eq!((number(daemon.got().await), faulty.bench.seconds()), (0, 40), "20 s of one, and the rest of the other");
}

#[tokio::test(start_paused = true)]
async fn made_up_frames_come_before_the_one_that_they_are_about() {
    for (place, direction) in [(DATA_IN, 1), (DATA_OUT, 1)] {
        let faulty = one(&format!("{place}\nskip = 1\ntimes = 1"), "{ forge = \"data\", frames = 2 }");
        let mut daemon = faulty.bench.daemon().await;
        let mut client = faulty.bench.client(1).await;
        (0..2).for_each(|n| client.send(numbered(n)));
        let mut frames = Vec::new();
        for _ in 0..4 {
            let Got::Frame(frame) = daemon.got().await else { panic!("no frame") };
            frames.push(frame);
        }
        assert_eq!((&frames[0][..], &frames[3][..]), (&numbered(0)[..], &numbered(1)[..]), "{place}");
        assert_eq!((frames[1][0], frames[1][16], &frames[1][5..13]), (3, direction, &numbered(0)[5..13]), "{place}");
        assert_ne!(frames[1], frames[2], "{place}");
        client.is_undisturbed().await;
        daemon.is_undisturbed().await;
    }
}
