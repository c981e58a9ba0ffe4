//! What several test binaries of this crate share. Not every one uses all of it.
#![allow(dead_code)]

pub(crate) mod bench;

use std::time::Duration;

use bytes::Bytes;
use sideband_protocol::{
    Entropy, Instant, SessionId,
    crypto::SessionKeys,
    token::{Claims, Signer},
    wire::Frame,
};

/// Randomness from a seed: the same seed, the same run (splitmix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Entropy for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_be_bytes()[..chunk.len()]);
        }
    }
}

/// Randomness whose every byte is this one: the lowest or the highest jitter.
pub(crate) struct Fixed(pub(crate) u8);

impl Entropy for Fixed {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(self.0);
    }
}

/// The keys of a session that no exchange agreed on.
pub(crate) fn keys() -> SessionKeys {
    SessionKeys { client_to_daemon: [0xC1; 32], daemon_to_client: [0xDA; 32] }
}

/// The session with this number.
pub(crate) fn id(n: u64) -> SessionId {
    SessionId::new(n).expect("a session id is not zero")
}

/// The instant this many seconds after the origin.
pub(crate) fn at(seconds: u64) -> Instant {
    Instant::from_origin(Duration::from_secs(seconds))
}

/// The payload of an encoded Data frame.
pub(crate) fn payload_of(frame: &Bytes) -> Bytes {
    match Frame::decode(frame).expect("a whole frame") {
        Frame::Data { payload, .. } => payload,
        other => panic!("a Data frame, not {other:?}"),
    }
}

fn signer() -> Signer {
    Signer::from_seed("k-1", &[7; 32])
}

/// A client's token; endpoints read it without verifying it.
pub(crate) fn client_token(daemon: &str, session: SessionId) -> String {
    signer().sign(&Claims::client("https://api.test", "u_1", daemon, session, "t-1", 1_000))
}

/// A daemon's presence token.
pub(crate) fn presence_token(daemon: &str, resumable: bool) -> String {
    signer().sign(&Claims::daemon("https://api.test", daemon, "t-1", 1_000, resumable))
}
