//! The relay's key cache, over the key set of a control plane with the faults of a plan.

use std::time::Duration;

use sideband_protocol::{
    api::ApiQuirks,
    relay::RelayQuirks,
    token::{Claims, Signer},
};
use sideband_tests::script::START;

use crate::{api_bench::ApiBench, bench::*, witness::witnesses};

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

/// A control plane that is right, and a relay that has its keys from there.
fn both(quirks: RelayQuirks) -> (ApiBench, Bench) {
    let api = ApiBench::new(ApiQuirks::NONE);
    let relay = api.relay(quirks);
    (api, relay)
}

/// A token of a key that nobody knows.
fn unknown(n: u64) -> String {
    Signer::from_seed("k-nobody", &[9; 32]).sign(&Claims::client(ISSUER, "u_1", DAEMON, id(n), "t-1", START))
}

witnesses! {
    async fn key_01_a_set_is_used_for_five_minutes(quirks) breaks_with [NeverCachesKeys, KeepsFirstKeys] {
        let (api, relay) = both(quirks);
        assert_eq!((relay.status(&api.client_token().await).await, api.asked()), (101, 1));
        seconds(299).await;
        assert_eq!((relay.status(&api.client_token().await).await, api.asked()), (101, 1));
        seconds(2).await;
        assert_eq!((relay.status(&api.client_token().await).await, api.asked()), (101, 2));
    }

    async fn key_01_an_unknown_key_refreshes_the_set_at_once(quirks) breaks_with [NeverLooksAgain] {
        let (api, relay) = both(quirks);
        assert_eq!(relay.status(&api.client_token().await).await, 101);
        api.api.rotate(false).unwrap();
        assert_eq!(relay.status(&api.client_token().await).await, 101);
        assert_eq!(api.asked(), 2);
    }

    async fn key_01_there_is_one_such_refresh_in_10_s(quirks) breaks_with [LooksWithoutEnd] {
        let (api, relay) = both(quirks);
        assert_eq!(relay.status(&unknown(1)).await, 401, "after the first load and a refresh");
        assert_eq!(api.asked(), 2);
        let (status, body) = relay.ask("/relay", Some(&unknown(1))).await;
        assert_eq!((status, body.contains("\"unavailable\"")), (503, true), "{body}");
        seconds(9).await;
        assert_eq!(relay.status(&unknown(1)).await, 503);
        assert_eq!(relay.status(&api.client_token().await).await, 101, "known keys are not concerned");
        seconds(1).await;
        assert_eq!(relay.status(&unknown(1)).await, 401);
        assert_eq!(api.asked(), 3);
    }

    async fn key_01_upgrades_at_once_share_a_slow_fetch(quirks) breaks_with [NeverCachesKeys] {
        let (api, relay) = both(quirks);
        api.keys_fault("{ delay = \"5s\" }");
        let mut tokens = Vec::new();
        for _ in 0..20 {
            tokens.push(api.client_token().await);
        }
        let all = futures_util::future::join_all(tokens.iter().map(|token| relay.status(token))).await;
        assert_eq!((all, relay.seconds(), api.asked()), (vec![101; 20], 5, 1));
    }

    async fn key_02_during_an_overlap_both_keys_are_good(quirks) breaks_with [KnowsOneKey] {
        let (api, relay) = both(quirks);
        let (old, presence) = (api.client_token().await, api.presence_token().await);
        api.api.rotate(false).unwrap();
        let new = api.client_token().await;
        let mut daemon = relay.connect_with(&presence).await.map(Raw::pumped).ok();
        assert!(daemon.is_some(), "the old key");
        for token in [&new, &old] {
            assert_eq!(relay.status(token).await, 101);
        }
        api.api.rotate(false).unwrap();
        let mut client = relay.connect_with(&api.client_token().await).await.unwrap().pumped();
        client.is_undisturbed().await;
        if let Some(daemon) = &mut daemon {
            while let Some(Got::Frame(_)) = daemon.within(Duration::from_millis(1)).await {}
            daemon.is_undisturbed().await;
        }
    }

    async fn key_02_entries_of_other_kinds_disturb_nobody(quirks) breaks_with [StumblesOnForeignKeys] {
        let (api, relay) = both(quirks);
        api.keys_fault("{ foreign = 10 }");
        assert_eq!(relay.status(&api.client_token().await).await, 101);
    }

    async fn key_03_without_any_key_set_upgrades_get_503(quirks) breaks_with [BlamesTokenForKeys] {
        for action in ["{ status = 503 }", "{ status = 200, body = \"html\" }", "\"cut\"", "\"hang\"", "{ delay = \"11s\" }"] {
            let (api, relay) = both(quirks);
            api.keys_fault(action);
            let token = api.client_token().await;
            let (status, body) = relay.ask("/relay", Some(&token)).await;
            assert_eq!((status, body.contains("\"unavailable\"")), (503, true), "{action}: {body}");
            // A token that no key could save is refused all the same.
            assert_eq!(relay.ask("/relay", None).await.0, 401);
            api.faults("");
            assert_eq!(relay.status(&token).await, 101, "{action}");
        }
    }

    async fn key_03_a_cached_set_goes_on_being_used(quirks) breaks_with [ForgetsKeysInOutage] {
        for action in ["{ status = 500 }", "\"cut\"", "\"hang\""] {
            let (api, relay) = both(quirks);
            assert_eq!(relay.status(&api.client_token().await).await, 101);
            api.keys_fault(action);
            seconds(301).await;
            for _ in 0..3 {
                assert_eq!(relay.status(&api.client_token().await).await, 101, "{action}");
                seconds(11).await;
            }
            // A key that came meanwhile cannot be known.
            api.api.rotate(false).unwrap();
            assert_eq!(relay.status(&api.client_token().await).await, 503, "{action}");
            api.faults("");
            seconds(11).await;
            assert_eq!(relay.status(&api.client_token().await).await, 101, "{action}");
        }
    }
}
