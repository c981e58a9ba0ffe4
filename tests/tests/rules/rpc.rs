//! RPC: RPC-01 to RPC-09.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};
use sideband::{CallOptions, Context, Error, ErrorKind, HandlerError, MethodInfo, Peer};
use sideband_env::Timeline;
use sideband_protocol::{
    peer::CallError,
    rpc::Envelope,
    sbp::{ErrorCode, FrameBody, FrameId},
    wire::{ControlCode, MAX_PLAINTEXT},
};
use sideband_tests::script::{Link, World, soon};
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    both::{Arm, Endpoint, Meeting, both},
    endpoints::{account, code, daemon},
    witness::{due, witnesses},
};

type Outcome = Result<Value, Error>;

/// Calls from a task of its own.
fn call(peer: &Peer, method: &'static str, params: Value, options: CallOptions) -> JoinHandle<Outcome> {
    let peer = peer.clone();
    tokio::spawn(async move { peer.call_with(method, params, options).await })
}

/// Calls, and takes the call at the far end.
async fn called(meeting: &mut Meeting, method: &'static str, options: CallOptions) -> (JoinHandle<Outcome>, FrameId) {
    let call = call(&meeting.peer(), method, json!([]), options);
    let (got, _, cid) = meeting.link.called().await;
    assert_eq!(got, method);
    (call, cid)
}

async fn outcome(call: JoinHandle<Outcome>) -> Outcome {
    due(soon("the call's end", call)).await.unwrap()
}

/// Code, message and data of the error that answers this call.
async fn refused(link: &mut Link, cid: FrameId) -> (i64, String, Option<Bytes>) {
    match due(link.envelope()).await {
        Envelope::Error { cid: answered, code, message, data } if answered == cid => (code, message, data),
        other => panic!("an error for {cid} was due, not {other:?}"),
    }
}

/// The result that answers this call.
async fn result(link: &mut Link, cid: FrameId) -> Value {
    match due(link.envelope()).await {
        Envelope::Result { cid: answered, result } if answered == cid => {
            result.map(|json| serde_json::from_slice(&json).unwrap()).unwrap_or_default()
        }
        other => panic!("a result for {cid} was due, not {other:?}"),
    }
}

/// Bytes of a request's plaintext without its params.
fn request_head(method: &str) -> usize {
    let cid = FrameId::from_bytes([0; 16]);
    let empty = Envelope::Request { method: method.to_owned(), params: Some(Bytes::new()), cid };
    18 + 4 + 3 + empty.encode().len()
}

/// A JSON string of this many bytes.
fn text_of(bytes: usize) -> String {
    "x".repeat(bytes - 2)
}

/// Proves that a handler that never answers is not waited for.
async fn never(_: Value, _: Context) -> Result<Value, HandlerError> {
    std::future::pending().await
}

