//! Relay tokens: signing, the one ordered check, key sets, and the policy for fetching them.
//!
//! A relay token is a JWT, `{"alg":"EdDSA","typ":"sbrp-relay+jwt","kid":…}`, signed with Ed25519 by the control plane
//! (`docs/spec/3-control-plane.md`). Rules: TOK-01..11, TOK-13, TOK-14, KEY-01..04.
//!
//! | who | uses |
//! |---|---|
//! | control plane | [`Signer`] to sign [`Claims`], [`KeySet::from_keys`] and its `Serialize` to publish the keys |
//! | relay | [`KeyCache`] and [`Lookup`] to have a key set, [`check`] to get a [`Grant`] or a [`Refusal`] |
//! | client, daemon | [`peek`] to read their own token without verifying it (DMN-02, DMN-12) |
//!
//! Nothing here logs, and no type shows a token, a claim's value or a private key in `Debug` or in an error (TOK-13, TOK-14).
//!
//! # How a relay checks a token
//!
//! ```
//! use sideband_protocol::{Instant, token::{Claims, KeyCache, KeySet, Lookup, Next, Policy, Refusal, Signer, check}};
//! # let signer = Signer::from_seed("k-1", &[7; 32]);
//! # let token = signer.sign(&Claims::daemon("https://api.test", "d_1", "t-1", 1_000, true));
//! # let fetched_text = serde_json::to_vec(&KeySet::from_keys([signer.public()])).unwrap();
//! let policy = Policy { issuer: "https://api.test".into(), region: None, now: 1_000 };
//! let mut cache = KeyCache::default();
//! let mut lookup = Lookup::default();
//! let now = Instant::ORIGIN; // read the time line anew before each call in a shell
//! let grant = loop {
//!     match cache.next(&mut lookup, now) {
//!         // After `CheckAndFetch` a fetch is started as well.
//!         Next::Check(keys) | Next::CheckAndFetch(keys) => match check(Some(&token), &keys, &policy) {
//!             Err(Refusal::UnknownKid) => lookup.unknown_kid(), // and ask the cache again
//!             other => break other,
//!         },
//!         // Start the one fetch in a task of its own and wait for it here; whatever comes is handed back.
//!         Next::Fetch => match KeySet::parse(&fetched_text) {
//!             Ok(keys) => cache.fetched(keys, now),
//!             Err(_) => cache.fetch_failed(now),
//!         },
//!         Next::Wait => { /* another upgrade's fetch is under way: wait until it is handed back */ }
//!         Next::Unavailable => panic!("answer 503"),
//!         Next::Unauthorized => break Err(Refusal::UnknownKid),
//!     }
//! };
//! assert_eq!(grant.unwrap().daemon_id, "d_1");
//! ```

mod check;
mod claims;
mod keys;
mod number;
mod refresh;
#[cfg(test)]
mod tests;

#[doc(hidden)]
pub use check::danger_check;
pub use check::{Grant, GrantRole, Policy, Refusal, check};
pub use claims::{Claims, Limits, Peek, Role, peek};
pub use keys::{KeySet, KeySetError, PublicKey, Signer};
pub use refresh::{FORCED_INTERVAL, KeyCache, Lookup, MAX_AGE, Next, STALE_RETRY};

/// Most bytes that a token may have (TOK-01).
pub const MAX_TOKEN: usize = 4_096;
/// The header's `typ` (TOK-02).
pub const TYP: &str = "sbrp-relay+jwt";
/// The header's and the key's `alg` (TOK-03).
pub const ALG: &str = "EdDSA";
/// What `aud` must contain (TOK-04).
pub const AUDIENCE: &str = "sideband-relay";
/// Seconds by which `exp` may lie in the past (TOK-05).
pub const SKEW: u64 = 30;
/// Longest `exp − iat` of a client token that a relay takes, in seconds (TOK-09).
pub const MAX_CLIENT_LIFETIME: u64 = 300;
/// `exp − iat` of a client token that the control plane issues, in seconds (API-01).
pub const CLIENT_LIFETIME: u64 = 120;
/// `exp − iat` of a presence token, in seconds.
pub const PRESENCE_LIFETIME: u64 = 3_600;
/// The scope of a client token.
pub const SCOPE_CREATE: &str = "session:create";
/// The scope of a presence token whose sessions can be resumed (DMN-12).
pub const SCOPE_RESUME: &str = "session:resume";
/// Where an issuer publishes its key set, below the issuer's URL.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";
