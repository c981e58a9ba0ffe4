//! Tests that are shown to fail.

use std::{fmt, future::Future, time::Duration};

use sideband_protocol::{
    api::{ApiQuirk, ApiQuirks},
    relay::{RelayQuirk, RelayQuirks},
};
use sideband_tests::failure::{Failure, catch};
use tokio::time::error::Elapsed;

/// The longest that a witness may take, in virtual time: a day.
const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A test of a rule, as the list of witnesses has it.
pub(crate) struct Witness {
    /// The test's name, with its rule in front.
    pub(crate) name: &'static str,
    /// What makes it fail; empty for a rule that needs none.
    pub(crate) broken_by: &'static [Flaw],
}

/// One rule broken on purpose, by whoever is bound by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flaw {
    Relay(RelayQuirk),
    Api(ApiQuirk),
}

impl Flaw {
    /// Every one.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let api = ApiQuirk::ALL.iter().copied().map(Self::Api);
        RelayQuirk::ALL.iter().copied().map(Self::Relay).chain(api)
    }

    /// The rule that it breaks.
    pub(crate) const fn rule(self) -> &'static str {
        match self {
            Self::Relay(quirk) => quirk.rule(),
            Self::Api(quirk) => quirk.rule(),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay(quirk) => write!(f, "{quirk:?}"),
            Self::Api(quirk) => write!(f, "{quirk:?}"),
        }
    }
}

/// What a witness is given: what is wrong on purpose, usually nothing.
pub(crate) trait Quirky: Copy {
    const NONE: Self;
    /// What is wrong with one flaw, if it is one of these.
    fn only(flaw: Flaw) -> Option<Self>;
}

impl Quirky for RelayQuirks {
    const NONE: Self = Self::NONE;

    fn only(flaw: Flaw) -> Option<Self> {
        if let Flaw::Relay(quirk) = flaw { Some(Self::only(quirk)) } else { None }
    }
}

impl Quirky for ApiQuirks {
    const NONE: Self = Self::NONE;

    fn only(flaw: Flaw) -> Option<Self> {
        if let Flaw::Api(quirk) = flaw { Some(Self::only(quirk)) } else { None }
    }
}

/// Declares witnesses: `async fn` tests of one rule each that take what is wrong on purpose with the relay, or, after `for api;`, with the
/// control plane.
///
/// The name starts with the rule, `rel_01_…`. Time is virtual.
macro_rules! witnesses {
    (for api; $($rest:tt)*) => {
        $crate::witness::witnesses! { @of Api(::sideband_protocol::api::ApiQuirk, ::sideband_protocol::api::ApiQuirks) $($rest)* }
    };
    (@of $kind:ident($quirk_type:path, $quirks_type:path)
        $($(#[$doc:meta])* async fn $name:ident($quirks:ident) breaks_with [$($quirk:ident),* $(,)?] $body:block)*
    ) => {
        $($(#[$doc])* async fn $name($quirks: $quirks_type) $body)*

        /// Without a quirk every witness holds.
        mod holds {
            $(#[test] fn $name() { $crate::witness::holds(super::$name); })*
        }

        /// With each quirk that it names a witness fails.
        mod fails {
            $($crate::witness::fails_test!($kind $name [$($quirk),*]);)*
        }

        pub(crate) const WITNESSES: &[$crate::witness::Witness] = &[$($crate::witness::Witness {
            name: stringify!($name),
            broken_by: &[$($crate::witness::flaw!($kind $quirk)),*],
        }),*];
    };
    ($($rest:tt)*) => {
        $crate::witness::witnesses! {
            @of Relay(::sideband_protocol::relay::RelayQuirk, ::sideband_protocol::relay::RelayQuirks) $($rest)*
        }
    };
}
pub(crate) use witnesses;

macro_rules! flaw {
    (Relay $quirk:ident) => {
        $crate::witness::Flaw::Relay(::sideband_protocol::relay::RelayQuirk::$quirk)
    };
    (Api $quirk:ident) => {
        $crate::witness::Flaw::Api(::sideband_protocol::api::ApiQuirk::$quirk)
    };
}
pub(crate) use flaw;

/// The test that a witness fails; none where nothing breaks it.
macro_rules! fails_test {
    ($kind:ident $name:ident []) => {};
    ($kind:ident $name:ident [$($quirk:ident),+]) => {
        #[test] fn $name() {
            $crate::witness::fails(super::$name, &[$($crate::witness::flaw!($kind $quirk)),+]);
        }
    };
}
pub(crate) use fails_test;

fn run<Q, F: Future<Output = ()>>(witness: impl FnOnce(Q) -> F, quirks: Q) -> Result<(), Elapsed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, witness(quirks)).await })
}

pub(crate) fn holds<Q: Quirky, F: Future<Output = ()>>(witness: impl FnOnce(Q) -> F) {
    assert!(run(witness, Q::NONE).is_ok(), "the witness did not end");
}

/// Whether a witness failed where it looks: at an assertion in this folder, or at something [`due`](sideband_tests::failure::due).
fn shows(failure: &Failure) -> bool {
    failure.is_of("tests/relay_rules")
}

pub(crate) fn fails<Q: Quirky, F: Future<Output = ()>>(witness: impl Fn(Q) -> F, broken_by: &[Flaw]) {
    for flaw in broken_by {
        let quirks = Q::only(*flaw).expect("a flaw of the one that is tested");
        let otherwise = match catch(|| run(&witness, quirks)) {
            Ok(Ok(())) => "it holds".to_owned(),
            Ok(Err(_)) => "it does not end".to_owned(),
            Err(failure) if shows(&failure) => continue,
            Err(failure) => format!("it fails at something else: {failure}"),
        };
        panic!("{flaw} is not seen to break {}: {otherwise}", flaw.rule());
    }
}

/// What a witness that fails in each of these ways is said to show.
mod judged {
    use sideband_tests::failure::catch;

    use super::{Flaw, LIMIT, RelayQuirks, fails};
    use crate::bench::{Bench, soon};

    /// Any flaw: what is judged does not look at it.
    const FLAW: &[Flaw] = &[crate::witness::flaw!(Relay SkipsText)];

    fn nothing() -> Option<()> {
        None
    }

    #[test]
    fn an_assertion_and_what_is_due_show_something() {
        fails(async |_: RelayQuirks| assert!(nothing().is_some(), "of the witness"), FLAW);
        fails(async |_: RelayQuirks| drop(Bench::new(RelayQuirks::NONE).daemon().await.got().await), FLAW);
    }

    #[test]
    fn nothing_else_does() {
        fn is_said_of<F: Future<Output = ()>>(words: &str, witness: impl Fn(RelayQuirks) -> F) {
            let failure = catch(|| fails(&witness, FLAW)).expect_err("this shows nothing");
            assert!(failure.text().contains(words), "{failure}");
        }
        is_said_of("it holds", async |_| {});
        is_said_of("it does not end", async |_| tokio::time::sleep(2 * LIMIT).await);
        is_said_of("in vain for a peer", async |_| soon("a peer", std::future::pending()).await);
        is_said_of("called `Option::unwrap()`", async |_| nothing().unwrap());
    }
}
