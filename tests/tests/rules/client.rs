//! The client: CLI-01 to CLI-15.

use std::time::Duration;

use sideband_env::Timeline;
use sideband_tests::script::World;

use crate::{endpoints::connect, witness::witnesses};

witnesses! {
    /// Each delay is twice the one before, within a fifth, and never longer than 36 s.
    async fn cli_04_delays_double_up_to_the_longest(quirks) breaks_with [RetriesAtOnce] {
        let (mut world, env) = World::new(4);
        let _client = connect(&env, quirks);
        world.api().await.refuse(500);
        for base in [1.0, 2.0, 4.0, 8.0, 16.0_f64] {
            let since = Timeline::start();
            let call = world.api().await;
            let waited = since.elapsed().as_secs_f64();
            assert!((base * 0.8..=base * 1.2 + 0.01).contains(&waited), "{waited} s instead of about {base} s");
            call.refuse(500);
        }
        assert!(world.api_within(Duration::from_secs(600)).await.is_none(), "five retries in a row at most");
    }
}
