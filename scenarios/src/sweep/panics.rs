//! A panic in a run as a failure: its place as the kind, its message for people. While a run is watched, nothing is printed.

use std::{
    any::Any,
    cell::RefCell,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::Once,
};

use crate::sim::Failure;

thread_local! {
    /// The first panic of the run that is watched on this thread; none if none is watched.
    static WATCHED: RefCell<Option<Option<Failure>>> = const { RefCell::new(None) };
}

/// Runs something; a panic in it as a failure.
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Failure> {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !noted(info) {
                before(info);
            }
        }));
    });
    WATCHED.set(Some(None));
    // What it worked on is thrown away with it.
    let ended = panic::catch_unwind(AssertUnwindSafe(run));
    let seen = WATCHED.take().flatten();
    ended.map_err(|payload| seen.unwrap_or_else(|| failure(text(&*payload), "unknown")))
}

fn failure(message: String, place: &str) -> Failure {
    Failure { kind: format!("panic/{place}"), at: 0, what: message }
}

/// Whether the panic belongs to a run that is watched. The first one counts: those after it follow from it.
fn noted(info: &PanicHookInfo<'_>) -> bool {
    WATCHED.with_borrow_mut(|watched| {
        let Some(seen) = watched else { return false };
        let place =
            info.location().map_or_else(|| "unknown".to_owned(), |at| format!("{}:{}", file(at.file()), at.line()));
        seen.get_or_insert_with(|| failure(format!("panicked at {place}: {}", text(info.payload())), &place));
        true
    })
}

/// The crate's part of a path: the same wherever the sources lie.
fn file(path: &str) -> String {
    let parts: Vec<&str> = path.split(['/', '\\']).collect();
    let from = parts.iter().rposition(|part| *part == "src").unwrap_or_default().saturating_sub(1);
    parts[from..].join("/")
}

fn text(payload: &(dyn Any + Send)) -> String {
    let known =
        payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    known.unwrap_or("a panic without a message").to_owned()
}
