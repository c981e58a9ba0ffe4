//! Attacks on the key exchange: Accepts that a client must refuse, and keys that contribute nothing.

use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest, Sha256};
use sideband_protocol::{
    Entropy,
    crypto::{Accept, IdentityKey},
    wire::Frame,
};

use super::{ClientFate, Throw};
use crate::script::FarDaemon;

use ClientFate::Closed;

/// Every X25519 key of low order, and those that only differ in bits that do not count (CRY-03).
pub fn low_order_keys() -> Vec<[u8; 32]> {
    let mut one = [0; 32];
    one[0] = 1;
    let order_8_a = hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
    let order_8_b = hex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157");
    let prime_less_1 = hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    let prime = hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    let prime_and_1 = hex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    let all = [[0; 32], one, order_8_a, order_8_b, prime_less_1, prime, prime_and_1];
    let with_top_bit = all.map(|mut key| {
        key[31] |= 0x80;
        key
    });
    all.into_iter().chain(with_top_bit).collect()
}

fn hex(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    if let Ok(bytes) = data_encoding::HEXLOWER.decode(text.as_bytes()) {
        out.copy_from_slice(&bytes);
    }
    out
}

/// What a client that waits for its Accept is sent, and what must become of it. Nothing is pinned by any of them.
pub struct BadAccept {
    /// What it is, for people.
    pub name: String,
    /// What is sent.
    pub throws: Vec<Throw>,
    /// What must become of the client.
    pub fate: ClientFate,
}

/// Accepts that no client may go on with, as answers to this HandshakeInit.
///
/// # Panics
/// If the frame is no HandshakeInit.
pub fn accepts(daemon: &FarDaemon, init: &Frame, entropy: &mut dyn Entropy) -> Vec<BadAccept> {
    let Frame::HandshakeInit { session, client_ephemeral } = init else { panic!("a HandshakeInit was due") };
    let accept_frame = |accept: &Accept| Frame::HandshakeAccept { session: *session, payload: accept.into() };
    let failed = |name: String, accept: &Accept| BadAccept {
        name,
        throws: vec![accept_frame(accept).into()],
        fate: Closed("handshake_failed"),
    };
    let (good, _) = daemon.accept_parts(init, entropy);
    let mut all = Vec::new();
    for (what, at) in [
        ("identity", 0),
        ("identity", 31),
        ("ephemeral key", 32),
        ("ephemeral key", 62),
        ("signature's R", 64),
        ("signature's R", 95),
        ("signature's s", 96),
        ("signature's s", 127),
    ] {
        let mut payload = good.to_payload();
        payload[at] ^= 1;
        if let Ok(spoilt) = Accept::parse(&payload) {
            all.push(failed(format!("an Accept with a bit turned in the {what}, byte {at}"), &spoilt));
        }
    }
    let zeros = Accept { identity: IdentityKey::from_bytes([0; 32]), daemon_ephemeral: [0; 32], signature: [0; 64] };
    all.push(failed("an Accept of zeros".to_owned(), &zeros));
    // With this identity, the neutral element, a lax verifier takes this signature for any message.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    let weak =
        Accept { identity: IdentityKey::from_bytes(neutral), daemon_ephemeral: good.daemon_ephemeral, signature };
    all.push(failed("an Accept from an identity of low order, which signs everything".to_owned(), &weak));
    let other = FarDaemon { daemon_id: "d_other".to_owned(), identity: daemon.identity.clone() };
    let (for_other, _) = other.accept_parts(init, entropy);
    all.push(failed("an Accept for another daemon id".to_owned(), &for_other));
    let other_init = Frame::HandshakeInit { session: *session, client_ephemeral: [9; 32] };
    let (of_other, _) = daemon.accept_parts(&other_init, entropy);
    all.push(failed("the Accept of another exchange, replayed".to_owned(), &of_other));
    let mut impostor = good.clone();
    impostor.identity = FarDaemon::new(&daemon.daemon_id, entropy).identity.public();
    all.push(failed("an Accept that shows another identity than the one that signed".to_owned(), &impostor));
    for (at, key) in low_order_keys().into_iter().enumerate() {
        // The daemon itself signs it: only the key is bad.
        let mut hash = Sha256::new();
        hash.update("sbrp-v1-handshake");
        hash.update(&daemon.daemon_id);
        hash.update(client_ephemeral);
        hash.update(key);
        let message: [u8; 32] = hash.finalize().into();
        let signature = SigningKey::from_bytes(&daemon.identity.to_seed()).sign(&message).to_bytes();
        let accept = Accept { identity: daemon.identity.public(), daemon_ephemeral: key, signature };
        all.push(failed(format!("an Accept with low-order key {at}"), &accept));
    }
    all.push(BadAccept {
        name: "an Accept under another session's id".to_owned(),
        throws: vec![
            Frame::HandshakeAccept { session: super::super::session(0xdead_beef), payload: (&good).into() }.into(),
        ],
        fate: Closed("malformed_frame"),
    });
    all.push(BadAccept {
        name: "a good Accept twice".to_owned(),
        throws: vec![accept_frame(&good).into(), accept_frame(&good).into()],
        fate: Closed("malformed_frame"),
    });
    all
}

/// HandshakeInits that a daemon answers with Signal(close, error) and nothing else (CRY-03).
pub fn inits(session: sideband_protocol::SessionId) -> Vec<Frame> {
    low_order_keys().into_iter().map(|key| Frame::HandshakeInit { session, client_ephemeral: key }).collect()
}
