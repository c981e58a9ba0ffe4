//! Keys and sealing: `sbrp_handshake.json`, `sbrp_data.json`, `sbrp_replay.json`.

use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use sideband_protocol::{
    crypto::{
        Accept, ClientHandshake, Direction, HandshakeError, Identity, IdentityKey, OpenError, Opener, ReplayWindow,
        SealError, Sealer, SessionKeys, TrustDecision, TrustPolicy, TrustRefusal, accept_with_ephemeral, decide,
    },
    wire::{DecodeError, Frame, FrameType, Header},
};
use x25519_dalek::{PublicKey, StaticSecret};

use super::{FileReport, Hex, Wrong, read, same, same_bytes};

// ---- sbrp_handshake.json ----

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Handshakes {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    cases: Vec<Exchange>,
    rejected: Vec<RejectedAccept>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    name: String,
    daemon_id: String,
    identity_seed: Hex,
    identity_public: Hex,
    fingerprint: String,
    client_ephemeral_private: Hex,
    client_ephemeral_public: Hex,
    daemon_ephemeral_private: Hex,
    daemon_ephemeral_public: Hex,
    signature_payload: Hex,
    signature: Hex,
    shared_secret: Hex,
    transcript_hash: Hex,
    client_to_daemon_key: Hex,
    daemon_to_client_key: Hex,
    init_payload: Hex,
    accept_payload: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RejectedAccept {
    name: String,
    daemon_id: String,
    client_ephemeral_private: Hex,
    pinned_identity: Hex,
    accept_payload: Hex,
    expect: String,
}

pub(super) fn handshake(text: &[u8], report: &mut FileReport) -> Result<(), Wrong> {
    let file: Handshakes = read(text)?;
    report.each("cases", &file.cases, |case| case.name.clone(), |case| exchange(case));
    report.each("rejected", &file.rejected, |case| case.name.clone(), |case| rejected_accept(case));
    Ok(())
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

fn exchange(case: &Exchange) -> Result<(), Wrong> {
    let id = case.daemon_id.as_bytes();
    let (client_public, daemon_public) = (&case.client_ephemeral_public, &case.daemon_ephemeral_public);

    let identity = Identity::from_seed(&case.identity_seed.array()?);
    same_bytes("the identity", identity.public().as_bytes(), &case.identity_public)?;
    same("the fingerprint", identity.public().fingerprint().to_string(), case.fingerprint.clone())?;
    let client = ClientHandshake::from_private(case.client_ephemeral_private.array()?);
    same_bytes("the client's ephemeral key", client.public(), client_public)?;
    same_bytes("the Init payload", client.public(), &case.init_payload)?;

    let daemon_private = case.daemon_ephemeral_private.array()?;
    let (accept, daemon_keys) =
        accept_with_ephemeral(&identity, &case.daemon_id, &client_public.array()?, daemon_private)
            .map_err(|error| error.to_string())?;
    same_bytes("the daemon's ephemeral key", &accept.daemon_ephemeral, daemon_public)?;
    same_bytes("the signature", &accept.signature, &case.signature)?;
    same_bytes("the Accept payload", &accept.to_payload(), &case.accept_payload)?;
    same("the parsed Accept", Accept::parse(&case.accept_payload.0).as_ref(), Ok(&accept))?;

    // The values in between, which the library does not show, and that its signature is over them.
    let signed = digest(&[b"sbrp-v1-handshake", id, &client_public.0, &daemon_public.0]);
    same_bytes("the signature's payload", &signed, &case.signature_payload)?;
    VerifyingKey::from_bytes(&case.identity_public.array()?)
        .and_then(|key| key.verify_strict(&signed, &Signature::from_bytes(&accept.signature)))
        .map_err(|error| error.to_string())?;
    let secret = StaticSecret::from(daemon_private).diffie_hellman(&PublicKey::from(client_public.array::<32>()?));
    same_bytes("the shared secret", secret.as_bytes(), &case.shared_secret)?;
    let transcript = digest(&[b"sbrp-v1-transcript", id, &client_public.0, &daemon_public.0, &case.signature.0]);
    same_bytes("the transcript", &transcript, &case.transcript_hash)?;

    let client_keys = client.finish(&case.daemon_id, &accept).map_err(|error| error.to_string())?;
    for (side, keys) in [("client", client_keys), ("daemon", daemon_keys)] {
        let SessionKeys { client_to_daemon, daemon_to_client } = &keys;
        same_bytes(&format!("the {side}'s client→daemon key"), client_to_daemon, &case.client_to_daemon_key)?;
        same_bytes(&format!("the {side}'s daemon→client key"), daemon_to_client, &case.daemon_to_client_key)?;
    }
    Ok(())
}

fn rejected_accept(case: &RejectedAccept) -> Result<(), Wrong> {
    if !matches!(case.expect.as_str(), "handshake_failed" | "identity_key_changed" | "malformed_frame") {
        return Err(format!("nobody knows expect `{}`", case.expect));
    }
    let client = ClientHandshake::from_private(case.client_ephemeral_private.array()?);
    let pinned = IdentityKey::from_bytes(case.pinned_identity.array()?);
    let got = refusal(&client, &case.daemon_id, &pinned, &case.accept_payload).unwrap_or("accepted");
    same("the outcome", got, case.expect.as_str())
}

/// What a client with this pin under `pinned-only` makes of the Accept; `None` if it goes on.
fn refusal(client: &ClientHandshake, daemon_id: &str, pinned: &IdentityKey, payload: &Hex) -> Option<&'static str> {
    let header = Header { frame_type: FrameType::HandshakeAccept, length: payload.0.len(), session: 1 };
    let message = [&header.encode()[..], &payload.0].concat().into();
    let accept = match Frame::decode(&message) {
        Ok(Frame::HandshakeAccept { payload, .. }) => Accept::parse(&payload),
        Ok(_) => return None,
        Err(DecodeError::Size { .. } | DecodeError::Header(_) | DecodeError::UnknownSignal { .. }) => {
            return Some("malformed_frame");
        }
    };
    // CRY-02: before any trust decision.
    match accept.and_then(|accept| client.finish(daemon_id, &accept).map(|_| accept)) {
        Err(HandshakeError::Size(_)) => Some("malformed_frame"),
        Err(HandshakeError::Signature | HandshakeError::LowOrder) => Some("handshake_failed"),
        Ok(accept) => match decide(TrustPolicy::PinnedOnly, Some(pinned), &accept.identity) {
            TrustDecision::Refuse(TrustRefusal::Changed { .. }) => Some("identity_key_changed"),
            TrustDecision::Refuse(TrustRefusal::Unknown { .. }) => Some("handshake_failed"),
            TrustDecision::Proceed | TrustDecision::Pin | TrustDecision::Ask(_) => None,
        },
    }
}

// ---- sbrp_data.json ----

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    cases: Vec<Sealed>,
    rejected: Vec<RejectedData>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Way {
    ClientToDaemon,
    DaemonToClient,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::ClientToDaemon => Self::ClientToDaemon,
            Way::DaemonToClient => Self::DaemonToClient,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    name: String,
    key: Hex,
    direction: Way,
    seq: String,
    plaintext: Hex,
    payload: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RejectedData {
    name: String,
    key: Hex,
    direction: Way,
    payload: Hex,
    expect: String,
}

pub(super) fn data(text: &[u8], report: &mut FileReport) -> Result<(), Wrong> {
    let file: Data = read(text)?;
    report.each("cases", &file.cases, |case| case.name.clone(), |case| sealed(case));
    report.each("rejected", &file.rejected, |case| case.name.clone(), |case| rejected_data(case));
    Ok(())
}

fn sequence(text: &str) -> Result<u64, Wrong> {
    text.parse().map_err(|_| format!("`{text}` is no sequence"))
}

fn sealed(case: &Sealed) -> Result<(), Wrong> {
    let (key, direction, first) = (case.key.array()?, Direction::from(case.direction), sequence(&case.seq)?);
    let payload = Sealer::starting_at(&key, direction, first).seal_payload(&case.plaintext.0);
    if first == u64::MAX {
        // CRY-05: received, but never sent.
        same("what is sealed", payload, Err(SealError::Exhausted))?;
    } else {
        same_bytes("what is sealed", &payload.map_err(|error| error.to_string())?, &case.payload)?;
    }
    let opened = Opener::with_key(&key, direction).open(case.payload.bytes()).map_err(|error| error.to_string())?;
    same_bytes("what is opened", &opened, &case.plaintext)
}

fn rejected_data(case: &RejectedData) -> Result<(), Wrong> {
    let opened = Opener::with_key(&case.key.array()?, case.direction.into()).open(case.payload.bytes());
    let got = match opened {
        Ok(_) => "opened",
        Err(OpenError::Short(_)) => "malformed_frame",
        Err(OpenError::Forged) => "decrypt_failed",
        Err(OpenError::Replayed(_)) => "sequence_error",
    };
    same("the outcome", got, case.expect.as_str())
}

// ---- sbrp_replay.json ----

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replays {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    cases: Vec<Replay>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    name: String,
    window: u32,
    seqs: Vec<String>,
    accepted: Vec<bool>,
}

pub(super) fn replay(text: &[u8], report: &mut FileReport) -> Result<(), Wrong> {
    let file: Replays = read(text)?;
    report.each("cases", &file.cases, |case| case.name.clone(), |case| arrivals(case));
    for case in &file.cases {
        if case.seqs.iter().any(|text| text.starts_with('-')) {
            report.notes.push(format!("`{}` has sequences below 0 and was run moved up", case.name));
        }
    }
    Ok(())
}

/// The sequences of a case as 64-bit numbers.
///
/// The public set has one case (`window 1024: starts late`) whose sequences lie below 0, which no nonce can hold. What a window accepts
/// follows from the differences alone, so such a case is run with all its sequences moved up by the same number instead of being left out.
fn sequences(case: &Replay) -> Result<Vec<u64>, Wrong> {
    let read = |text: &String| text.parse::<i128>().map_err(|_| format!("`{text}` is no sequence"));
    let read: Vec<i128> = case.seqs.iter().map(read).collect::<Result<_, _>>()?;
    let up = read.iter().min().map_or(0, |least| (-least).max(0));
    read.into_iter().map(|n| u64::try_from(n + up).map_err(|_| format!("{n} does not fit into 64 bits"))).collect()
}

fn arrivals(case: &Replay) -> Result<(), Wrong> {
    same("the number of answers", case.accepted.len(), case.seqs.len())?;
    let mut window = ReplayWindow::new(case.window);
    for (at, (sequence, expected)) in sequences(case)?.into_iter().zip(&case.accepted).enumerate() {
        let accepted = window.check(sequence).is_ok();
        if accepted {
            window.mark(sequence);
        }
        same(&format!("whether sequence {sequence} at place {at} is accepted"), accepted, *expected)?;
    }
    Ok(())
}
