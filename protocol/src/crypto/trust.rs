//! Whether a client goes on with the identity that a daemon shows: the table of `docs/spec/2-crypto.md`.

use super::{Fingerprint, IdentityKey};
use crate::quirks::{Quirk, Quirks};

/// How a client treats identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrustPolicy {
    /// Pins the first identity and every later one. The default; protects from nobody who can replace the daemon.
    #[default]
    Auto,
    /// Asks at the first connection and when the identity changed (TRU-01).
    Prompt,
    /// Accepts only an identity that is pinned already.
    PinnedOnly,
}

/// What `prompt` asks the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustQuestion {
    /// No identity is pinned for this daemon.
    FirstConnection {
        /// The one that it shows.
        fingerprint: Fingerprint,
    },
    /// Another identity is pinned.
    Mismatch {
        /// The pinned one.
        expected: Fingerprint,
        /// The one that it shows.
        received: Fingerprint,
    },
}

/// Why an identity is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustRefusal {
    /// Nothing is pinned and the policy or the user does not pin it: `handshake_failed`.
    Unknown {
        /// The identity shown.
        fingerprint: Fingerprint,
    },
    /// Another identity is pinned: `identity_key_changed` with both fingerprints (TRU-05).
    Changed {
        /// The pinned one.
        expected: Fingerprint,
        /// The one shown.
        received: Fingerprint,
    },
}

/// What to do with the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustDecision {
    /// It is the pinned one: go on.
    Proceed,
    /// Write the pin, then go on (TRU-03).
    Pin,
    /// Ask; a yes means [`Pin`](Self::Pin), a no [`Refuse`](Self::Refuse) (TRU-02).
    Ask(TrustQuestion),
    /// End the attempt.
    Refuse(TrustRefusal),
}

/// The table: the policy, the pin in the store, and the identity whose signature was good (CRY-02).
pub fn decide(policy: TrustPolicy, pin: Option<&IdentityKey>, shown: &IdentityKey) -> TrustDecision {
    decide_with(policy, pin, shown, Quirks::NONE)
}

pub(crate) fn decide_with(
    policy: TrustPolicy,
    pin: Option<&IdentityKey>,
    shown: &IdentityKey,
    quirks: Quirks,
) -> TrustDecision {
    let received = shown.fingerprint_with(quirks);
    let policy = match policy {
        TrustPolicy::Auto | TrustPolicy::PinnedOnly if quirks.has(Quirk::AsksUnderAnyPolicy) => TrustPolicy::Prompt,
        TrustPolicy::Prompt if quirks.has(Quirk::NeverAsks) => TrustPolicy::Auto,
        policy @ (TrustPolicy::Auto | TrustPolicy::Prompt | TrustPolicy::PinnedOnly) => policy,
    };
    let asks = policy == TrustPolicy::Prompt && quirks.has(Quirk::AsksAboutPinned);
    match (policy, pin) {
        (TrustPolicy::Auto | TrustPolicy::Prompt | TrustPolicy::PinnedOnly, Some(pin)) if pin == shown && !asks => {
            TrustDecision::Proceed
        }
        (TrustPolicy::Auto, None | Some(_)) if quirks.has(Quirk::GoesOnWithoutPin) => TrustDecision::Proceed,
        (TrustPolicy::Auto, None | Some(_)) => TrustDecision::Pin,
        (TrustPolicy::Prompt, None) => TrustDecision::Ask(TrustQuestion::FirstConnection { fingerprint: received }),
        (TrustPolicy::Prompt, Some(pin)) => {
            TrustDecision::Ask(TrustQuestion::Mismatch { expected: expected(pin, shown, quirks), received })
        }
        (TrustPolicy::PinnedOnly, None) if quirks.has(Quirk::PinsUnderPinnedOnly) => TrustDecision::Pin,
        (TrustPolicy::PinnedOnly, None) => TrustDecision::Refuse(TrustRefusal::Unknown { fingerprint: received }),
        (TrustPolicy::PinnedOnly, Some(pin)) => {
            TrustDecision::Refuse(TrustRefusal::Changed { expected: expected(pin, shown, quirks), received })
        }
    }
}

/// TRU-05.
fn expected(pin: &IdentityKey, shown: &IdentityKey, quirks: Quirks) -> Fingerprint {
    if quirks.has(Quirk::ForgetsExpectedIdentity) { shown.fingerprint() } else { pin.fingerprint() }
}

/// What a no to a question, or no answer in time (TRU-04), amounts to.
pub fn refusal_of(question: TrustQuestion) -> TrustRefusal {
    match question {
        TrustQuestion::FirstConnection { fingerprint } => TrustRefusal::Unknown { fingerprint },
        TrustQuestion::Mismatch { expected, received } => TrustRefusal::Changed { expected, received },
    }
}
