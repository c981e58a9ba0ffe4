//! The driver around machines that no real one is.

use super::*;

/// A machine whose deadline is always past.
struct Hurried {
    fired: usize,
    closed: bool,
}

/// Turns after which the machine gives up: who waits for a turn of its own had none.
const MOST: usize = 1_000_000;

impl Endpoint for Hurried {
    type Job = ();
    type Done = ();
    type Report = ();

    fn handle_done(&mut self, (): (), _: Instant) {}
    fn handle_message(&mut self, _: Bytes, _: Instant) {}
    fn handle_forbidden(&mut self, _: Forbidden, _: Instant) {}
    fn handle_life(&mut self, _: Instant) {}
    fn handle_socket_lost(&mut self, _: Option<u16>, _: Instant) {}
    fn handle_timeout(&mut self, _: Instant) {
        self.fired += 1;
        self.closed |= self.fired >= MOST;
    }
    fn abort(&mut self, _: Cause) {
        self.closed = true;
    }
    fn poll_timeout(&self) -> Option<Instant> {
        Some(Instant::ORIGIN)
    }
    fn poll_output(&mut self) -> Option<Output<(), ()>> {
        None
    }
    fn is_closed(&self) -> bool {
        self.closed
    }
    fn take_refused(&mut self) -> u64 {
        0
    }
}

struct Idle;

impl Host<Hurried> for Idle {
    fn start(&mut self, (): ()) -> JobFuture<Hurried> {
        boxed(std::future::pending())
    }
    fn report(&mut self, (): ()) {}
    fn stopped(&mut self, _: &Cause) {}
}

/// Others on the same thread get their turns, and so does whoever closes the machine.
#[tokio::test]
async fn deadline_that_is_always_past_gives_way() {
    let shared = Arc::new(Shared::new(Hurried { fired: 0, closed: false }));
    let (finished, _) = watch::channel(false);
    tokio::spawn(drive(shared.clone(), Idle, finished.clone()));
    let mut fired = 0;
    for turn in 0..10 {
        tokio::task::yield_now().await;
        let (now, over) = shared.look(|machine| (machine.fired, machine.closed));
        assert!(!over, "no turn in {MOST} of the driver's");
        assert!(now > fired, "its time does come, turn {turn}");
        fired = now;
    }
    shared.with(|machine, _| machine.closed = true);
    assert!(finished.subscribe().wait_for(|finished| *finished).await.is_ok());
}
