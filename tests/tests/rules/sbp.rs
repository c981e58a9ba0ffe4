//! SBP frames: SBP-01 to SBP-07.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use sideband::{Context, HandlerError, Lifecycle, ServerEvent};
use sideband_protocol::{
    failure::Cause,
    rpc::Envelope,
    sbp::{self, ErrorCode, FrameBody, FrameId},
    wire::{Frame, Reason, Signal},
};
use sideband_tests::script::{World, soon};

use crate::{
    both::{Arm, Endpoint, Meeting, both},
    endpoints::{connect, listen},
    witness::{due, witnesses},
};

/// An introduction with these members in place of the ordinary ones; null takes one away.
fn hello(change: &Value) -> Bytes {
    let mut members = json!({ "protocol": "sideband", "version": "1", "peerId": "peer_far" });
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            members.as_object_mut().unwrap().remove(name);
        } else {
            members[name] = value.clone();
        }
    }
    members.to_string().into()
}

fn handshake(frame: &sbp::Frame) -> Value {
    match &frame.body {
        FrameBody::Handshake(json) => serde_json::from_slice(json).unwrap(),
        other => panic!("an introduction was due, not {other:?}"),
    }
}

/// Text behind its length.
fn text(length: u32, text: &[u8], rest: &[u8]) -> Vec<u8> {
    [&length.to_le_bytes()[..], text, rest].concat()
}

/// Layouts that are broken behind the id: what is wrong, kind, flags, the rest.
fn broken_layouts() -> Vec<(&'static str, u8, u8, Vec<u8>)> {
    vec![
        ("an unknown kind", 4, 0, vec![]),
        ("the last kind of all", 255, 0, b"x".to_vec()),
        ("Control without an operation", 0, 0, vec![]),
        ("an unknown operation", 0, 0, vec![4]),
        ("a handshake without data", 0, 0, vec![0]),
        ("a Ping with data", 0, 0, vec![1, 0]),
        ("a Pong with data", 0, 0, vec![2, 0]),
        ("a Close whose reason is no UTF-8", 0, 0, vec![3, 0xff]),
        ("a timestamp flag without a timestamp", 0, 1, vec![1]),
        ("a Message without a subject", 1, 0, vec![]),
        ("a subject length cut short", 1, 0, vec![3, 0, 0]),
        ("a subject longer than the frame", 1, 0, text(4, b"rpc", b"")),
        ("a subject length beyond all frames", 1, 0, text(u32::MAX, b"rpc", b"{}")),
        ("a subject that is no UTF-8", 1, 0, text(2, b"\xff\xfe", b"{}")),
    ]
}

/// The same of the kinds that are never answered.
fn broken_receipts() -> Vec<(&'static str, u8, u8, Vec<u8>)> {
    vec![
        ("an Ack without an id", 2, 0, vec![]),
        ("an Ack of 15 bytes", 2, 0, vec![7; 15]),
        ("an Ack of 17 bytes", 2, 0, vec![7; 17]),
        ("an Error without a code", 3, 0, vec![]),
        ("an Error with half a code", 3, 0, vec![0xe8]),
        ("an Error without a message", 3, 0, vec![0xe8, 3]),
        ("an Error whose message is longer than the frame", 3, 0, [&[0xe8, 3][..], &text(9, b"short", b"")].concat()),
        ("an Error whose message is no UTF-8", 3, 0, [&[0xe8, 3][..], &text(1, b"\xff", b"")].concat()),
    ]
}

/// Bytes before the frame id would be complete.
fn cut_short(kind: u8) -> Vec<u8> {
    [&[kind, 0][..], &[9; 15]].concat()
}

/// Says an Error with this code.
async fn report(meeting: &mut Meeting, code: u16) {
    let details = Bytes::from_static(b"more");
    meeting.link.say(FrameBody::Error { code, message: "words".to_owned(), details }).await;
}

