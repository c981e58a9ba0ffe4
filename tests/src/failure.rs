//! Why a test failed: what it is about, or something on the way there.
//!
//! A test that is wrong on purpose proves something only if it fails where it looks. A panic says that by its place: an assertion of the test's own
//! looks, and so does what it awaits inside [`due`]; the scripted world, a watchdog and an `unwrap` do not, and nothing inside [`on_the_way`] does.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind},
    sync::Once,
};

use futures_util::FutureExt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Plain,
    OnTheWay,
    Due,
}

thread_local! {
    static STAGE: Cell<Stage> = const { Cell::new(Stage::Plain) };
    static LAST: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// A panic that was caught: what it said, where, and whether that was looked for.
#[derive(Debug, Clone)]
pub struct Failure {
    text: String,
    file: String,
    line: u32,
    stage: Stage,
}

impl Failure {
    /// Whether this is an assertion of a test whose files lie in this folder, such as `tests/rules`, or of what was [`due`] there.
    pub fn is_of(&self, folder: &str) -> bool {
        match self.stage {
            Stage::Due => true,
            Stage::OnTheWay => false,
            // What `unwrap` says names nothing that was due.
            Stage::Plain => self.is_in(folder) && !self.text.starts_with("called `"),
        }
    }

    /// Whether it was in a file of this folder; one that is only included from there, by `folder/../file`, is not.
    fn is_in(&self, folder: &str) -> bool {
        self.file.contains(&format!("{folder}/")) && !self.file.contains(&format!("{folder}/.."))
    }

    /// What it said.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn of(info: &PanicHookInfo<'_>) -> Self {
        let (file, line) = info.location().map_or_else(Default::default, |at| (at.file().to_owned(), at.line()));
        let text = info.payload_as_str().unwrap_or("without words").to_owned();
        Self { text, file, line, stage: STAGE.get() }
    }

    /// The panic that this thread has just caught. One that was resumed has no place, so it shows nothing.
    fn caught(panic: &(dyn Any + Send)) -> Self {
        LAST.take().unwrap_or_else(|| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words").to_owned();
            Self { text, file: "resumed".to_owned(), line: 0, stage: Stage::OnTheWay }
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.text, self.file, self.line)
    }
}

/// Lets panics be remembered where they happen.
fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let _ = LAST.try_with(|last| last.replace(Some(Failure::of(info))));
            before(info);
        }));
    });
    LAST.set(None);
}

/// Runs a test that is expected to fail.
///
/// # Errors
/// The panic, if there was one.
pub fn catch<T>(test: impl FnOnce() -> T) -> Result<T, Failure> {
    watch();
    catch_unwind(AssertUnwindSafe(test)).map_err(|panic| Failure::caught(&*panic))
}

/// As [`catch`], for a future.
///
/// # Errors
/// As [`catch`].
pub async fn catch_async<T>(test: impl Future<Output = T>) -> Result<T, Failure> {
    watch();
    AssertUnwindSafe(test).catch_unwind().await.map_err(|panic| Failure::caught(&*panic))
}

/// Awaits what a rule makes due: that it does not come, or is something else, is what the test looks for, unless it is [`on_the_way`].
pub fn due<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    at(Stage::Due, future)
}

/// Awaits what a test needs before it can look; it is looked at all the same inside [`due`].
pub fn on_the_way<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    at(Stage::OnTheWay, future)
}

/// The outermost stage counts.
fn at<T>(stage: Stage, future: impl Future<Output = T>) -> impl Future<Output = T> {
    // Journeys are large.
    let mut future = Box::pin(future);
    std::future::poll_fn(move |cx| {
        let before = STAGE.get();
        let _back = Back(before);
        if before == Stage::Plain {
            STAGE.set(stage);
        }
        future.as_mut().poll(cx)
    })
}

/// Goes back to the stage before, also when a panic unwinds.
struct Back(Stage);

impl Drop for Back {
    fn drop(&mut self) {
        STAGE.set(self.0);
    }
}
