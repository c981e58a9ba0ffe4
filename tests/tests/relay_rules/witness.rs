//! Tests that are shown to fail.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use sideband_protocol::relay::{RelayQuirk, RelayQuirks};

/// The longest that a witness may take, in virtual time: a day.
const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A test of a rule, as the list of witnesses has it.
pub(crate) struct Witness {
    /// The test's name, with its rule in front.
    pub(crate) name: &'static str,
    /// What makes it fail; empty for a rule that needs none.
    pub(crate) broken_by: &'static [RelayQuirk],
}

/// Declares witnesses: `async fn` tests of one rule each that take what is wrong on purpose.
///
/// The name starts with the rule, `rel_01_…`. Time is virtual.
macro_rules! witnesses {
    ($($(#[$doc:meta])* async fn $name:ident($quirks:ident) breaks_with [$($quirk:ident),* $(,)?] $body:block)*) => {
        $($(#[$doc])* async fn $name($quirks: ::sideband_protocol::relay::RelayQuirks) $body)*

        /// Without a quirk every witness holds.
        mod holds {
            $(#[test] fn $name() { $crate::witness::holds(super::$name); })*
        }

        /// With each quirk that it names a witness fails.
        mod fails {
            $(#[test] fn $name() {
                $crate::witness::fails(super::$name, &[$(::sideband_protocol::relay::RelayQuirk::$quirk),*]);
            })*
        }

        pub(crate) const WITNESSES: &[$crate::witness::Witness] = &[$($crate::witness::Witness {
            name: stringify!($name),
            broken_by: &[$(::sideband_protocol::relay::RelayQuirk::$quirk),*],
        }),*];
    };
}
pub(crate) use witnesses;

fn run<F: Future<Output = ()>>(witness: impl FnOnce(RelayQuirks) -> F, quirks: RelayQuirks) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let done = tokio::time::timeout(LIMIT, witness(quirks)).await;
        assert!(done.is_ok(), "the witness did not end");
    });
}

pub(crate) fn holds<F: Future<Output = ()>>(witness: impl FnOnce(RelayQuirks) -> F) {
    run(witness, RelayQuirks::NONE);
}

pub(crate) fn fails<F: Future<Output = ()>>(witness: impl Fn(RelayQuirks) -> F, broken_by: &[RelayQuirk]) {
    for quirk in broken_by {
        let held = catch_unwind(AssertUnwindSafe(|| run(&witness, RelayQuirks::only(*quirk)))).is_ok();
        assert!(!held, "holds although {quirk:?} breaks {}", quirk.rule());
    }
}
