//! A fault keeps what a daemon says: the relay acts on it later, and what stands behind it is judged before that.

use sideband_protocol::{
    SessionId,
    relay::SessionState,
    wire::{ControlCode, Reason, Signal},
};

use super::{super::*, bench::*};

#[test]
fn wire_17_a_session_that_a_kept_signal_has_named_counts_as_ended() {
    let mut bench = Bench::default();
    bench.daemon_opens(DAEMON, true).says(DAEMON, signal(Signal::Ready, Reason::None)).says(DAEMON, data(2, 17));
    bench.controls(DAEMON, Some(session()), ControlCode::SessionEnded).says(DAEMON, data(2, 18));
    assert_eq!(bench.rules(), []);
    let other = SessionId::new(5).unwrap();
    bench.says(DAEMON, data_of(other, 2, 0));
    assert_eq!(bench.rules(), [(Rule::Wire17, Role::Daemon)]);
}

#[test]
fn dmn_11_data_behind_a_kept_signal_is_behind_it() {
    let mut bench = Bench::default();
    bench.pending(true).says(3, signal(Signal::Ready, Reason::None)).says(3, data(2, 1)).state(SessionState::Paired);
    assert_eq!(bench.rules(), []);
}

#[test]
fn dmn_11_a_signal_of_the_connection_before_is_none_of_this_one() {
    let mut bench = Bench::default();
    bench.pending(true).says(3, signal(Signal::Ready, Reason::None)).closes(3, None, None, false);
    bench.state(SessionState::Paused).daemon_opens(4, true).state(SessionState::Pending).says(4, data(2, 1));
    assert_eq!(bench.rules(), [(Rule::Dmn11, Role::Daemon)]);
}