witnesses! {
    /// Answers are matched by their cid, in whatever order they come.
    async fn rpc_01_answers_come_in_any_order(quirks) breaks_with [MatchesAnswersByOrder] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let mut calls = Vec::new();
            for _ in 0..5 {
                calls.push(called(&mut meeting, "m", CallOptions::new()).await);
            }
            for n in [3, 0, 4, 1, 2] {
                meeting.link.answer(calls[n].1, json!(n)).await;
            }
            for (n, (call, _)) in calls.into_iter().enumerate() {
                assert_eq!(outcome(call).await.unwrap(), json!(n), "{:?}", setup.arm);
            }
        })
        .await;
    }

    /// A cid is the id of its request's frame, in lower-case hex.
    async fn rpc_01_cid_is_the_requests_frame_id(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let _call = call(&meeting.peer(), "m", json!({ "a": 1 }), CallOptions::new());
            let frame = meeting.link.heard().await;
            let FrameBody::Message { subject, data } = frame.body else { panic!("a Message was due") };
            let said: Value = serde_json::from_slice(&data).unwrap();
            let cid: String = frame.id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(said, json!({ "t": "r", "m": "m", "p": { "a": 1 }, "cid": cid }), "{:?}", setup.arm);
            assert_eq!(subject, "rpc");
        })
        .await;
    }

    /// An answer copies the cid of its request.
    async fn rpc_01_answers_copy_the_cid(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            meeting.peer().handle("echo", |p: Value, _: Context| async { Ok::<_, HandlerError>(p) }).unwrap();
            for n in 0..3 {
                let cid = meeting.link.request("echo", json!(n)).await;
                assert_eq!(result(&mut meeting.link, cid).await, json!(n), "{:?}", setup.arm);
            }
        })
        .await;
    }

    /// Unknown answers are dropped: no word, no end, no other call touched.
    async fn rpc_01_unknown_answers_are_dropped(quirks) breaks_with [EndsOnUnknownAnswer, MatchesAnswersByOrder] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let (call, cid) = called(&mut meeting, "m", CallOptions::new()).await;
            let unknown = FrameId::from_bytes([1; 16]);
            meeting.link.answer(unknown, json!("wrong")).await;
            let error = Envelope::Error { cid: unknown, code: 2_000, message: "wrong".to_owned(), data: None };
            meeting.link.send_envelope(&error).await;
            meeting.goes_on_silently().await;
            assert!(!call.is_finished(), "{:?}", setup.arm);
            meeting.link.answer(cid, json!("right")).await;
            assert_eq!(outcome(call).await.unwrap(), json!("right"), "{:?}", setup.arm);
        })
        .await;
    }

    /// So are late ones: after the time-out, after the call was given up, and the second of two.
    async fn rpc_01_late_answers_are_dropped(quirks) breaks_with [EndsOnUnknownAnswer] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let short = CallOptions::new().timeout(Duration::from_millis(50));
            let (timed_out, first) = called(&mut meeting, "m", short).await;
            assert_eq!(code(outcome(timed_out).await), "rpc_timeout");
            let (given_up, second) = called(&mut meeting, "m", CallOptions::new()).await;
            given_up.abort();
            assert!(given_up.await.unwrap_err().is_cancelled());
            let (answered, third) = called(&mut meeting, "m", CallOptions::new()).await;
            meeting.link.answer(third, json!(3)).await;
            assert_eq!(outcome(answered).await.unwrap(), json!(3));
            for cid in [first, second, third] {
                meeting.link.answer(cid, json!("late")).await;
            }
            meeting.goes_on_silently().await;
        })
        .await;
    }

    /// An unknown method: E 1101.
    async fn rpc_02_unknown_method_is_1101(quirks) breaks_with [FailsUnknownMethods] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            meeting.peer().handle("known", never).unwrap();
            for method in ["unknown", "", "Known", "known ", "$sideband/rpc.list"] {
                let cid = meeting.link.request(method, json!(null)).await;
                assert_eq!(refused(&mut meeting.link, cid).await.0, 1_101, "{:?}: {method}", setup.arm);
            }
        })
        .await;
    }

    /// A handler over its own limit: E 1103.
    async fn rpc_02_handler_over_its_limit_is_1103(quirks) breaks_with [ForgetsHandlerLimit] {
        both(quirks, async |setup| {
            const LIMIT: Duration = Duration::from_secs(3);
            let setup = setup.with(|account| account.handler_timeout(LIMIT), |daemon| daemon.handler_timeout(LIMIT));
            let mut meeting = setup.active().await;
            meeting.peer().handle("slow", never).unwrap();
            let since = Timeline::start();
            let cid = meeting.link.request("slow", json!(null)).await;
            assert_eq!(refused(&mut meeting.link, cid).await.0, 1_103, "{:?}", setup.arm);
            let waited = since.elapsed().as_secs_f64();
            assert!((3.0..3.1).contains(&waited), "{:?}: {waited} s", setup.arm);
        })
        .await;
    }

    /// Without such a limit a handler may take any time.
    async fn rpc_02_handlers_have_no_limit_by_default(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            meeting.peer().handle("slow", |(): (), _: Context| async {
                tokio::time::sleep(Duration::from_secs(600)).await;
                Ok::<_, HandlerError>("at last")
            }).unwrap();
            let cid = meeting.link.request("slow", json!(null)).await;
            assert_eq!(meeting.link.heard_within(Duration::from_secs(599)).await, None, "{:?}", setup.arm);
            assert_eq!(result(&mut meeting.link, cid).await, json!("at last"));
        })
        .await;
    }

    /// A handler's failure: E 2000 with its message.
    async fn rpc_02_failure_is_2000_with_its_message(quirks) breaks_with [HidesFailure] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let fails = |(): (), _: Context| async { Err::<(), _>(std::io::Error::other("the disk is full")) };
            meeting.peer().handle("fails", fails).unwrap();
            let cid = meeting.link.request("fails", json!(null)).await;
            let refused = refused(&mut meeting.link, cid).await;
            assert_eq!(refused, (2_000, "the disk is full".to_owned(), None), "{:?}", setup.arm);
        })
        .await;
    }

    /// An application's own code goes out as it is from 2000 on, with message and data; a smaller one is no application's and goes out as 2000.
    async fn rpc_02_own_codes_are_2000_and_larger(quirks) breaks_with [PassesAnyCode] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            meeting.peer().handle("fails", |code: i64, _: Context| async move {
                Err::<(), _>(HandlerError::new(code, "its words").with_data(json!({ "more": 1 })))
            }).unwrap();
            for (own, wire) in [
                (2_000, 2_000),
                (2_001, 2_001),
                (4_711, 4_711),
                (i64::MAX, i64::MAX),
                (1_999, 2_000),
                (1_101, 2_000),
                (0, 2_000),
                (-32_601, 2_000),
            ] {
                let cid = meeting.link.request("fails", json!(own)).await;
                let (code, message, data) = refused(&mut meeting.link, cid).await;
                assert_eq!((code, &message[..]), (wire, "its words"), "{:?}: {own}", setup.arm);
                assert_eq!(data.as_deref(), Some(&br#"{"more":1}"#[..]), "{:?}: {own}", setup.arm);
            }
        })
        .await;
    }

    /// Params that do not fit and a handler that panics are failures as well, and the endpoint lives on.
    async fn rpc_02_bad_params_and_panics_are_2000(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            #[derive(serde::Deserialize)]
            struct Params {
                size: u8,
            }
            meeting.peer().handle("m", |p: Params, _: Context| async move {
                assert!(p.size != 1, "it slipped");
                Ok::<_, HandlerError>(p.size)
            }).unwrap();
            let cid = meeting.link.request("m", json!({ "size": "big" })).await;
            let (code, message, data) = refused(&mut meeting.link, cid).await;
            assert!(code == 2_000 && message.contains("size"), "{:?}: {code} {message}", setup.arm);
            assert_eq!(data.as_deref(), Some(&br#"{"kind":"invalid_params"}"#[..]), "{:?}", setup.arm);
            let cid = meeting.link.request("m", json!({ "size": 1 })).await;
            assert_eq!(refused(&mut meeting.link, cid).await.0, 2_000, "{:?}", setup.arm);
            let cid = meeting.link.request("m", json!({ "size": 2 })).await;
            assert_eq!(result(&mut meeting.link, cid).await, json!(2), "{:?}", setup.arm);
        })
        .await;
    }

    /// An error of the other side reaches the caller as `rpc_error` with the wire code, message and data.
    async fn rpc_02_errors_reach_the_caller_as_they_are(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for code in [1_100, 1_101, 1_102, 1_103, 1_104, 2_000, 4_711, -1] {
                let (call, cid) = called(&mut meeting, "m", CallOptions::new()).await;
                let data = Some(Bytes::from_static(b"[1]"));
                let error = Envelope::Error { cid, code, message: "words".to_owned(), data: data.clone() };
                meeting.link.send_envelope(&error).await;
                let error = outcome(call).await.unwrap_err();
                assert_eq!((error.code(), error.kind()), (Some("rpc_error"), ErrorKind::Peer), "{:?}", setup.arm);
                let answered = CallError::Rpc { code, message: "words".to_owned(), data };
                assert_eq!(error.call_error(), Some(&answered), "{:?}", setup.arm);
            }
        })
        .await;
    }

    /// A broken envelope with a readable cid: E 1100 with that cid; the session goes on.
    async fn rpc_03_broken_envelope_with_cid_is_1100(quirks)
    breaks_with [ClosesOnBrokenEnvelope, SkipsBrokenEnvelope] {
        let cid = FrameId::from_bytes([0xab; 16]);
        let rows = [
            json!({ "cid": cid.to_string() }),
            json!({ "t": "r", "cid": cid.to_string() }),
            json!({ "t": "r", "m": 7, "cid": cid.to_string() }),
            json!({ "t": "x", "m": "m", "cid": cid.to_string() }),
            json!({ "t": 1, "m": "m", "cid": cid.to_string() }),
            json!({ "t": "E", "cid": cid.to_string() }),
            json!({ "t": "E", "code": "2000", "message": "m", "cid": cid.to_string() }),
            json!({ "t": "E", "code": 2000, "cid": cid.to_string() }),
        ];
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for row in &rows {
                meeting.message("rpc", row.to_string()).await;
                assert_eq!(refused(&mut meeting.link, cid).await.0, 1_100, "{:?}: {row}", setup.arm);
                meeting.goes_on_silently().await;
            }
        })
        .await;
    }

    /// Without one: Error frame 1002 about the Message; the session goes on.
    async fn rpc_03_broken_envelope_without_cid_is_1002(quirks)
    breaks_with [ClosesOnBrokenEnvelope, SkipsBrokenEnvelope] {
        let rows = [
            "".to_owned(),
            "not json".to_owned(),
            "[]".to_owned(),
            "null".to_owned(),
            r#"{"t":"r","m":"m""#.to_owned(),
            json!({}).to_string(),
            json!({ "t": "r", "m": "m" }).to_string(),
            json!({ "t": "r", "m": "m", "cid": "short" }).to_string(),
            json!({ "t": "r", "m": "m", "cid": "AB".repeat(16) }).to_string(),
            json!({ "t": "R", "cid": 7 }).to_string(),
            json!({ "t": "E", "code": 2000, "message": "m" }).to_string(),
        ];
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for row in &rows {
                let id = meeting.message("rpc", row.clone()).await;
                meeting.hears_error(ErrorCode::InvalidFrame, Some(id)).await;
                meeting.goes_on_silently().await;
            }
        })
        .await;
    }

    /// On `event`: dropped.
    async fn rpc_03_broken_events_are_dropped(quirks) breaks_with [AnswersBrokenEvents] {
        let cid = FrameId::from_bytes([0xab; 16]).to_string();
        let rows = [
            "".to_owned(),
            "not json".to_owned(),
            "[]".to_owned(),
            json!({}).to_string(),
            json!({ "t": "N" }).to_string(),
            json!({ "t": "N", "e": 1 }).to_string(),
            json!({ "t": "N", "e": "bad name" }).to_string(),
            json!({ "t": "x", "e": "e", "cid": cid }).to_string(),
        ];
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let mut all = meeting.peer().subscribe(">").unwrap();
            for row in &rows {
                meeting.message("event", row.clone()).await;
                meeting.goes_on_silently().await;
            }
            meeting.link.event("good", json!(1)).await;
            assert_eq!(soon("an event", all.next()).await.unwrap().name(), "good", "{:?}", setup.arm);
        })
        .await;
    }

    /// A request or an answer on `event` is dropped.
    async fn rpc_04_rpc_envelopes_on_event_are_dropped(quirks) breaks_with [MixesSubjects] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let (call, cid) = called(&mut meeting, "m", CallOptions::new()).await;
            let request = Envelope::Request { method: "m".to_owned(), params: None, cid: FrameId::from_bytes([2; 16]) };
            let error = Envelope::Error { cid, code: 2_000, message: "wrong".to_owned(), data: None };
            for envelope in [request, Envelope::Result { cid, result: None }, error] {
                meeting.message("event", envelope.encode()).await;
                meeting.goes_on_silently().await;
            }
            assert!(!call.is_finished(), "{:?}", setup.arm);
            meeting.link.answer(cid, json!("right")).await;
            assert_eq!(outcome(call).await.unwrap(), json!("right"), "{:?}", setup.arm);
        })
        .await;
    }

    /// An event on `rpc` is dropped, broken or not.
    async fn rpc_04_events_on_rpc_are_dropped(quirks) breaks_with [MixesSubjects] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let mut all = meeting.peer().subscribe(">").unwrap();
            let event = Envelope::Event { name: "wrong".to_owned(), data: None };
            meeting.message("rpc", event.encode()).await;
            meeting.message("rpc", r#"{"t":"N"}"#).await;
            meeting.goes_on_silently().await;
            meeting.link.event("right", json!(1)).await;
            assert_eq!(soon("an event", all.next()).await.unwrap().name(), "right", "{:?}", setup.arm);
        })
        .await;
    }

    /// 10 s after it was sent a call ends with `rpc_timeout`; others go on.
    async fn rpc_05_call_ends_after_10_s(quirks) breaks_with [WaitsForAnswerForEver] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let since = Timeline::start();
            let (call, _) = called(&mut meeting, "m", CallOptions::new()).await;
            assert_eq!(meeting.link.heard_within(Duration::from_secs(5)).await, None);
            let (later, cid) = called(&mut meeting, "m", CallOptions::new()).await;
            assert_eq!(code(outcome(call).await), "rpc_timeout", "{:?}", setup.arm);
            let waited = since.elapsed().as_secs_f64();
            assert!((10.0..10.1).contains(&waited), "{:?}: {waited} s", setup.arm);
            meeting.link.answer(cid, json!(1)).await;
            assert_eq!(outcome(later).await.unwrap(), json!(1), "{:?}", setup.arm);
        })
        .await;
    }

    /// Each call may have a time of its own, shorter or longer.
    async fn rpc_05_time_is_adjustable_per_call(quirks) breaks_with [WaitsForAnswerForEver] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            for seconds in [1, 25] {
                let since = Timeline::start();
                let options = CallOptions::new().timeout(Duration::from_secs(seconds));
                let (call, _) = called(&mut meeting, "m", options).await;
                assert_eq!(code(outcome(call).await), "rpc_timeout", "{:?}", setup.arm);
                let waited = since.elapsed().as_secs();
                assert_eq!(waited, seconds, "{:?}", setup.arm);
            }
        })
        .await;
    }

    /// Waiting for the session does not count; the clock starts when the call is sent.
    async fn rpc_05_waiting_in_the_buffer_does_not_count(quirks) breaks_with [CountsWaiting] {
        let (mut world, env) = World::new(5);
        let client = account(&env, quirks).connect().unwrap();
        let waiting = call(&client, "m", json!([]), CallOptions::new());
        tokio::time::sleep(Duration::from_secs(8)).await;
        let mut link = world.join().await;
        link.called().await;
        let since = Timeline::start();
        assert_eq!(code(outcome(waiting).await), "rpc_timeout");
        let waited = since.elapsed().as_secs_f64();
        assert!((9.9..10.1).contains(&waited), "{waited} s after it was sent");
    }

    /// Being paused counts: a call in flight ends on time.
    async fn rpc_05_being_paused_counts(quirks) breaks_with [StopsClockWhilePaused] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let since = Timeline::start();
            let (call, _) = called(&mut meeting, "m", CallOptions::new()).await;
            // The daemon's socket is lost; the relay tells a client so.
            match setup.arm {
                Arm::Client => {
                    let id = meeting.link.session();
                    meeting.link.socket.control(ControlCode::SessionPaused, Some(id)).await;
                    assert_eq!(code(outcome(call).await), "rpc_timeout", "client");
                }
                Arm::Daemon => {
                    let (socket, _) = meeting.link.into_parts();
                    socket.cut();
                    assert_eq!(code(outcome(call).await), "rpc_timeout", "daemon");
                }
            }
            let waited = since.elapsed().as_secs_f64();
            assert!((10.0..10.1).contains(&waited), "{:?}: {waited} s", setup.arm);
        })
        .await;
    }

    /// A total deadline ends the call on time, though its own time is longer.
    async fn rpc_05_total_deadline_ends_the_call(quirks) breaks_with [ForgetsTotal] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let since = Timeline::start();
            let options = CallOptions::new().timeout(Duration::from_secs(60)).total(Duration::from_secs(4));
            let (call, _) = called(&mut meeting, "m", options).await;
            assert_eq!(code(outcome(call).await), "rpc_timeout", "{:?}", setup.arm);
            let waited = since.elapsed().as_secs_f64();
            assert!((4.0..4.1).contains(&waited), "{:?}: {waited} s", setup.arm);
        })
        .await;
    }

    /// It counts from when the call was made, waiting included: before it is sent, and across the sending.
    async fn rpc_05_total_deadline_counts_waiting(quirks) breaks_with [ForgetsTotal] {
        let (mut world, env) = World::new(5);
        let client = account(&env, quirks).connect().unwrap();
        let since = Timeline::start();
        let total = |seconds| CallOptions::new().total(Duration::from_secs(seconds));
        let (short, long) = (call(&client, "m", json!(1), total(4)), call(&client, "m", json!(2), total(12)));
        assert_eq!(code(outcome(short).await), "rpc_timeout");
        assert_eq!(since.elapsed().as_secs(), 4);
        tokio::time::sleep(Duration::from_secs(4)).await;
        let mut link = world.join().await;
        assert_eq!(link.called().await.1, json!(2), "what is over is not sent");
        assert_eq!(code(outcome(long).await), "rpc_timeout");
        assert_eq!(since.elapsed().as_secs(), 12);
    }

    /// It counts also while the socket takes nothing.
    async fn rpc_05_total_deadline_counts_a_full_socket(quirks) breaks_with [ForgetsTotal] {
        both(quirks, async |setup| {
            let meeting = setup.active().await;
            let peer = meeting.peer();
            // Nobody reads at the far end: what is sent fills the socket.
            for _ in 0..100 {
                peer.emit("much", text_of(60_000)).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let since = Timeline::start();
            let late = call(&peer, "m", json!(1), CallOptions::new().total(Duration::from_secs(4)));
            assert_eq!(code(outcome(late).await), "rpc_timeout", "{:?}", setup.arm);
            let waited = since.elapsed().as_secs_f64();
            assert!((4.0..4.1).contains(&waited), "{:?}: {waited} s", setup.arm);
        })
        .await;
    }

    /// A slow handler delays only its own answer.
    async fn rpc_06_slow_handler_delays_only_itself(quirks) breaks_with [HandlesInTurn] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let held = Arc::new(Notify::new());
            let hold = held.clone();
            let peer = meeting.peer();
            peer.handle("slow", move |(): (), _: Context| {
                let hold = hold.clone();
                async move {
                    hold.notified().await;
                    Ok::<_, HandlerError>("slow")
                }
            }).unwrap();
            peer.handle("fast", |n: u32, _: Context| async move { Ok::<_, HandlerError>(n) }).unwrap();
            let slow = meeting.link.request("slow", json!(null)).await;
            for n in 0..5 {
                let fast = meeting.link.request("fast", json!(n)).await;
                assert_eq!(result(&mut meeting.link, fast).await, json!(n), "{:?}", setup.arm);
            }
            held.notify_one();
            assert_eq!(result(&mut meeting.link, slow).await, json!("slow"), "{:?}", setup.arm);
        })
        .await;
    }

    /// A handler may call back and wait for that answer.
    async fn rpc_06_handler_may_call_back(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            meeting.peer().handle("ask back", |(): (), context: Context| async move {
                let back: i64 = context.peer().call("back", ()).await?;
                Ok::<_, HandlerError>(back + 1)
            }).unwrap();
            let asked = meeting.link.request("ask back", json!(null)).await;
            let (method, _, back) = meeting.link.called().await;
            assert_eq!(method, "back");
            meeting.link.answer(back, json!(6)).await;
            assert_eq!(result(&mut meeting.link, asked).await, json!(7), "{:?}", setup.arm);
        })
        .await;
    }

    /// A second registration fails at once, and the first handler stays.
    async fn rpc_07_second_registration_fails_at_once(quirks) breaks_with [TakesSecondHandler] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let peer = meeting.peer();
            peer.handle("m", |(): (), _: Context| async { Ok::<_, HandlerError>("first") }).unwrap();
            let second = peer.handle("m", |(): (), _: Context| async { Ok::<_, HandlerError>("second") });
            assert_eq!(code(second), "rpc_method_already_registered", "{:?}", setup.arm);
            let cid = meeting.link.request("m", json!(null)).await;
            assert_eq!(result(&mut meeting.link, cid).await, json!("first"), "{:?}", setup.arm);
        })
        .await;
    }

    /// So does one for all connections of a daemon, and one for a connection beside it.
    async fn rpc_07_daemon_and_connection_share_the_names(quirks) breaks_with [TakesSecondHandler] {
        let (mut world, env) = World::new(7);
        let builder = daemon(&env, quirks).handle("m", never).unwrap();
        let server = builder.start().unwrap();
        let mut link = world.go_online(true).await;
        let id = world.meet(&mut link).await;
        link.is_alive_on(id).await;
        assert_eq!(code(server.connections()[0].handle("m", never)), "rpc_method_already_registered");
    }

    /// A builder that is given a method twice says so as well.
    async fn rpc_07_daemon_builder_refuses_a_second_handler(quirks) breaks_with [] {
        let (_world, env) = World::new(7);
        let twice = daemon(&env, quirks).handle("m", never).unwrap().handle("m", never);
        assert_eq!(code(twice), "rpc_method_already_registered");
        let twice = daemon(&env, quirks).introspection().unwrap().introspection();
        assert_eq!(code(twice), "rpc_method_already_registered");
    }

    /// Names under `$sideband/` cannot be handled by an application.
    async fn rpc_08_platform_names_are_reserved(quirks) breaks_with [GivesAwayReservedNames] {
        both(quirks, async |setup| {
            let meeting = setup.active().await;
            for method in ["$sideband/rpc.list", "$sideband/mine", "$sideband/"] {
                let taken = meeting.peer().handle(method, never);
                assert_eq!(taken.expect_err("a failure").kind(), ErrorKind::Misuse, "{:?}: {method}", setup.arm);
                if let Endpoint::Daemon(..) = meeting.endpoint {
                    let (_world, env) = World::new(8);
                    let taken = daemon(&env, quirks).handle(method, never);
                    assert_eq!(taken.expect_err("a failure").kind(), ErrorKind::Misuse, "builder: {method}");
                }
            }
            for method in ["$sideband", "sideband/mine", "$other/x"] {
                meeting.peer().handle(method, never).unwrap();
            }
        })
        .await;
    }

    /// The platform's own methods are there when they are switched on: the list is sorted, the description complete.
    async fn rpc_08_list_and_describe(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let peer = meeting.peer();
            for method in ["zeta", "alpha", "mid"] {
                peer.handle(method, never).unwrap();
            }
            let info = MethodInfo {
                description: Some("the first".to_owned()),
                input: Some(json!({ "type": "object" })),
                input_example: Some(json!({ "a": 1 })),
            };
            peer.describe("alpha", info);
            for method in ["$sideband/rpc.list", "$sideband/rpc.describe"] {
                let cid = meeting.link.request(method, json!(null)).await;
                assert_eq!(refused(&mut meeting.link, cid).await.0, 1_101, "{:?}: opt-in", setup.arm);
            }
            peer.introspection().unwrap();
            let cid = meeting.link.request("$sideband/rpc.list", json!(null)).await;
            let list = result(&mut meeting.link, cid).await;
            let names = ["$sideband/rpc.describe", "$sideband/rpc.list", "alpha", "mid", "zeta"];
            assert_eq!(list, json!({ "methods": names }), "{:?}", setup.arm);
            let cid = meeting.link.request("$sideband/rpc.describe", json!({})).await;
            let described = result(&mut meeting.link, cid).await;
            let alpha =
                json!({ "description": "the first", "input": { "type": "object" }, "inputExample": { "a": 1 } });
            assert_eq!((&described["alpha"], &described["zeta"]), (&alpha, &json!({})), "{:?}", setup.arm);
            assert_eq!(described.as_object().unwrap().len(), names.len(), "{:?}", setup.arm);
        })
        .await;
    }

    /// A daemon's are for all its connections, whose own methods they list too.
    async fn rpc_08_daemon_lists_the_methods_of_each_connection(quirks) breaks_with [] {
        let (mut world, env) = World::new(8);
        let server = daemon(&env, quirks).handle("shared", never).unwrap().introspection().unwrap().start().unwrap();
        let mut link = world.go_online(true).await;
        let id = world.meet(&mut link).await;
        link.is_alive_on(id).await;
        server.connections()[0].handle("own", never).unwrap();
        let cid = link.request("$sideband/rpc.list", json!(null)).await;
        let names = ["$sideband/rpc.describe", "$sideband/rpc.list", "own", "shared"];
        assert_eq!(result(&mut link, cid).await, json!({ "methods": names }));
    }

    /// A request of 65,508 bytes with everything goes out, one more fails at the call with size and limit.
    async fn rpc_09_request_fits_up_to_the_last_byte(quirks) breaks_with [DropsTooLarge] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let room = MAX_PLAINTEXT - request_head("m");
            let fitting = call(&meeting.peer(), "m", json!(text_of(room)), CallOptions::new());
            let frame = meeting.link.socket.frame().await;
            assert_eq!(meeting.link.line().open_plain(&frame).len(), 65_508, "{:?}", setup.arm);
            fitting.abort();
            let late = call(&meeting.peer(), "m", json!(text_of(room + 1)), CallOptions::new());
            let error = outcome(late).await.unwrap_err();
            assert_eq!(error.code(), Some("message_too_large"), "{:?}", setup.arm);
            let words = error.to_string();
            assert!(words.contains("65509") && words.contains("65508"), "{:?}: {words}", setup.arm);
            meeting.goes_on_silently().await;
        })
        .await;
    }

    /// The same of a call and an event that still wait for the session.
    async fn rpc_09_size_is_checked_also_while_waiting(quirks) breaks_with [] {
        let (mut world, env) = World::new(9);
        let client = account(&env, quirks).connect().unwrap();
        let room = MAX_PLAINTEXT - request_head("m");
        let late = client.call::<_, ()>("m", text_of(room + 1)).await;
        assert_eq!(code(late), "message_too_large");
        assert_eq!(code(client.emit("e", text_of(70_000)).await), "message_too_large");
        let _fitting = call(&client, "m", json!(text_of(room)), CallOptions::new());
        let mut link = world.join().await;
        let frame = link.socket.frame().await;
        assert_eq!(link.line().open_plain(&frame).len(), 65_508);
    }

    /// The same of an event.
    async fn rpc_09_event_fits_up_to_the_last_byte(quirks) breaks_with [DropsTooLarge] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let empty = Envelope::Event { name: "e".to_owned(), data: Some(Bytes::new()) };
            let room = MAX_PLAINTEXT - (18 + 4 + 5 + empty.encode().len());
            meeting.peer().emit("e", text_of(room)).await.unwrap();
            let frame = meeting.link.socket.frame().await;
            assert_eq!(meeting.link.line().open_plain(&frame).len(), 65_508, "{:?}", setup.arm);
            let error = meeting.peer().emit("e", text_of(room + 1)).await.expect_err("a failure");
            assert_eq!(error.code(), Some("message_too_large"), "{:?}", setup.arm);
            let words = error.to_string();
            assert!(words.contains("65509") && words.contains("65508"), "{:?}: {words}", setup.arm);
            meeting.goes_on_silently().await;
        })
        .await;
    }

    /// An answer that does not fit goes out as E 2000 saying so, be it a result or an error.
    async fn rpc_09_answer_that_does_not_fit_is_2000(quirks) breaks_with [DropsTooLargeAnswer] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let peer = meeting.peer();
            peer.handle("make", |n: usize, _: Context| async move { Ok::<_, HandlerError>(text_of(n)) }).unwrap();
            peer.handle("fail", |n: usize, _: Context| async move {
                Err::<(), _>(HandlerError::new(4_000, text_of(n)))
            }).unwrap();
            let cid = FrameId::from_bytes([0; 16]);
            let empty = Envelope::Result { cid, result: Some(Bytes::new()) }.encode();
            let room = MAX_PLAINTEXT - (18 + 4 + 3 + empty.len());
            let cid = meeting.link.request("make", json!(room)).await;
            assert_eq!(result(&mut meeting.link, cid).await, json!(text_of(room)), "{:?}", setup.arm);
            for (method, size) in [("make", room + 1), ("make", 1 << 20), ("fail", 70_000)] {
                let cid = meeting.link.request(method, json!(size)).await;
                let (code, message, _) = refused(&mut meeting.link, cid).await;
                assert_eq!(code, 2_000, "{:?}", setup.arm);
                assert!(message.contains("65508") && message.len() < 200, "{:?}: {message}", setup.arm);
            }
        })
        .await;
    }

    /// A handler's result reaches the far end even if many calls are under way.
    async fn rpc_06_many_calls_under_way_are_all_answered(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let running = Arc::new(AtomicU32::new(0));
            let count = running.clone();
            meeting.peer().handle("m", move |n: u64, _: Context| {
                count.fetch_add(1, Ordering::SeqCst);
                async move {
                    tokio::time::sleep(Duration::from_millis(200 - n)).await;
                    Ok::<_, HandlerError>(n)
                }
            }).unwrap();
            let mut cids = Vec::new();
            for n in 0..100 {
                cids.push(meeting.link.request("m", json!(n)).await);
            }
            // The last one called is the first to be done.
            for (n, cid) in cids.into_iter().enumerate().rev() {
                assert_eq!(result(&mut meeting.link, cid).await, json!(n), "{:?}", setup.arm);
            }
            assert_eq!(running.load(Ordering::SeqCst), 100);
        })
        .await;
    }
}
