//! Events: EVT-01 and EVT-02.

use std::time::Duration;

use serde_json::json;
use sideband::Subscription;
use sideband_protocol::rpc::Envelope;
use sideband_tests::script::soon;
use tokio::sync::mpsc;

use crate::{
    both::{Endpoint, both},
    endpoints::code,
    witness::{due, witnesses},
};

/// Names of what a subscription has got so far, and of what comes until this one.
async fn names_until(subscription: &mut Subscription, last: &str) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let event = soon("an event", subscription.next()).await.expect("an open subscription");
        if event.name() == last {
            return names;
        }
        names.push(event.name().to_owned());
    }
}

witnesses! {
    /// Segments of letters, digits, `_` and `-`, joined by `.`, at most 255 bytes: everything else fails at the call.
    async fn evt_01_bad_names_fail_at_the_call(quirks) breaks_with [TakesAnyName] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let (longest, too_long) = ("x".repeat(255), "x".repeat(256));
            for name in ["a", "a.b.c", "A-Z_0-9", "0", "-", "_", "a.-.b", &longest] {
                meeting.peer().emit(name, 1).await.unwrap();
                let Envelope::Event { name: sent, .. } = meeting.link.envelope().await else { panic!("no event") };
                assert_eq!(sent, name, "{:?}", setup.arm);
            }
            for name in ["", ".", "a.", ".a", "a..b", "a b", "a*", "*", ">", "a.*", "a/b", "ä", "a\0", "a\n", &too_long] {
                let sent = meeting.peer().emit(name, 1).await;
                assert_eq!(code(sent), "invalid_pattern", "{:?}: {name:?}", setup.arm);
                if let Endpoint::Daemon(server, _) = &meeting.endpoint {
                    assert_eq!(code(server.broadcast(name, 1).await), "invalid_pattern", "broadcast: {name:?}");
                }
            }
            meeting.goes_on_silently().await;
        })
        .await;
    }

    /// Patterns: `*` and `>` as whole segments, `>` last only, `**` refused.
    async fn evt_01_bad_patterns_fail_at_the_call(quirks) breaks_with [TakesAnyName] {
        both(quirks, async |setup| {
            let meeting = setup.active().await;
            let (longest, too_long) = ("x".repeat(255), "x".repeat(256));
            for pattern in ["a", "a.b", "*", ">", "a.*", "*.a", "*.*", "a.>", "*.>", "a.*.b.>", &longest] {
                assert!(meeting.peer().subscribe(pattern).is_ok(), "{:?}: {pattern:?}", setup.arm);
                assert!(meeting.peer().on(pattern, |_| async {}).is_ok(), "{:?}: {pattern:?}", setup.arm);
            }
            for pattern in [
                "", ".", "a.", ".a", "a..b", "a b", "**", "a.**", "**.a", ">.a", "a.>.b", ">>", "a*", "*a", "a>", "ä", "a\0",
                &too_long,
            ] {
                let subscribed = meeting.peer().subscribe(pattern);
                assert_eq!(code(subscribed), "invalid_pattern", "{:?}: {pattern:?}", setup.arm);
                let on = meeting.peer().on(pattern, |_| async {});
                assert_eq!(code(on), "invalid_pattern", "{:?}: {pattern:?}", setup.arm);
            }
        })
        .await;
    }

    /// `*` stands for one segment, `>` for one or more; everything else for itself.
    async fn evt_01_patterns_match(quirks) breaks_with [StarMatchesMany] {
        let names = ["a", "b", "a.b", "a.c", "A.b", "a.b.c", "x.b", "a.b.c.d"];
        let rows: [(&str, &[&str]); 9] = [
            ("a", &["a"]),
            ("a.b", &["a.b"]),
            ("*", &["a", "b"]),
            ("a.*", &["a.b", "a.c"]),
            ("*.b", &["a.b", "A.b", "x.b"]),
            ("*.*", &["a.b", "a.c", "A.b", "x.b"]),
            (">", &names),
            ("a.>", &["a.b", "a.c", "a.b.c", "a.b.c.d"]),
            ("a.*.>", &["a.b.c", "a.b.c.d"]),
        ];
        both(quirks, async |setup| {
            for (pattern, wanted) in rows {
                let mut meeting = setup.active().await;
                let mut subscription = meeting.peer().subscribe(pattern).unwrap();
                for name in names {
                    meeting.link.event(name, json!(1)).await;
                }
                // All of them have arrived when what follows is answered.
                meeting.goes_on_silently().await;
                let mut got = Vec::new();
                while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(1), subscription.next()).await {
                    got.push(event.name().to_owned());
                }
                assert_eq!(got, wanted, "{:?}: {pattern}", setup.arm);
            }
        })
        .await;
    }

    /// Every matching subscription gets each event once; those that do not match get none.
    async fn evt_02_every_subscription_gets_each_event_once(quirks) breaks_with [DeliversOnce] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let peer = meeting.peer();
            let mut matching: Vec<_> = ["a.b", "a.b", "a.*", ">"].map(|p| peer.subscribe(p).unwrap()).into();
            let mut other = peer.subscribe("a").unwrap();
            meeting.link.event("a.b", json!({ "n": 1 })).await;
            meeting.goes_on_silently().await;
            for subscription in &mut matching {
                let soon = Duration::from_secs(1);
                let event = tokio::time::timeout(soon, subscription.next()).await.expect("an event").unwrap();
                assert_eq!(event.data::<serde_json::Value>().unwrap(), json!({ "n": 1 }), "{:?}", setup.arm);
                assert!(tokio::time::timeout(soon, subscription.next()).await.is_err(), "{:?}: twice", setup.arm);
            }
            assert!(tokio::time::timeout(Duration::from_secs(1), other.next()).await.is_err(), "{:?}", setup.arm);
        })
        .await;
    }

    /// Events come in the order sent, in both directions.
    async fn evt_02_events_come_in_the_order_sent(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let mut all = meeting.peer().subscribe(">").unwrap();
            let names: Vec<_> = (0..200).map(|n| format!("e{}.n{n}", n % 7)).collect();
            for name in &names {
                meeting.link.event(name, json!(null)).await;
                meeting.peer().emit(name, ()).await.unwrap();
            }
            meeting.link.event("end", json!(null)).await;
            assert_eq!(names_until(&mut all, "end").await, names, "{:?}", setup.arm);
            for name in &names {
                let Envelope::Event { name: sent, .. } = meeting.link.envelope().await else { panic!("no event") };
                assert_eq!(sent, *name, "{:?}", setup.arm);
            }
        })
        .await;
    }

    /// A handler takes its events one after the other; another one is not held up by it.
    async fn evt_02_handler_takes_events_in_order(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let (slow, mut slowly) = mpsc::unbounded_channel();
            meeting.peer().on("e", move |event| {
                let slow = slow.clone();
                async move {
                    let n: u64 = event.data().unwrap();
                    tokio::time::sleep(Duration::from_secs(10 - n)).await;
                    slow.send(n).unwrap();
                }
            }).unwrap();
            let mut other = meeting.peer().subscribe("e").unwrap();
            for n in 0..5 {
                meeting.link.event("e", json!(n)).await;
            }
            for n in 0..5_u64 {
                let soon = Duration::from_secs(1);
                let event = tokio::time::timeout(soon, other.next()).await.expect("at once").unwrap();
                assert_eq!(event.data::<u64>().unwrap(), n, "{:?}", setup.arm);
            }
            for n in 0..5 {
                assert_eq!(soon("an event", slowly.recv()).await, Some(n), "{:?}", setup.arm);
            }
        })
        .await;
    }

    /// A handler that fails stops no other, nor itself.
    async fn evt_02_failing_handler_stops_no_other(quirks) breaks_with [StopsAfterFailure] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let (tell, mut told) = mpsc::unbounded_channel();
            for failing in [true, false] {
                let tell = tell.clone();
                meeting.peer().on("e", move |event| {
                    let tell = tell.clone();
                    async move {
                        let n: u32 = event.data().unwrap();
                        tell.send((failing, n)).unwrap();
                        assert!(!failing, "it failed on purpose");
                    }
                }).unwrap();
            }
            for n in 0..3 {
                meeting.link.event("e", json!(n)).await;
            }
            let mut got = Vec::new();
            for _ in 0..6 {
                got.push(due(soon("a handler", told.recv())).await.unwrap());
            }
            got.sort_unstable();
            let wanted = [(false, 0), (false, 1), (false, 2), (true, 0), (true, 1), (true, 2)];
            assert_eq!(got, wanted, "{:?}", setup.arm);
        })
        .await;
    }

    /// A subscription that is dropped takes nothing from the others.
    async fn evt_02_dropped_subscription_stops_no_other(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let (dropped, mut kept) = (meeting.peer().subscribe("e").unwrap(), meeting.peer().subscribe("e").unwrap());
            drop(dropped);
            for n in 0..3_u32 {
                meeting.link.event("e", json!(n)).await;
                assert_eq!(soon("an event", kept.next()).await.unwrap().data::<u32>().unwrap(), n, "{:?}", setup.arm);
            }
        })
        .await;
    }
}
