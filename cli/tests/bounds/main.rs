//! Crowds that want nothing good from `up`: its memory is bounded, and whoever behaves is served beside them.

#[expect(dead_code, reason = "the other tests use more of it")]
#[path = "../cli/support.rs"]
mod support;

mod crowd;
mod requests;

use std::io::Write as _;

/// For people.
fn tell(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
