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

/// A machine that says when it has nothing to do, and reports its end.
struct Told {
    idle: Option<std::sync::mpsc::Sender<()>>,
    reports: VecDeque<()>,
    closed: bool,
}

impl Told {
    fn close(&mut self) {
        self.closed = true;
        self.reports.push_back(());
    }
}

impl Endpoint for Told {
    type Job = ();
    type Done = ();
    type Report = ();

    fn handle_done(&mut self, (): (), _: Instant) {}
    fn handle_message(&mut self, _: Bytes, _: Instant) {}
    fn handle_forbidden(&mut self, _: Forbidden, _: Instant) {}
    fn handle_life(&mut self, _: Instant) {}
    fn handle_socket_lost(&mut self, _: Option<u16>, _: Instant) {}
    fn handle_timeout(&mut self, _: Instant) {}
    fn abort(&mut self, _: Cause) {
        self.close();
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn poll_output(&mut self) -> Option<Output<(), ()>> {
        let report = self.reports.pop_front();
        if report.is_none()
            && let Some(idle) = self.idle.take()
        {
            idle.send(()).unwrap();
        }
        report.map(Output::Report)
    }
    fn is_closed(&self) -> bool {
        self.closed
    }
    fn take_refused(&mut self) -> u64 {
        0
    }
}

/// Counts what it is told.
struct Listener(Arc<std::sync::atomic::AtomicUsize>);

impl Host<Told> for Listener {
    fn start(&mut self, (): ()) -> JobFuture<Told> {
        boxed(std::future::pending())
    }
    fn report(&mut self, (): ()) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
    fn stopped(&mut self, _: &Cause) {}
}

/// A machine that another thread closes just when the driver has taken all that it had to tell: its end is told too.
#[test]
fn end_that_comes_right_after_the_last_output_is_told() {
    let (idle, is_idle) = std::sync::mpsc::channel();
    let shared = Arc::new(Shared::new(Told { idle: Some(idle), reports: VecDeque::new(), closed: false }));
    let told = Arc::default();
    let (finished, _) = watch::channel(false);
    // The driver cannot come past what it says of unsent bytes until the machine is closed.
    let unsent = shared.unsent.lock().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let driver = runtime.spawn(drive(shared.clone(), Listener(Arc::clone(&told)), finished));
    is_idle.recv().unwrap();
    shared.with(|machine, _| machine.close());
    drop(unsent);
    runtime.block_on(driver).unwrap();
    assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), 1, "the end was told");
}
