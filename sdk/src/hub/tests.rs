//! What a hub keeps of those who receive from it.

use super::*;

/// Nothing comes in all that time that would show who is gone.
#[test]
fn receivers_that_are_dropped_leave_nothing() {
    let hub = Hub::default();
    let pattern = || EventPattern::new("job.*").unwrap();
    let kept = (hub.subscribe(pattern()), hub.messages());
    for _ in 0..1_000 {
        drop((hub.subscribe(pattern()), hub.messages()));
    }
    assert_eq!(hub.receivers(), 2, "those that are kept");
    drop(kept);
    assert_eq!(hub.receivers(), 0);
}

#[test]
fn hub_that_is_over_takes_no_receivers() {
    let hub = Hub::default();
    let (mut events, mut messages) = (hub.subscribe(EventPattern::new(">").unwrap()), hub.messages());
    hub.end();
    assert_eq!(hub.receivers(), 0);
    let (mut late, mut later) = (hub.subscribe(EventPattern::new(">").unwrap()), hub.messages());
    assert_eq!(hub.receivers(), 0);
    for ended in [events.next().now_or_never(), late.next().now_or_never()] {
        assert!(matches!(ended, Some(None)), "it has ended");
    }
    for ended in [messages.next().now_or_never(), later.next().now_or_never()] {
        assert!(matches!(ended, Some(None)), "it has ended");
    }
}
