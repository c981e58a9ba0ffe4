//! Keys, sealing and trust (`docs/spec/2-crypto.md`).
//!
//! A client makes a [`ClientHandshake`], sends its public key, and turns the daemon's [`Accept`] into [`SessionKeys`];
//! a daemon does both in [`accept`]. Each side then owns a [`Sealer`] and an [`Opener`].

mod cipher;
mod handshake;
mod identity;
mod replay;
mod seal;
mod trust;

pub(crate) use handshake::accept_with;
pub use handshake::{Accept, ClientHandshake, HandshakeError, Payload, SessionKeys, accept, accept_with_ephemeral};
pub use identity::{Fingerprint, Identity, IdentityKey, ParseFingerprintError};
pub use replay::{ReplayWindow, Replayed};
pub use seal::{DEFAULT_WINDOW, Direction, OpenError, Opener, SealError, Sealer};
pub(crate) use trust::decide_with;
pub use trust::{TrustDecision, TrustPolicy, TrustQuestion, TrustRefusal, decide, refusal_of};
