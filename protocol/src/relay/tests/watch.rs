//! The watch over one connection: rate, silence, and standing still.

use proptest::prelude::*;

use super::*;

const NONE: Duration = Duration::ZERO;

fn millis(n: u64) -> Instant {
    Instant::from_origin(Duration::from_millis(n))
}

fn slow(frames_per_second: u32, burst: u32, rate_mode: RateMode) -> WatchLimits {
    WatchLimits { frames_per_second, burst, rate_mode, ..WatchLimits::default() }
}

fn watch(limits: WatchLimits, whose: Watched) -> Watch {
    Watch::new(limits, RelayQuirks::NONE, whose, at(0))
}

fn client() -> Watch {
    watch(WatchLimits::default(), Watched::Client)
}

/// Everything that comes due until `end`, with its second, when nothing else happens.
fn due_until(watch: &mut Watch, end: u64, mut daemon: impl FnMut(Instant) -> Duration) -> Vec<(u64, Due)> {
    let mut due = Vec::new();
    let mut now = Instant::ORIGIN;
    while let Some(at) = watch.poll_timeout(daemon(now), now)
        && at <= self::at(end)
    {
        assert!(at >= now, "{at:?} is before {now:?}");
        now = at;
        while let Some(what) = watch.poll_due(daemon(now), now) {
            due.push((now.since_origin().as_secs(), what));
            if what != Due::Ping {
                return due;
            }
        }
    }
    due
}

#[test]
fn the_defaults_are_those_of_the_specification() {
    let limits = WatchLimits::default();
    assert_eq!((limits.frames_per_second, limits.burst, limits.rate_mode), (10_000, 20_000, RateMode::Drop));
    assert_eq!([limits.ping, limits.sweep, limits.stall].map(|t| t.as_secs()), [30, 90, 30]);
}

#[test]
fn rel_20_a_burst_passes_and_the_next_frame_does_not() {
    let mut watch = client();
    for n in 0..20_000 {
        assert_eq!(watch.handle_frame(at(0)), Admit::Pass, "{n}");
    }
    assert_eq!(watch.handle_frame(at(0)), Admit::Drop { tell: true });
    // Half a second later half a second's frames pass.
    for n in 0..5_000 {
        assert_eq!(watch.handle_frame(millis(500)), Admit::Pass, "{n}");
    }
    assert_eq!(watch.handle_frame(millis(500)), Admit::Drop { tell: false });
}

#[test]
fn rel_20_the_sender_is_told_once_a_second_of_excess() {
    let mut watch = watch(slow(10, 1, RateMode::Drop), Watched::Client);
    // 100 frames a second for ten seconds.
    let told = (0..1_000).filter(|n| watch.handle_frame(millis(n * 10)) == Admit::Drop { tell: true }).count();
    assert_eq!(told, 10);
    assert_eq!(watch.handle_frame(at(100)), Admit::Pass);
    assert_eq!(watch.handle_frame(at(100)), Admit::Drop { tell: true }, "a new excess is told at once");
}

#[test]
fn rel_20_throttled_reading_waits_for_each_frames_time() {
    let mut watch = watch(slow(10, 2, RateMode::Throttle), Watched::Client);
    let mut now = at(0);
    for n in 0..10 {
        if !watch.may_read(now) {
            now = watch.poll_timeout(NONE, now).unwrap();
        }
        assert!(watch.may_read(now));
        assert_eq!(watch.handle_frame(now), Admit::Pass, "{n}");
    }
    assert_eq!(now, millis(800), "two at once, then one each tenth of a second");
}

#[test]
fn rel_20_another_rate_holds_at_once() {
    let mut watch = watch(slow(1, 1_000, RateMode::Drop), Watched::Client);
    for _ in 0..1_000 {
        watch.handle_frame(at(0));
    }
    watch.set_limits(slow(10, 5, RateMode::Drop), at(0));
    assert_ne!(watch.handle_frame(at(0)), Admit::Pass);
    let passed = (0..20).filter(|_| watch.handle_frame(at(1)) == Admit::Pass).count();
    assert_eq!(passed, 5, "not after the 1,000 s that were owed, and no more than the burst");
}

