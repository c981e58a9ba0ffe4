//! Quick Connect codes.

use std::collections::BTreeMap;

use serde_json::json;
use sideband_protocol::api::utc_text;
use sideband_tests::script::START;

use crate::{
    api_bench::{Answer, ApiBench},
    witness::witnesses,
};

impl ApiBench {
    async fn create(&self, ttl: Option<u64>) -> Answer {
        let input = ttl.map_or(json!(null), |seconds| json!({"ttlSeconds": seconds}));
        self.call("quickConnect.create", self.key(), input).await
    }

    async fn code(&self) -> String {
        self.create(None).await.text("code")
    }

    async fn redeem(&self, code: &str) -> Answer {
        self.call("quickConnect.redeem", "", json!({"code": code})).await
    }
}

witnesses! {
    for api;

    async fn api_03_a_code_is_12_lower_case_letters(quirks) breaks_with [MakesCodesInCapitals] {
        let api = ApiBench::new(quirks);
        for _ in 0..50 {
            let code = api.code().await;
            let parts: Vec<_> = code.split('-').collect();
            assert!(parts.len() == 3 && parts.iter().all(|part| part.len() == 4), "{code}");
            assert!(parts.concat().bytes().all(|byte| byte.is_ascii_lowercase()), "{code}");
        }
    }

    async fn api_03_the_url_has_the_code_behind_the_hash(quirks) breaks_with [PutsCodeIntoQuery] {
        let api = ApiBench::new(quirks);
        let answer = api.create(None).await;
        let (url, code) = (answer.text("url"), answer.text("code"));
        assert_eq!(url.split_once('#').map(|(_, behind)| behind.to_owned()), Some(format!("qc={code}")), "{url}");
    }

    async fn api_03_a_code_lives_as_long_as_it_says(quirks) breaks_with [IgnoresTtl] {
        let api = ApiBench::new(quirks);
        api.set_online(&api.boot.daemon_id);
        for (ttl, life) in [(None, 300), (Some(30), 30), (Some(3_600), 3_600)] {
            let answer = api.create(ttl).await;
            let begun = START + api.elapsed();
            assert_eq!(answer.text("expiresAt"), utc_text(begun + life));
            let other = api.create(ttl).await.text("code");
            api.advance(life - 1);
            assert_eq!(api.redeem(&answer.text("code")).await.status, 200);
            api.advance(1);
            assert_eq!(api.redeem(&other).await.status, 404);
        }
        assert_eq!(utc_text(START), "2027-01-15T08:00:00Z");
        for ttl in [0, 29, 3_601] {
            assert_eq!(api.create(Some(ttl)).await.status, 400, "{ttl}");
        }
    }

    async fn api_04_an_offline_daemon_is_409_and_the_code_is_gone(quirks) breaks_with [SparesCodes] {
        let api = ApiBench::new(quirks);
        let code = api.code().await;
        assert_eq!(api.redeem(&code).await.failure(), (409, "CONFLICT", -32_009));
        api.set_online(&api.boot.daemon_id);
        assert_eq!(api.redeem(&code).await.status, 404);
        assert_eq!(api.redeem(&api.code().await).await.status, 200);
    }

    async fn api_04_unknown_used_and_expired_codes_look_alike(quirks) breaks_with [TellsExpiry] {
        let api = ApiBench::new(quirks);
        api.set_online(&api.boot.daemon_id);
        let (used, expired) = (api.code().await, api.create(Some(30)).await.text("code"));
        assert_eq!(api.redeem(&used).await.status, 200);
        api.advance(30);
        let mut looks = BTreeMap::new();
        for code in [&used, &expired, "aaaa-aaaa-aaaa"] {
            let answer = api.redeem(code).await;
            assert_eq!(answer.status, 404);
            looks.insert(format!("{:?} {}", answer.headers, answer.body), code);
        }
        assert_eq!(looks.len(), 1, "{looks:?}");
    }

    async fn api_05_of_100_redeems_at_once_one_succeeds(quirks) breaks_with [RedeemsInTwoSteps] {
        let api = ApiBench::new(quirks);
        api.set_online(&api.boot.daemon_id);
        let code = api.code().await;
        let all = futures_util::future::join_all((0..100).map(|_| api.redeem(&code))).await;
        let mut counts = BTreeMap::new();
        for answer in all {
            *counts.entry(answer.status).or_insert(0) += 1;
        }
        assert_eq!(counts, BTreeMap::from([(200, 1), (404, 99)]));
    }
}
