//! Tests that are shown to fail.

use std::time::Duration;

use sideband_protocol::quirks::{Quirk, Quirks};
pub(crate) use sideband_tests::failure::due;
use sideband_tests::failure::{Failure, catch};
use tokio::time::error::Elapsed;

/// The longest that a witness may take, in virtual time: a week.
const LIMIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A test of a rule, as the list of witnesses has it.
pub(crate) struct Witness {
    /// The test's name, with its rule in front.
    pub(crate) name: &'static str,
    /// What makes it fail; empty for a rule that needs none.
    pub(crate) broken_by: &'static [Quirk],
}

/// Whether a witness failed where it looks: at an assertion in this folder, or at something [`due`](sideband_tests::failure::due) there.
pub(crate) fn shows(failure: &Failure) -> bool {
    failure.is_of("tests/rules")
}

/// Declares witnesses: `async fn` tests of one rule each that take what is wrong on purpose.
///
/// The name starts with the rule, `cli_04_…`. Time is virtual.
macro_rules! witnesses {
    ($($(#[$doc:meta])* async fn $name:ident($quirks:ident) breaks_with [$($quirk:ident),* $(,)?] $body:block)*) => {
        $($(#[$doc])* async fn $name($quirks: ::sideband_protocol::quirks::Quirks) $body)*

        /// Without a quirk every witness holds.
        mod holds {
            $(#[test] fn $name() { $crate::witness::holds(super::$name); })*
        }

        /// With each quirk that it names a witness fails.
        mod fails {
            $($crate::witness::fails_test!($name [$($quirk),*]);)*
        }

        pub(crate) const WITNESSES: &[$crate::witness::Witness] = &[$($crate::witness::Witness {
            name: stringify!($name),
            broken_by: &[$(::sideband_protocol::quirks::Quirk::$quirk),*],
        }),*];
    };
}
pub(crate) use witnesses;

/// The test that a witness fails; none where nothing breaks it.
macro_rules! fails_test {
    ($name:ident []) => {};
    ($name:ident [$($quirk:ident),+]) => {
        #[test] fn $name() {
            $crate::witness::fails(super::$name, &[$(::sideband_protocol::quirks::Quirk::$quirk),+]);
        }
    };
}
pub(crate) use fails_test;

fn run(witness: impl AsyncFn(Quirks), quirks: Quirks) -> Result<(), Elapsed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, witness(quirks)).await })
}

pub(crate) fn holds(witness: impl AsyncFn(Quirks)) {
    assert!(run(witness, Quirks::NONE).is_ok(), "the witness did not end");
}

pub(crate) fn fails(witness: impl AsyncFn(Quirks), broken_by: &[Quirk]) {
    for quirk in broken_by {
        let quirks = Quirks::only(*quirk);
        let otherwise = match catch(|| run(&witness, quirks)) {
            Ok(Ok(())) => "it holds".to_owned(),
            Ok(Err(_)) => "it does not end".to_owned(),
            Err(failure) if shows(&failure) => continue,
            Err(failure) => format!("it fails at something else: {failure}"),
        };
        panic!("{quirk:?} is not seen to break {}: {otherwise}", quirk.rule());
    }
}

/// What a witness that fails in each of these ways is said to show.
mod judged {
    use sideband_tests::{
        failure::{catch, catch_async, due, on_the_way},
        script::{World, soon},
    };

    use super::{LIMIT, Quirk, Quirks, fails};

    /// Any quirk: what is judged does not look at it.
    const QUIRK: &[Quirk] = &[Quirk::IgnoresPing];

    fn nothing() -> Option<()> {
        None
    }

    fn is_said_of(words: &str, witness: impl AsyncFn(Quirks)) {
        let failure = catch(|| fails(&witness, QUIRK)).expect_err("this shows nothing");
        assert!(failure.text().contains(words), "{failure}");
    }

    #[test]
    fn an_assertion_and_what_is_due_show_something() {
        fails(async |_| assert!(Quirk::ALL.is_empty(), "of the witness"), QUIRK);
        fails(async |_| due(on_the_way(soon("what is due", std::future::pending()))).await, QUIRK);
    }

    #[test]
    fn nothing_else_does() {
        is_said_of("it holds", async |_| {});
        is_said_of("it does not end", async |_| tokio::time::sleep(2 * LIMIT).await);
        // An endpoint that does not come.
        is_said_of("in vain for an API call", async |_| drop(World::new(1).0.join().await));
        is_said_of("in vain for a session", async |_| soon("a session", std::future::pending()).await);
        is_said_of("a helper's", async |_| on_the_way(async { panic!("a helper's") }).await);
        is_said_of("a helper's", async |_| on_the_way(due(async { panic!("a helper's") })).await);
        is_said_of("called `Option::unwrap()`", async |_| nothing().unwrap());
        is_said_of("resumed", async |_| std::panic::resume_unwind(Box::new("resumed")));
        // The stage is left when what was awaited is there, or has panicked.
        is_said_of("in vain for more", async |_| {
            due(async {}).await;
            let _ = catch_async(due(async { panic!("caught") })).await;
            soon("more", std::future::pending()).await
        });
    }

    #[test]
    fn both_arms_must_show_it() {
        use crate::both::{Arm, both};
        is_said_of("[Daemon] held", async |quirks| {
            both(quirks, async |setup| assert_eq!(setup.arm, Arm::Daemon)).await;
        });
        is_said_of("Daemon: called `Option::unwrap()`", async |quirks| {
            both(quirks, async |setup| match setup.arm {
                Arm::Client => panic!("of the witness"),
                Arm::Daemon => nothing().unwrap(),
            })
            .await;
        });
    }
}