#[test]
fn rel_22_silence_is_pinged_and_then_swept() {
    for whose in [Watched::Client, Watched::Daemon] {
        let due = due_until(&mut watch(WatchLimits::default(), whose), 1_000, |_| NONE);
        assert_eq!(due, [(30, Due::Ping), (60, Due::Ping), (90, Due::Sweep)]);
    }
}

#[test]
fn rel_22_any_sign_of_life_starts_the_silence_anew() {
    for message in [true, false] {
        let mut watch = client();
        watch.handle_heard(message, at(80));
        assert_eq!(watch.poll_due(NONE, at(90)), None);
        assert_eq!(watch.poll_due(NONE, at(110)), Some(Due::Ping));
        assert_eq!(watch.poll_due(NONE, at(169)), Some(Due::Ping));
        assert_eq!(watch.poll_due(NONE, at(170)), Some(Due::Sweep));
    }
}

#[test]
fn rel_22_other_times_hold_for_a_silence_that_lasts() {
    let mut watch = client();
    let limits = WatchLimits { ping: Duration::from_secs(2), sweep: Duration::from_secs(5), ..WatchLimits::default() };
    watch.set_limits(limits, at(1));
    assert_eq!(due_until(&mut watch, 100, |_| NONE), [(2, Due::Ping), (4, Due::Ping), (5, Due::Sweep)]);
}

#[test]
fn rel_21_a_held_client_is_not_swept_and_is_silent_from_its_release_on() {
    let mut watch = client();
    watch.handle_held(Some(0), NONE, at(10));
    assert_eq!(due_until(&mut watch, 10_000, |_| NONE), [], "its daemon takes nothing: not the client's fault");
    watch.handle_held(None, NONE, at(10_000));
    assert_eq!(watch.poll_timeout(NONE, at(10_000)), Some(at(10_030)));
    assert_eq!(watch.poll_due(NONE, at(10_090)), Some(Due::Sweep));
}

#[test]
fn rel_21_a_held_client_is_closed_after_30_s_in_which_its_daemon_takes_bytes() {
    let mut watch = client();
    watch.handle_held(Some(7), Duration::from_secs(3), at(0));
    // From second 100 on the daemon takes.
    let daemon = |now: Instant| Duration::from_secs(3) + now.saturating_since(at(100));
    assert_eq!(due_until(&mut watch, 10_000, daemon), [(130, Due::Stalled)]);
}

#[test]
fn rel_21_a_held_client_that_gets_on_stays() {
    let mut watch = client();
    for second in 0..1_000 {
        let now = at(second);
        watch.handle_held(Some(second / 29), now.since_origin(), now);
        assert_eq!(watch.poll_due(now.since_origin(), now), None, "{second}");
    }
    watch.handle_held(Some(34), Duration::from_secs(1_016), at(1_016));
    assert_eq!(watch.poll_due(Duration::from_secs(1_015), at(1_015)), None);
    assert_eq!(watch.poll_due(Duration::from_secs(1_016), at(1_016)), Some(Due::Stalled), "since second 986");
}

#[test]
fn rel_21_a_daemon_that_takes_nothing_for_30_s_is_closed_and_a_client_is_not() {
    let mut daemon = watch(WatchLimits::default(), Watched::Daemon);
    let mut client = client();
    for watch in [&mut daemon, &mut client] {
        watch.handle_heard(true, at(20));
        watch.handle_sent(true, true, at(20));
        watch.handle_sent(true, false, at(25));
        assert_eq!(watch.poll_due(NONE, at(49)), None);
        watch.handle_heard(true, at(49));
    }
    assert_eq!(daemon.poll_timeout(NONE, at(49)), Some(at(50)));
    assert_eq!(daemon.poll_due(NONE, at(50)), Some(Due::Stalled), "although it is heard");
    assert_eq!(client.poll_due(NONE, at(50)), None);
}

#[test]
fn rel_21_a_daemon_that_takes_a_little_stays() {
    let mut daemon = watch(WatchLimits::default(), Watched::Daemon);
    for n in 0..100 {
        daemon.handle_heard(true, at(n * 29));
        daemon.handle_sent(true, true, at(n * 29));
        assert_eq!(daemon.poll_due(NONE, at(n * 29 + 28)), None);
    }
    daemon.handle_sent(false, false, at(2_900));
    daemon.handle_heard(true, at(2_950));
    assert_eq!(daemon.poll_due(NONE, at(2_950)), None, "nothing waits");
}