witnesses! {
    /// No two frames have the same id, nor one that could be told from another.
    async fn sbp_01_ids_are_random_and_new(quirks) breaks_with [ReusesFrameIds] {
        both(quirks, async |setup| {
            let setup = setup.with(|account| account.receipts(true), |daemon| daemon.receipts(true));
            let mut meeting = setup.keys().await;
            let mut ids = vec![meeting.link.heard().await.id];
            meeting.link.say(FrameBody::Handshake(hello(&json!({})))).await;
            meeting.stands().await;
            let peer = meeting.peer();
            for round in 0..20 {
                meeting.link.say(FrameBody::Ping).await;
                ids.push(meeting.link.heard().await.id);
                peer.emit("e", round).await.unwrap();
                ids.push(meeting.link.heard().await.id);
                peer.send("app/x", "data").await.unwrap();
                ids.push(meeting.link.heard().await.id);
                let caller = peer.clone();
                tokio::spawn(async move { caller.call::<_, ()>("m", ()).await });
                ids.push(meeting.link.heard().await.id);
                meeting.link.request("unknown", json!(null)).await;
                // The Ack and the answer.
                ids.push(meeting.link.heard().await.id);
                ids.push(meeting.link.heard().await.id);
            }
            let halves: BTreeSet<_> = ids.iter().flat_map(|id| {
                let (a, b) = id.as_bytes().split_at(8);
                [a.to_vec(), b.to_vec()]
            }).collect();
            assert_eq!(halves.len(), 2 * ids.len(), "{:?}: ids share parts: {ids:?}", setup.arm);
        })
        .await;
    }

    /// Any 16 bytes are an id, and a second frame may have the same one.
    async fn sbp_01_ids_of_the_other_side_are_opaque(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for id in [[0; 16], [0xff; 16], [7; 16], [7; 16]] {
                meeting.say(FrameId::from_bytes(id), FrameBody::Ping).await;
                assert_eq!(meeting.link.heard().await.body, FrameBody::Pong, "{:?}", setup.arm);
            }
        })
        .await;
    }

    /// An Error about a frame has that frame's id in its header.
    async fn sbp_01_error_repeats_the_frames_id(quirks) breaks_with [ErrorsUnderNewId] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for _ in 0..3 {
                let id = meeting.message("nobody's", "data").await;
                meeting.hears_error(ErrorCode::InvalidFrame, Some(id)).await;
                let id = meeting.say_raw(9, 0, b"").await;
                meeting.hears_error(ErrorCode::InvalidFrame, Some(id)).await;
                let id = meeting.message("rpc", "no envelope").await;
                meeting.hears_error(ErrorCode::InvalidFrame, Some(id)).await;
            }
        })
        .await;
    }

    /// What an endpoint sends has no flag but that of the timestamp.
    async fn sbp_02_sent_frames_have_no_reserved_flags(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            meeting.peer().emit("e", 1).await.unwrap();
            meeting.peer().send("app/x", "data").await.unwrap();
            meeting.link.say(FrameBody::Ping).await;
            for _ in 0..3 {
                let frame = meeting.link.socket.frame().await;
                let plain = meeting.link.line().open_plain(&frame);
                assert_eq!(plain[1] & !1, 0, "{:?}", setup.arm);
            }
        })
        .await;
    }

    /// Each reserved flag bit is told and ends the session.
    async fn sbp_02_reserved_flags_end_the_session(quirks) breaks_with [GoesOnAfterReservedFlags] {
        both(quirks, async |setup| {
            for bit in 1..8 {
                for (kind, rest) in [(0, vec![1]), (1, text(5, b"app/x", b"data")), (9, vec![])] {
                    let mut meeting = setup.active().await;
                    let id = meeting.say_raw(kind, 1 << bit, &rest).await;
                    let cause = meeting.ended_with_error(ErrorCode::InvalidFrame, Some(id)).await;
                    let violation = matches!(cause, Cause::PeerViolation { code: ErrorCode::InvalidFrame, .. });
                    assert!(violation, "{:?}, bit {bit}, kind {kind}: {cause:?}", setup.arm);
                }
            }
        })
        .await;
    }

    /// The one flag that is not reserved is taken, with its timestamp.
    async fn sbp_02_timestamps_are_taken(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for timestamp in [0, -1, i64::MAX] {
                let id = meeting.link.line().new_id();
                let ping = sbp::Frame { id, timestamp: Some(timestamp), body: FrameBody::Ping };
                let frame = meeting.link.line().seal(&ping);
                meeting.link.socket.send(&frame).await;
                assert_eq!(meeting.link.heard().await.body, FrameBody::Pong, "{:?}", setup.arm);
            }
        })
        .await;
    }

    /// A frame that breaks the layout is told, with its id, and skipped.
    async fn sbp_02_broken_layout_is_told_and_skipped(quirks)
    breaks_with [ClosesOnBrokenFrame, SkipsBrokenFrameSilently] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for (what, kind, flags, rest) in broken_layouts() {
                let id = meeting.say_raw(kind, flags, &rest).await;
                let frame = due(meeting.link.heard()).await;
                assert_eq!(frame.id, id, "{:?}: {what}", setup.arm);
                crate::both::is_error(&frame, ErrorCode::InvalidFrame, Some(id));
                meeting.goes_on_silently().await;
            }
        })
        .await;
    }

    /// So is a frame whose id cannot be read.
    async fn sbp_02_frame_without_id_is_told_and_skipped(quirks)
    breaks_with [ClosesOnBrokenFrame, SkipsBrokenFrameSilently] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for plain in [vec![], vec![0], vec![1, 0], cut_short(0), cut_short(1), cut_short(200)] {
                meeting.link.say_plain(&plain).await;
                meeting.hears_error(ErrorCode::InvalidFrame, None).await;
                meeting.goes_on_silently().await;
            }
        })
        .await;
    }

    /// Kinds 2 and 3 are never answered, however broken.
    async fn sbp_02_broken_acks_and_errors_are_not_answered(quirks) breaks_with [AnswersBrokenReceipts] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for (_, kind, flags, rest) in broken_receipts() {
                meeting.say_raw(kind, flags, &rest).await;
                meeting.goes_on_silently().await;
            }
            for kind in [2, 3] {
                meeting.link.say_plain(&cut_short(kind)).await;
                meeting.goes_on_silently().await;
            }
        })
        .await;
    }

    /// With a reserved flag they end the session, still without an answer.
    async fn sbp_02_reserved_flags_of_acks_and_errors_close_silently(quirks) breaks_with [AnswersBrokenReceipts] {
        both(quirks, async |setup| {
            for kind in [2, 3] {
                let mut meeting = setup.active().await;
                meeting.say_raw(kind, 0x80, &[7; 16]).await;
                meeting.ended_silently().await;
            }
        })
        .await;
    }

    /// Before the introduction a broken frame ends the session.
    async fn sbp_02_broken_frame_before_the_introduction_closes(quirks) breaks_with [SkipsBrokenFrameSilently] {
        both(quirks, async |setup| {
            for (what, kind, flags, rest) in broken_layouts() {
                let mut meeting = setup.keys().await;
                handshake(&meeting.link.heard().await);
                let id = meeting.say_raw(kind, flags, &rest).await;
                let cause = meeting.ended_with_error(ErrorCode::InvalidFrame, Some(id)).await;
                assert!(matches!(cause, Cause::PeerViolation { .. }), "{:?}, {what}: {cause:?}", setup.arm);
            }
        })
        .await;
    }

    /// Each side introduces itself first of all, at once and unasked.
    async fn sbp_03_introduction_comes_first_and_unasked(quirks) breaks_with [IntroducesItselfSecond] {
        both(quirks, async |setup| {
            let mut meeting = setup.keys().await;
            let said = meeting.link.heard_within(Duration::from_millis(100)).await;
            let said = handshake(&said.expect("an introduction at once"));
            assert_eq!((&said["protocol"], &said["version"]), (&json!("sideband"), &json!("1")), "{:?}", setup.arm);
            assert!(!said["peerId"].as_str().unwrap().is_empty(), "{:?}", setup.arm);
        })
        .await;
    }

    /// Another protocol or version: Error 1001, close; also if more is wrong.
    async fn sbp_03_other_protocol_or_version_is_1001(quirks)
    breaks_with [RefusesAllAsMalformed, RefusesIntroductionSilently] {
        let rows = [
            json!({ "protocol": "other" }),
            json!({ "protocol": "Sideband" }),
            json!({ "protocol": "" }),
            json!({ "version": "2" }),
            json!({ "version": "1.0" }),
            json!({ "version": "" }),
            json!({ "version": "2", "peerId": null }),
        ];
        both(quirks, async |setup| {
            for row in &rows {
                let mut meeting = setup.keys().await;
                meeting.link.heard().await;
                let id = meeting.link.line().new_id();
                meeting.say(id, FrameBody::Handshake(hello(row))).await;
                let cause = meeting.ended_with_error(ErrorCode::UnsupportedVersion, Some(id)).await;
                let unsupported = matches!(cause, Cause::PeerViolation { code: ErrorCode::UnsupportedVersion, .. });
                assert!(unsupported, "{:?}, {row}: {cause:?}", setup.arm);
            }
        })
        .await;
    }

    /// Otherwise malformed: Error 1002, close.
    async fn sbp_03_malformed_introduction_is_1002(quirks) breaks_with [RefusesIntroductionSilently] {
        let rows: Vec<Bytes> = vec![
            Bytes::from_static(b"not json"),
            Bytes::from_static(b"[\"sideband\",\"1\",\"peer\"]"),
            Bytes::from_static(b"\"sideband\""),
            Bytes::from_static(b"{\"protocol\":\"sideband\",\"version\":\"1\",\"peerId\":\"p\""),
            hello(&json!({ "peerId": "" })),
            hello(&json!({ "peerId": null })),
            hello(&json!({ "peerId": 7 })),
            hello(&json!({ "protocol": null })),
            hello(&json!({ "protocol": 1 })),
            hello(&json!({ "version": null })),
            hello(&json!({ "version": 1 })),
            hello(&json!({ "caps": "rpc" })),
            hello(&json!({ "caps": [1] })),
            hello(&json!({ "metadata": [] })),
        ];
        both(quirks, async |setup| {
            for row in &rows {
                let mut meeting = setup.keys().await;
                meeting.link.heard().await;
                let id = meeting.link.line().new_id();
                meeting.say(id, FrameBody::Handshake(row.clone())).await;
                let cause = meeting.ended_with_error(ErrorCode::InvalidFrame, Some(id)).await;
                let malformed = matches!(cause, Cause::PeerViolation { code: ErrorCode::InvalidFrame, .. });
                assert!(malformed, "{:?}, {row:?}: {cause:?}", setup.arm);
            }
        })
        .await;
    }

    /// Anything else before it: Error 1000, close.
    async fn sbp_03_anything_before_it_is_1000(quirks) breaks_with [TalksBeforeIntroduction] {
        let envelope = |envelope: Envelope| envelope.encode();
        let cid = FrameId::from_bytes([8; 16]);
        let message = |subject: &str, data| FrameBody::Message { subject: subject.to_owned(), data };
        let rows = [
            FrameBody::Ping,
            FrameBody::Pong,
            message("rpc", envelope(Envelope::Request { method: "m".to_owned(), params: None, cid })),
            message("event", envelope(Envelope::Event { name: "e".to_owned(), data: None })),
            message("app/x", Bytes::from_static(b"data")),
            message("nobody's", Bytes::new()),
            message("stream/1", Bytes::new()),
        ];
        both(quirks, async |setup| {
            for row in &rows {
                let mut meeting = setup.keys().await;
                meeting.link.heard().await;
                meeting.say(cid, row.clone()).await;
                let cause = meeting.ended_with_error(ErrorCode::ProtocolViolation, Some(cid)).await;
                let violation = matches!(cause, Cause::PeerViolation { code: ErrorCode::ProtocolViolation, .. });
                assert!(violation, "{:?}, {row:?}: {cause:?}", setup.arm);
            }
        })
        .await;
    }

    /// An Ack or an Error before it closes as well, unanswered.
    async fn sbp_03_ack_or_error_before_it_closes_silently(quirks) breaks_with [TalksBeforeIntroduction] {
        both(quirks, async |setup| {
            let error = FrameBody::Error { code: 1_002, message: "words".to_owned(), details: Bytes::new() };
            for row in [FrameBody::Ack(FrameId::from_bytes([1; 16])), error] {
                let mut meeting = setup.keys().await;
                meeting.link.heard().await;
                meeting.link.say(row.clone()).await;
                let cause = meeting.ended_silently().await;
                let told = matches!(cause, Cause::PeerViolation { .. } | Cause::PeerError { code: 1_002, .. });
                assert!(told, "{:?}, {row:?}: {cause:?}", setup.arm);
            }
        })
        .await;
    }

    /// Members that nobody knows are ignored, optional ones are taken.
    async fn sbp_03_unknown_members_are_ignored(quirks) breaks_with [] {
        both(quirks, async |setup| {
            for row in [
                json!({ "future": { "deep": [1, 2] }, "Version": "9" }),
                json!({ "caps": [], "metadata": {} }),
                json!({ "caps": ["rpc", "what"], "metadata": { "app": "test", "n": null } }),
            ] {
                let mut meeting = setup.keys().await;
                meeting.link.heard().await;
                meeting.link.say(FrameBody::Handshake(hello(&row))).await;
                meeting.stands().await;
                meeting.goes_on_silently().await;
            }
        })
        .await;
    }

    /// A client's peerId is another one in each attempt.
    async fn sbp_03_clients_peer_id_is_new_for_each_attempt(quirks) breaks_with [KeepsPeerId] {
        let (mut world, env) = World::new(3);
        let _client = connect(&env, quirks);
        let mut seen = BTreeSet::new();
        for _ in 0..4 {
            let mut link = world.client_keys().await;
            seen.insert(handshake(&link.heard().await)["peerId"].as_str().unwrap().to_owned());
            link.into_parts().0.cut();
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    }

    /// A daemon accepts two sessions whose clients have the same peerId.
    async fn sbp_03_daemon_takes_a_peer_id_twice(quirks) breaks_with [] {
        let (mut world, env) = World::new(3);
        let server = listen(&env, quirks);
        let mut link = world.go_online(true).await;
        let (first, second) = (world.meet(&mut link).await, world.meet(&mut link).await);
        link.is_alive_on(first).await;
        link.is_alive_on(second).await;
        let ids: Vec<_> = server.connections().iter().map(|connection| connection.peer_id().to_owned()).collect();
        assert_eq!(ids, ["peer_far", "peer_far"]);
    }

    /// Subjects that are none: Error 1002 with the frame's id; the session goes on.
    async fn sbp_04_unknown_subjects_are_1002(quirks)
    breaks_with [ClosesOnUnknownSubject, SkipsUnknownSubjectSilently] {
        let long = format!("app/{}", "x".repeat(253));
        let rows = ["", "RPC", "rpc ", "rpc/x", "events", "event/x", "app", "App/x", "streams", "other", "a\0b", "app/\0", &long];
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for row in rows {
                let id = meeting.message(row, "data").await;
                let answer = due(meeting.link.heard()).await;
                assert_eq!(answer.id, id, "{:?}: {row:?}", setup.arm);
                crate::both::is_error(&answer, ErrorCode::InvalidFrame, Some(id));
                meeting.goes_on_silently().await;
            }
        })
        .await;
    }

    /// Streams: Error 1003 with the frame's id; the session goes on.
    async fn sbp_04_streams_are_1003(quirks) breaks_with [StreamsAreInvalid, ClosesOnUnknownSubject] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for row in ["stream", "stream/", "stream/7", "stream/a/b"] {
                let id = meeting.message(row, "data").await;
                meeting.hears_error(ErrorCode::UnsupportedFeature, Some(id)).await;
                meeting.goes_on_silently().await;
            }
        })
        .await;
    }

    /// `app/…` is delivered as it is, up to 256 bytes of subject.
    async fn sbp_04_app_subjects_are_delivered(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let mut messages = meeting.peer().messages();
            let longest = format!("app/{}", "ü".repeat(126));
            assert_eq!(longest.len(), 256);
            for subject in ["app/x", "app/", "app/a/b c", &longest] {
                meeting.message(subject, &b"\x00\xff"[..]).await;
                let got = soon("a message", messages.next()).await;
                assert_eq!(got, Some((subject.to_owned(), Bytes::from_static(b"\x00\xff"))), "{:?}", setup.arm);
                meeting.peer().send(subject, "back").await.unwrap();
                let frame = meeting.link.heard().await;
                let back = FrameBody::Message { subject: subject.to_owned(), data: Bytes::from_static(b"back") };
                assert_eq!(frame.body, back, "{:?}", setup.arm);
            }
        })
        .await;
    }

    /// A subject that the other side would refuse fails at the call.
    async fn sbp_04_bad_subjects_are_not_sent(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let long = format!("app/{}", "x".repeat(253));
            for subject in ["", "rpc", "event", "stream", "stream/1", "other", "app", "app/\0", &long] {
                let sent = meeting.peer().send(subject, "data").await;
                assert!(sent.is_err(), "{:?}: {subject:?} was taken", setup.arm);
            }
            meeting.goes_on_silently().await;
        })
        .await;
    }

    /// Ping is answered with Pong; a Pong that nobody asked for is nothing.
    async fn sbp_05_ping_is_answered(quirks) breaks_with [IgnoresPing] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for _ in 0..5 {
                meeting.link.say(FrameBody::Ping).await;
                let answer = meeting.link.heard_within(Duration::from_secs(1)).await.expect("a Pong");
                assert_eq!(answer.body, FrameBody::Pong, "{:?}", setup.arm);
            }
            meeting.link.say(FrameBody::Pong).await;
            meeting.goes_on_silently().await;
        })
        .await;
    }

    /// No Ack without being switched on.
    async fn sbp_05_no_receipts_unasked(quirks) breaks_with [ConfirmsUnasked] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            meeting.message("app/x", "data").await;
            meeting.link.event("e", json!(1)).await;
            meeting.goes_on_silently().await;
        })
        .await;
    }

    /// Switched on, each Message on a known subject is confirmed by its id, and nothing else is.
    async fn sbp_05_receipts_name_the_message(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let setup = setup.with(|account| account.receipts(true), |daemon| daemon.receipts(true));
            let mut meeting = setup.active().await;
            for subject in ["app/x", "event"] {
                let id = meeting.message(subject, "data").await;
                assert_eq!(meeting.link.heard().await.body, FrameBody::Ack(id), "{:?}: {subject}", setup.arm);
            }
            let id = meeting.message("nobody's", "data").await;
            meeting.hears_error(ErrorCode::InvalidFrame, Some(id)).await;
            meeting.link.say(FrameBody::Ack(FrameId::from_bytes([1; 16]))).await;
            meeting.link.is_alive().await;
        })
        .await;
    }

    /// Whoever waits for a receipt gets the one of his message.
    async fn sbp_05_receipt_reaches_who_waits_for_it(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let peer = meeting.peer();
            let sending = tokio::spawn(async move { peer.send_confirmed("app/x", "data").await });
            let message = meeting.link.heard().await;
            meeting.link.say(FrameBody::Ack(FrameId::from_bytes([1; 16]))).await;
            meeting.goes_on_silently().await;
            assert!(!sending.is_finished(), "{:?}: another message was confirmed", setup.arm);
            meeting.link.say(FrameBody::Ack(message.id)).await;
            soon("the receipt", sending).await.unwrap().unwrap();
        })
        .await;
    }

    /// Error 1000 and 1001 close, whenever they come.
    async fn sbp_05_errors_1000_and_1001_close(quirks) breaks_with [GoesOnAfterViolation] {
        both(quirks, async |setup| {
            for code in [1_000, 1_001] {
                let mut meeting = setup.active().await;
                report(&mut meeting, code).await;
                let cause = meeting.ended_silently().await;
                let told = matches!(&cause, Cause::PeerError { code: told, message } if *told == code && message == "words");
                assert!(told, "{:?}: {cause:?}", setup.arm);
            }
        })
        .await;
    }

    /// Any other Error leaves the session as it is.
    async fn sbp_05_other_errors_go_on(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for code in [1_002, 1_003, 0, 999, 1_100, 2_000, u16::MAX] {
                report(&mut meeting, code).await;
                meeting.goes_on_silently().await;
            }
        })
        .await;
    }

    /// Neither an Error nor an Ack is answered, whatever it is about.
    async fn sbp_06_errors_and_acks_are_not_answered(quirks) breaks_with [AnswersErrors] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for code in [1_002, 1_003, 1_102, u16::MAX] {
                report(&mut meeting, code).await;
            }
            meeting.link.say(FrameBody::Ack(FrameId::from_bytes([0; 16]))).await;
            meeting.goes_on_silently().await;
        })
        .await;
    }

    /// Nor are those that end the session.
    async fn sbp_06_error_that_closes_is_not_answered(quirks) breaks_with [AnswersErrors] {
        both(quirks, async |setup| {
            for code in [1_000, 1_001] {
                let mut meeting = setup.active().await;
                report(&mut meeting, code).await;
                let ending = meeting.ended().await;
                assert!(ending.said.is_empty(), "{:?}: {:?}", setup.arm, ending.said);
            }
        })
        .await;
    }

    /// Close from the other side: a client follows its retry policy, a daemon frees the session.
    async fn sbp_07_close_ends_the_session(quirks) breaks_with [IgnoresClose] {
        both(quirks, async |setup| {
            for reason in ["", "goodbye"] {
                let mut meeting = setup.active().await;
                meeting.link.say(FrameBody::Close { reason: reason.to_owned() }).await;
                let cause = meeting.ended_silently().await;
                assert_eq!(cause, Cause::PeerClosed { reason: reason.to_owned() }, "{:?}", setup.arm);
                match &mut meeting.endpoint {
                    Endpoint::Client(client, events) => {
                        let next = events.next().await;
                        assert!(matches!(next, Some(Lifecycle::State(sideband::State::Reconnecting))), "client: {next:?}");
                        let _link = meeting.world.join().await;
                        soon("a new session", client.when_ready()).await.unwrap();
                    }
                    Endpoint::Daemon(server, _) => {
                        assert!(server.connections().is_empty(), "daemon: the session is still there");
                        meeting.link.say(FrameBody::Ping).await;
                        assert_eq!(meeting.link.socket.frame_within(Duration::from_secs(30)).await, None);
                    }
                }
            }
        })
        .await;
    }

    /// A Close before the introduction ends it as well.
    async fn sbp_07_close_before_the_introduction_ends_the_session(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.keys().await;
            meeting.link.heard().await;
            meeting.link.say(FrameBody::Close { reason: String::new() }).await;
            assert_eq!(meeting.ended_silently().await, Cause::PeerClosed { reason: String::new() }, "{:?}", setup.arm);
        })
        .await;
    }

    /// `close()` says Close before the socket, or the session, is closed.
    async fn sbp_07_close_is_said_before_leaving(quirks) breaks_with [LeavesSilently] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let ((), ending) = match &meeting.endpoint {
                Endpoint::Client(client, _) => {
                    let client = client.clone();
                    tokio::join!(async move { client.close().await }, meeting.ended())
                }
                Endpoint::Daemon(server, _) => {
                    server.connections()[0].close();
                    ((), meeting.ended().await)
                }
            };
            let [said] = &ending.said[..] else { panic!("one Close was due, not {:?}", ending.said) };
            assert!(matches!(said.body, FrameBody::Close { .. }), "{:?}: {said:?}", setup.arm);
            assert_eq!(ending.cause, Cause::Closed, "{:?}", setup.arm);
        })
        .await;
    }

    /// So it does as soon as there are keys, for the other side may have the session already.
    async fn sbp_07_client_says_close_while_introductions_are_due(quirks) breaks_with [LeavesSilently] {
        let (mut world, env) = World::new(7);
        let client = connect(&env, quirks);
        let mut link = world.client_keys().await;
        handshake(&link.heard().await);
        let ((), (said, _)) = tokio::join!(client.close(), link.said_before_end());
        let bodies: Vec<_> = said.into_iter().map(|frame| frame.body).collect();
        assert_eq!(bodies, [FrameBody::Close { reason: String::new() }]);
    }

    /// A daemon that ends says Close in each session.
    async fn sbp_07_daemon_says_close_in_each_session(quirks) breaks_with [LeavesSilently] {
        let (mut world, env) = World::new(7);
        let server = listen(&env, quirks);
        let mut events = server.events();
        let mut link = world.go_online(true).await;
        let ids = [world.meet(&mut link).await, world.meet(&mut link).await];
        for _ in 0..2 {
            while !matches!(events.next().await, Some(ServerEvent::Opened(_))) {}
        }
        let ((), (frames, _)) = tokio::join!(server.close(), link.socket.end());
        for id in ids {
            let mut of_session = frames.iter().filter(|frame| frame.session() == id.get());
            let first = of_session.next().expect("a Close");
            assert!(matches!(first, Frame::Data { .. }), "a Close was due, not {first:?}");
            let said = link.line_of(id).open(first);
            assert!(matches!(said.body, FrameBody::Close { .. }), "{said:?}");
            let signal = Frame::Signal { session: id, signal: Signal::Close, reason: Reason::Shutdown };
            assert_eq!(of_session.next(), Some(&signal));
        }
    }

    /// What was said before the Close still arrives: an answer is not overtaken.
    async fn sbp_07_close_overtakes_nothing(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let peer = meeting.peer();
            peer.handle("m", |(): (), _: Context| async { Ok::<_, HandlerError>(7) }).unwrap();
            let cid = meeting.link.request("m", json!(null)).await;
            let Envelope::Result { cid: answered, .. } = meeting.link.envelope().await else { panic!("no result") };
            assert_eq!(answered, cid);
            for n in 0..10 {
                peer.emit("e", n).await.unwrap();
            }
            let (_, ending) = match setup.arm {
                Arm::Client => {
                    let Endpoint::Client(client, _) = &meeting.endpoint else { unreachable!() };
                    let client = client.clone();
                    tokio::join!(async move { client.close().await }, meeting.ended())
                }
                Arm::Daemon => (meeting.close().await, meeting.ended().await),
            };
            assert_eq!(ending.said.len(), 11, "{:?}: {:?}", setup.arm, ending.said);
        })
        .await;
    }
}
