//! Wrong on purpose: each quirk breaks one rule of an endpoint, so that a test can be shown to fail.
//!
//! [`Quirks`] is empty in production and set by tests only. A quirk is looked at where the rule is decided, and nowhere else.

macro_rules! quirks {
    ($($(#[$doc:meta])* $name:ident breaks $rule:literal;)*) => {
        /// One rule broken. The name says how, [`rule`](Self::rule) which.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Quirk { $($(#[$doc])* $name,)* }

        impl Quirk {
            /// Every quirk.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The id of the rule that it breaks.
            pub const fn rule(self) -> &'static str {
                match self { $(Self::$name => $rule,)* }
            }
        }
    };
}

quirks! {
    /// Goes on with an Accept whose signature does not fit.
    SkipsSignature breaks "CRY-02";
    /// Opens messages whose sequence was seen before.
    ForgetsWindow breaks "CRY-06";
    /// Never takes the handshake's time for over.
    WaitsForHandshakeForEver breaks "CRY-11";

    // ---- the client ----

    /// Tries again without a delay.
    RetriesAtOnce breaks "CLI-04";
}

/// The quirk of an endpoint, usually none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quirks(Option<Quirk>);

impl Quirks {
    /// No quirk: what production has.
    pub const NONE: Self = Self(None);

    /// Just this quirk.
    pub const fn only(quirk: Quirk) -> Self {
        Self(Some(quirk))
    }

    /// Whether the endpoint has this quirk.
    pub fn has(self, quirk: Quirk) -> bool {
        self.0 == Some(quirk)
    }
}
