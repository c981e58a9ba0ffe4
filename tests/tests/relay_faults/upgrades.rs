//! `relay.upgrade`.

use std::time::Duration;

use sideband_protocol::wire::ControlCode;

use crate::{Faulty, bench::*};

/// The answer that refuses a client.
async fn refused(faulty: &Faulty, n: u64) -> (u16, Option<String>, Option<String>, String) {
    let answer = match faulty.bench.dial_as(&Bench::client_claims(n)).await.unwrap() {
        Err(answer) => answer,
        Ok(_) => panic!("it is let in"),
    };
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let body = String::from_utf8(answer.body().clone().unwrap_or_default()).unwrap();
    (answer.status().as_u16(), header("retry-after"), header("x-sideband-fault"), body)
}

#[tokio::test(start_paused = true)]
async fn tok_13_an_upgrade_is_refused_as_the_rule_says_and_as_often() {
    let rule =
        "on = \"relay.upgrade\"\nrole = \"client\"\nskip = 1\ntimes = 2\ndo = { refuse = 503, retry_after = \"7s\" }";
    let faulty = Faulty::one(rule);
    let _daemon = faulty.bench.daemon().await;
    let _first = faulty.bench.client(1).await;
    for number in [1, 2] {
        let (status, wait, label, body) = refused(&faulty, 2).await;
        assert_eq!((status, wait.as_deref()), (503, Some("7")));
        assert_eq!(label, Some(format!("one#{number}")));
        assert!(body.contains("\"unavailable\""), "{body}");
    }
    // The session id is not used up.
    let _second = faulty.bench.client(2).await;
    assert_eq!(faulty.counts(), [(4, 2)]);
    assert_eq!(faulty.bench.relay.status().counters["refused_fault"], 2);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_refused_with_a_code_of_the_rule() {
    let faulty = Faulty::one("on = \"relay.upgrade\"\npath = \"/relay\"\ndo = { refuse = 418, code = \"teapot\" }");
    let (status, wait, _, body) = refused(&faulty, 1).await;
    assert_eq!((status, wait), (418, None));
    assert!(body.contains("\"teapot\""), "{body}");
    assert_eq!(faulty.counts(), [(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_is_about_whom_the_token_names() {
    let plan = |filter: &str| format!("on = \"relay.upgrade\"\n{filter}\ndo = {{ refuse = 503 }}");
    for filter in ["user = \"u_2\"", "daemon = \"d_2\"", "session = \"0000000000000002\"", "path = \"/other\""] {
        let faulty = Faulty::one(&plan(filter));
        let _daemon = faulty.bench.daemon().await;
        let _client = faulty.bench.client(1).await;
        assert_eq!(faulty.counts(), [(0, 0)], "{filter}");
    }
    for filter in ["user = \"u_1\"", "daemon = \"d_1\"", "session = \"0000000000000001\"", "path = \"/relay\""] {
        let faulty = Faulty::one(&plan(filter));
        assert_eq!(faulty.bench.refusal(&Bench::client_claims(1)).await, 503, "{filter}");
        assert_eq!(faulty.counts(), [(1, 1)], "{filter}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_delayed() {
    let faulty = Faulty::one("on = \"relay.upgrade\"\ntimes = 1\ndo = { delay = \"20s\" }");
    let _daemon = faulty.bench.daemon().await;
    assert_eq!(faulty.bench.seconds(), 20);
    let _client = faulty.bench.client(1).await;
    assert_eq!((faulty.bench.seconds(), faulty.counts()), (20, vec![(2, 1)]));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_hangs_until_the_rule_is_over() {
    let faulty = Faulty::one("on = \"relay.upgrade\"\nfor = \"40s\"\ndo = \"hang\"");
    let claims = Bench::daemon_claims(true);
    let early = tokio::time::timeout(Duration::from_secs(39), faulty.bench.dial_as(&claims)).await;
    assert!(early.is_err());
    let _daemon = faulty.bench.daemon().await;
    assert_eq!((faulty.bench.seconds(), faulty.counts()), (40, vec![(2, 2)]));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_cut() {
    let faulty = Faulty::one("on = \"relay.upgrade\"\ntimes = 1\ndo = \"cut\"");
    let claims = Bench::daemon_claims(true);
    assert!(faulty.bench.dial_as(&claims).await.is_err(), "there is no answer");
    let _daemon = faulty.bench.daemon().await;
    assert_eq!(faulty.counts(), [(2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn tok_05_a_token_is_judged_by_a_clock_that_is_off() {
    for (shift, status) in [("10m", 401), ("-10m", 0), ("10s", 0)] {
        let faulty = Faulty::one(&format!("on = \"relay.upgrade\"\ndo = {{ clock_shift = \"{shift}\" }}"));
        match faulty.bench.connect(&Bench::client_claims(1)).await {
            Err(refused) => assert_eq!(refused, status, "{shift}"),
            Ok(mut client) => {
                assert_eq!(status, 0, "{shift}");
                assert_eq!(client.got().await, control(ControlCode::DaemonOffline, 1));
            }
        }
        assert_eq!(faulty.counts(), [(1, 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_goes_together_with_a_refusal_and_the_second_refusal_is_overruled() {
    let plan = "[[fault]]\non = \"relay.upgrade\"\ndo = { delay = \"3s\" }\n\
                [[fault]]\non = \"relay.upgrade\"\ndo = { refuse = 429 }\n\
                [[fault]]\non = \"relay.upgrade\"\ndo = { refuse = 503 }\n";
    let faulty = Faulty::new(plan);
    let (status, _, label, _) = refused(&faulty, 1).await;
    assert_eq!((status, label.as_deref()), (429, Some("rule-1#1, rule-2#1")));
    assert_eq!((faulty.bench.seconds(), faulty.counts()), (3, vec![(1, 1), (1, 1), (1, 0)]));
}
