//! Sessions, by the table of page 4.

use std::time::Duration;

use sideband_protocol::wire::{ControlCode, Signal};

use crate::{bench::*, witness::witnesses};

/// A session whose daemon was lost.
async fn paused(bench: &Bench) -> Peer {
    let _daemon = bench.daemon().await;
    let mut client = bench.client(1).await;
    bench.relay.drop_daemon(DAEMON);
    assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
    client
}

/// A session whose daemon has returned.
async fn pending(bench: &Bench) -> (Peer, Peer) {
    let mut client = paused(bench).await;
    let daemon = bench.daemon().await;
    assert_eq!(client.got().await, control(ControlCode::SessionPending, 1));
    (daemon, client)
}

witnesses! {
    async fn rel_01_a_session_waits_30_s_for_its_daemon(quirks) breaks_with [GraceNeverEnds] {
        let bench = Bench::new(quirks);
        let mut client = paused(&bench).await;
        assert_eq!(client.within(Duration::from_millis(29_900)).await, None);
        client.is_refused(ControlCode::SessionExpired, 1, 1000).await;
        assert_eq!(bench.seconds(), 30);
    }

    async fn rel_01_a_daemon_lost_again_does_not_prolong_the_grace(quirks) breaks_with [GraceStartsAnew] {
        let bench = Bench::new(quirks);
        let mut client = paused(&bench).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let daemon = bench.daemon().await;
        assert_eq!(client.got().await, control(ControlCode::SessionPending, 1));
        drop(daemon);
        assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
        client.is_refused(ControlCode::SessionExpired, 1, 1000).await;
        assert_eq!(bench.seconds(), 30);
    }

    async fn rel_01_the_daemon_learns_of_a_clients_end(quirks) breaks_with [SilentOnClientsEnd] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        drop(bench.client(5).await);
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 5));
        let (mut daemon, client) = pending(&bench).await;
        drop(client);
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
    }

    async fn rel_01_a_daemon_without_resume_ends_its_sessions(quirks) breaks_with [ResumesAnyDaemon] {
        let bench = Bench::new(quirks);
        let mut client = paused(&bench).await;
        let _daemon = bench.connect(&Bench::daemon_claims(false)).await.unwrap().pumped();
        client.is_refused(ControlCode::SessionExpired, 1, 1000).await;
    }

    async fn rel_02_a_session_resumes_when_its_daemon_is_ready_and_not_before(quirks) breaks_with [ResumesUnready] {
        let bench = Bench::new(quirks);
        let (daemon, mut client) = pending(&bench).await;
        assert_eq!(client.within(Duration::from_secs(20)).await, None);
        daemon.send(signal(1, Signal::Ready));
        assert_eq!(client.got().await, control(ControlCode::SessionResumed, 1));
    }

    async fn rel_03_a_clients_frames_are_dropped_until_its_session_resumes(quirks) breaks_with [ForwardsWhilePending] {
        let bench = Bench::new(quirks);
        let mut client = paused(&bench).await;
        client.send(data(1, vec![1; 40]));
        client.is_undisturbed().await;
        let mut daemon = bench.daemon().await;
        assert_eq!(client.got().await, control(ControlCode::SessionPending, 1));
        client.send(data(1, vec![2; 40]));
        client.is_undisturbed().await;
        daemon.send(signal(1, Signal::Ready));
        assert_eq!(client.got().await, control(ControlCode::SessionResumed, 1));
        client.send(data(1, vec![3; 40]));
        assert_eq!(daemon.got().await, Got::Frame(data(1, vec![3; 40])));
        let counters = bench.relay.status().counters;
        assert_eq!((counters["dropped_session_paused"], counters["dropped_session_pending"]), (1, 1));
    }

    async fn rel_03_a_daemons_frames_are_dropped_until_it_is_ready(quirks) breaks_with [TakesDaemonWhilePending] {
        let bench = Bench::new(quirks);
        let (mut daemon, mut client) = pending(&bench).await;
        daemon.send(data(1, vec![1; 40]));
        daemon.is_undisturbed().await;
        client.is_undisturbed().await;
    }

    async fn rel_04_sessions_are_independent(quirks) breaks_with [EndsSessionsTogether] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        let mut other = bench.client(2).await;
        for (n, end) in [(3, data(9, vec![1; 40])), (4, raw(0x99, 0, 0, b""))] {
            let client = bench.client(n).await;
            client.send(end);
            assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, n));
            other.is_undisturbed().await;
        }
        daemon.send(data(2, vec![5; 40]));
        assert_eq!(other.got().await, Got::Frame(data(2, vec![5; 40])));
    }

    async fn rel_05_ready_for_a_paired_session_is_ignored(quirks) breaks_with [ResumesPaired] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        let mut client = bench.client(1).await;
        daemon.send(signal(1, Signal::Ready));
        daemon.is_undisturbed().await;
        client.is_undisturbed().await;
    }

    async fn rel_06_frames_arrive_in_the_order_sent(quirks) breaks_with [SwapsFrames] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        let mut clients = [bench.client(1).await, bench.client(2).await];
        for n in 0..100 {
            for (session, client) in (1..).zip(&clients) {
                client.send(data(session, vec![n; 40]));
                daemon.send(data(session, vec![n; 41]));
            }
        }
        let mut next = [0, 0];
        for _ in 0..200 {
            let Got::Frame(frame) = daemon.got().await else { panic!("the daemon's socket ended") };
            let session = usize::from(frame[12]) - 1;
            assert_eq!(frame[13..], [next[session]; 40]);
            next[session] += 1;
        }
        for (session, client) in (1..).zip(&mut clients) {
            for n in 0..100 {
                assert_eq!(client.got().await, Got::Frame(data(session, vec![n; 41])));
            }
        }
    }
}
