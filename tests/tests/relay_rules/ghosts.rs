//! Used session ids, ghosts, and a daemon's second socket.

use std::time::Duration;

use sideband_protocol::wire::{ControlCode, Signal};
use sideband_relay_sim::Takeover;
use sideband_tests::failure::due;

use crate::{bench::*, witness::witnesses};

witnesses! {
    async fn rel_10_a_session_id_that_lives_is_refused_before_the_websocket_opens(quirks) breaks_with [TellsConflictsLate] {
        let bench = Bench::new(quirks);
        let _daemon = bench.daemon().await;
        let mut client = bench.client(1).await;
        assert_eq!(bench.refusal(&Bench::client_claims(1)).await, 409);
        client.is_undisturbed().await;
    }

    async fn rel_10_a_session_id_that_was_used_is_refused(quirks) breaks_with [ForgetsUsedIds] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        drop(bench.client(1).await);
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
        assert_eq!(bench.refusal(&Bench::client_claims(1)).await, 409);
        // Until no token that names it can live any more.
        tokio::time::sleep(Duration::from_secs(299)).await;
        assert_eq!(bench.refusal(&Bench::client_claims(1)).await, 409);
    }

    async fn rel_11_a_fresh_session_is_let_in_beside_a_ghost(quirks) breaks_with [RefusesBesideGhosts] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        let _ghost = bench.raw_client(1).await;
        let mut client = due(bench.client(2)).await;
        client.send(data(2, vec![1; 40]));
        assert_eq!(daemon.got().await, Got::Frame(data(2, vec![1; 40])));
        assert_eq!(daemon.within(Duration::from_secs(89)).await, None);
        client.is_undisturbed().await;
    }

    async fn rel_11_a_ghost_goes_at_the_sweep_and_its_daemon_is_told(quirks) breaks_with [SweepsSilently] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        let _ghost = bench.raw_client(1).await;
        let mut client = bench.client(2).await;
        assert_eq!(daemon.within(Duration::from_secs(89)).await, None);
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
        assert_eq!(bench.seconds(), 90);
        client.is_undisturbed().await;
        daemon.is_undisturbed().await;
    }

    async fn rel_12_a_daemons_second_socket_replaces_the_first(quirks) breaks_with [NeverReplaces, ReplacesWithoutWord] {
        let bench = Bench::new(quirks);
        // The first is a ghost: that is what replacing is for.
        let mut first = bench.raw_daemon().await;
        let mut client = bench.client(1).await;
        let second = due(bench.daemon()).await;
        assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
        assert_eq!(client.got().await, control(ControlCode::SessionPending, 1));
        second.send(signal(1, Signal::Ready));
        assert_eq!(client.got().await, control(ControlCode::SessionResumed, 1));
        assert_eq!(first.got().await, Got::Close(4001));
    }

    async fn rel_12_by_choice_the_second_is_refused_until_the_first_is_gone(quirks) breaks_with [AlwaysReplaces] {
        let bench = Bench::with(quirks, |config| config.limits.takeover = Takeover::Refuse);
        let first = bench.daemon().await;
        let mut client = bench.client(1).await;
        assert_eq!(bench.refusal(&Bench::daemon_claims(true)).await, 409);
        client.is_undisturbed().await;
        drop(first);
        assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
        let _ghost = bench.raw_daemon().await;
        assert_eq!(client.got().await, control(ControlCode::SessionPending, 1));
        assert_eq!(bench.refusal(&Bench::daemon_claims(true)).await, 409, "ghosts too");
        // Its sweep lets the next one in.
        tokio::time::sleep(Duration::from_secs(91)).await;
        bench.daemon().await.is_undisturbed().await;
    }
}
