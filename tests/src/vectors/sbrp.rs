//! Frames on the wire: `sbrp_frames.json`, `sbrp_largest.json`, `sbrp_invalid.json`.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use sideband_protocol::{
    Instant, SessionId,
    relay::{ConnId, DaemonHub, HubConfig, Output},
    wire::{ControlCode, Frame, FrameType, Header, MAX_PAYLOAD, Reason, Scope, Signal, UnknownControlCode},
};

use super::{FileReport, Hex, Wrong, read, same, same_bytes};

/// The 8 header bytes in hex, which may be zero.
fn header_id(hex: &Hex) -> Result<u64, Wrong> {
    hex.array().map(u64::from_be_bytes)
}

// ---- sbrp_frames.json ----

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frames {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    control_codes: BTreeMap<String, CodeRow>,
    cases: Vec<FrameCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeRow {
    code: String,
    terminal: bool,
    session_scope: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrameCase {
    name: String,
    #[serde(rename = "type")]
    frame_type: String,
    type_byte: u8,
    session_id: Hex,
    payload: Hex,
    encoded: Hex,
}

pub(super) fn frames(text: &[u8], report: &mut FileReport) -> Result<(), Wrong> {
    let file: Frames = read(text)?;
    report.each("cases", &file.cases, |case| case.name.clone(), |case| frame(case));
    for code in ControlCode::ALL {
        if !file.control_codes.contains_key(code.name()) {
            report.failures.push(format!("control_codes leaves {code} out"));
        }
    }
    report.each("control_codes", &file.control_codes, |(name, _)| (*name).clone(), |(name, row)| code(name, row));
    Ok(())
}

fn code(name: &str, row: &CodeRow) -> Result<(), Wrong> {
    let code = *ControlCode::ALL.iter().find(|code| code.name() == name).ok_or("nobody knows this code")?;
    same("the code", format!("0x{:04x}", code.code()), row.code.clone())?;
    same("whether it is terminal", code.is_terminal(), row.terminal)?;
    let scope = match row.session_scope.as_str() {
        "S" => Scope::Session,
        "0" => Scope::Connection,
        other => return Err(format!("nobody knows scope `{other}`")),
    };
    same("the scope", code.scope(), scope)
}

fn frame(case: &FrameCase) -> Result<(), Wrong> {
    let frame_type = FrameType::from_byte(case.type_byte).ok_or("nobody knows this type byte")?;
    same("the type", frame_type.name(), case.frame_type.as_str())?;
    let session = header_id(&case.session_id)?;
    let payload = case.payload.bytes();

    // Encode the fields.
    let header = Header { frame_type, length: payload.len(), session };
    same_bytes("the header and the payload", &[&header.encode()[..], &payload].concat(), &case.encoded)?;
    let built = build(frame_type, SessionId::new(session), &case.payload)?;
    same_bytes("the encoded frame", &built.encode(), &case.encoded)?;

    // Decode it.
    let message = case.encoded.bytes();
    same("the decoded header", Header::parse(&message), Ok(header))?;
    same("the decoded frame", Frame::decode(&message), Ok(built))
}

/// The frame that these fields describe, without asking the decoder.
fn build(frame_type: FrameType, session: Option<SessionId>, payload: &Hex) -> Result<Frame, Wrong> {
    let id = session.ok_or("this type needs a session");
    Ok(match frame_type {
        FrameType::HandshakeInit => Frame::HandshakeInit { session: id?, client_ephemeral: payload.array()? },
        FrameType::HandshakeAccept => Frame::HandshakeAccept { session: id?, payload: payload.bytes() },
        FrameType::Data => Frame::Data { session: id?, payload: payload.bytes() },
        FrameType::Signal => {
            let [signal, reason] = payload.array()?;
            let signal = match signal {
                0 => Signal::Ready,
                1 => Signal::Close,
                other => return Err(format!("nobody knows signal {other}")),
            };
            let reason = match reason {
                0 => Reason::None,
                1 => Reason::StateLost,
                2 => Reason::Shutdown,
                3 => Reason::Policy,
                4 => Reason::Error,
                other => return Err(format!("nobody knows reason {other}")),
            };
            Frame::Signal { session: id?, signal, reason }
        }
        FrameType::Ping => Frame::Ping(payload.bytes()),
        FrameType::Pong => Frame::Pong(payload.bytes()),
        FrameType::Control => {
            let (code, message) = payload.0.split_first_chunk().ok_or("a Control frame without a code")?;
            let code = u16::from_be_bytes(*code);
            Frame::Control {
                session,
                code: ControlCode::ALL
                    .iter()
                    .find(|known| known.code() == code)
                    .copied()
                    .ok_or(UnknownControlCode(code)),
                message: String::from_utf8(message.to_vec()).map_err(|error| error.to_string())?,
            }
        }
    })
}

// ---- sbrp_largest.json ----

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Largest {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    cases: Vec<LargestCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LargestCase {
    name: String,
    session_id: SessionId,
    stream_seed: Hex,
    encoded_len: usize,
    encoded_sha256: Hex,
}

pub(super) fn largest(text: &[u8], report: &mut FileReport) -> Result<(), Wrong> {
    let file: Largest = read(text)?;
    report.each("cases", &file.cases, |case| case.name.clone(), |case| largest_case(case));
    Ok(())
}

fn largest_case(case: &LargestCase) -> Result<(), Wrong> {
    let mut payload = Vec::with_capacity(MAX_PAYLOAD);
    for i in 0..2_048u32 {
        payload.extend(Sha256::new().chain_update(&case.stream_seed.0).chain_update(i.to_be_bytes()).finalize());
    }
    let frame = Frame::Data { session: case.session_id, payload: payload.into() };
    let encoded = frame.encode();
    same("the length", encoded.len(), case.encoded_len)?;
    same_bytes("the digest", &Sha256::digest(&encoded), &case.encoded_sha256)?;
    same("the decoded frame", Frame::decode(&encoded), Ok(frame))
}

// ---- sbrp_invalid.json ----

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invalid {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    cases: Vec<InvalidCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InvalidCase {
    name: String,
    sender: Sender,
    sender_session: SessionId,
    bytes: Hex,
    expect: Refusal,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Sender {
    Client,
    Daemon,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    code: String,
    session_id: Hex,
    closes: bool,
}

pub(super) fn invalid(text: &[u8], report: &mut FileReport) -> Result<(), Wrong> {
    let file: Invalid = read(text)?;
    report.each("cases", &file.cases, |case| case.name.clone(), |case| invalid_case(case));
    Ok(())
}

/// A hub with the daemon and the paired client gets the message from one of them.
fn invalid_case(case: &InvalidCase) -> Result<(), Wrong> {
    const DAEMON: ConnId = ConnId(1);
    const CLIENT: ConnId = ConnId(2);
    let (sender, other) = match case.sender {
        Sender::Client => (CLIENT, DAEMON),
        Sender::Daemon => (DAEMON, CLIENT),
    };
    let expected = *ControlCode::ALL
        .iter()
        .find(|code| code.name() == case.expect.code)
        .ok_or_else(|| format!("nobody knows code `{}`", case.expect.code))?;

    let now = Instant::ORIGIN;
    let mut hub = DaemonHub::new(HubConfig::default());
    hub.handle_daemon_open(DAEMON, true, None, now).map_err(|refused| refused.to_string())?;
    hub.handle_client_open(CLIENT, case.sender_session, None, now).map_err(|refused| refused.to_string())?;
    while hub.poll_output().is_some() {}
    hub.handle_message(sender, case.bytes.bytes(), now);

    let mut told = Vec::new();
    let mut closed = None;
    while let Some(output) = hub.poll_output() {
        match output {
            Output::Send { to, .. } if to == sender && closed.is_some() => {
                return Err("something is sent after the close".to_owned());
            }
            Output::Send { to, message, .. } if to == sender => told.push(Frame::decode(&message)),
            Output::Send { to, message, forwards } => {
                same("who is told", to, other)?;
                same("what is forwarded", forwards, None)?;
                let told = Frame::decode(&message).map(|frame| frame.frame_type());
                same("what the other side gets", told, Ok(FrameType::Control))?;
            }
            Output::Close { conn, code } if conn == sender => closed = Some(code),
            Output::Close { conn, .. } => return Err(format!("{conn:?} is closed too")),
            Output::Report(_) => {}
        }
    }
    let [Ok(Frame::Control { session, code, .. })] = &told[..] else {
        return Err(format!("the sender is told {told:?}"));
    };
    same("the code", *code, Ok(expected))?;
    same("the session id", session.map_or(0, SessionId::get), header_id(&case.expect.session_id)?)?;
    same("the close", closed, case.expect.closes.then(|| expected.close_code()))
}