#[test]
fn rel_21_a_socket_takes_bytes_between_two_that_are_close() {
    let mut taking = Taking::default();
    for now in [at(5), millis(5_400), at(6), at(50), millis(50_100)] {
        taking.handle_taken(now);
    }
    assert_eq!(taking.total(), Duration::from_millis(1_000 + 1_000 + 100));
}

fn mode() -> impl Strategy<Value = RateMode> {
    prop_oneof![Just(RateMode::Drop), Just(RateMode::Throttle)]
}

#[derive(Debug, Clone)]
enum Seen {
    Frame,
    Heard,
    Held(bool),
    Sent { blocked: bool, took: bool },
    Limits(WatchLimits),
}

fn limits() -> impl Strategy<Value = WatchLimits> {
    (1..2_000_000_000u32, 1..4_000_000_000u32, mode(), 1..100u64, 1..200u64, 1..100u64).prop_map(
        |(frames_per_second, burst, rate_mode, ping, sweep, stall)| WatchLimits {
            frames_per_second,
            burst,
            rate_mode,
            ping: Duration::from_secs(ping),
            sweep: Duration::from_secs(sweep),
            stall: Duration::from_secs(stall),
        },
    )
}

fn seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        4 => Just(Seen::Frame),
        2 => Just(Seen::Heard),
        2 => any::<bool>().prop_map(Seen::Held),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(blocked, took)| Seen::Sent { blocked, took }),
        1 => limits().prop_map(Seen::Limits),
    ]
}

proptest! {
    /// In every stretch of time at most the burst and what the rate allows passes, and what stays within both passes.
    #[test]
    fn rel_20_no_stretch_of_time_has_more_than_burst_and_rate(
        rate in 1..200u32,
        burst in 1..50u32,
        gaps in prop::collection::vec(0..200u64, 1..300),
    ) {
        let mut watch = watch(slow(rate, burst, RateMode::Drop), Watched::Client);
        let mut now = 0;
        let mut passed: Vec<u64> = Vec::new();
        for gap in gaps {
            now += gap;
            let admitted = watch.handle_frame(millis(now)) == Admit::Pass;
            // A model in thousandths of a frame.
            let full = u64::from(burst) * 1_000;
            let (level, last) = passed.iter().fold((full, 0), |(level, last): (u64, u64), &at| {
                let filled = (level + (at - last) * u64::from(rate)).min(full);
                (filled.saturating_sub(1_000), at)
            });
            let level = (level + (now - last) * u64::from(rate)).min(full);
            // Rates whose interval is not whole nanoseconds are off by less than a frame in a thousand.
            if level >= 1_010 {
                prop_assert!(admitted, "{level} at {now}");
            }
            if level < 990 {
                prop_assert!(!admitted, "{level} at {now}");
            }
            if admitted {
                passed.push(now);
            }
        }
    }

    /// Whatever is seen in whatever order: a deadline is never in the past once what was due is carried out, and nothing
    /// panics.
    #[test]
    fn rel_22_a_watch_never_spins(
        start in limits(),
        daemon in any::<bool>(),
        steps in prop::collection::vec((seen(), 0..40_000u64, 0..5u64), 1..200),
    ) {
        let whose = if daemon { Watched::Daemon } else { Watched::Client };
        let mut watch = watch(start, whose);
        let (mut now, mut taken, mut took) = (0, 0, Duration::ZERO);
        for (step, gap, more) in steps {
            now += gap;
            let at = millis(now);
            took += Duration::from_millis(gap / 2);
            match step {
                Seen::Frame => {
                    watch.handle_frame(at);
                    watch.handle_heard(true, at);
                }
                Seen::Heard => watch.handle_heard(false, at),
                Seen::Held(held) => {
                    taken += more;
                    watch.handle_held(held.then_some(taken), took, at);
                }
                Seen::Sent { blocked, took } => watch.handle_sent(blocked, took, at),
                Seen::Limits(limits) => watch.set_limits(limits, at),
            }
            let closed = loop {
                match watch.poll_due(took, at) {
                    Some(Due::Ping) => {}
                    Some(Due::Sweep | Due::Stalled) => break true,
                    None => break false,
                }
            };
            if closed {
                break;
            }
            let next = watch.poll_timeout(took, at);
            prop_assert!(next.is_none_or(|next| next > at), "{next:?} at {at:?}");
        }
    }
}
