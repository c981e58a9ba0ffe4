//! What is inside a sealed payload: `sbp_frames.json`, `rpc_envelopes.json`, `event_patterns.json`.
//!
//! What a receiver does with a frame is asked of a whole session, not only of the parser.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use sideband_protocol::{
    Entropy, SessionId,
    crypto::{Direction, Opener, Sealer, SessionKeys},
    event::{EventName, EventPattern},
    peer::{Answer, Delivery, Session, SessionLimits, SessionOutput, Side},
    rpc::{Envelope, code},
    sbp::{Frame, FrameBody, FrameId, Introduction, Subject},
    wire,
};

use super::{FileReport, Hex, Wrong, present, read, same, same_bytes};

// ---- a receiver ----

/// Counts: frame ids need only differ here.
struct Counter(u8);

impl Entropy for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 = self.0.wrapping_add(1);
        out.fill(self.0);
    }
}

/// A client that has got the introduction of a daemon, and what seals and opens at the daemon.
struct Receiver {
    session: Session,
    sealer: Sealer,
    opener: Opener,
    entropy: Counter,
}

/// What a receiver did.
#[derive(Debug, Default)]
struct Did {
    sent: Vec<Frame>,
    delivered: Vec<Delivery>,
    ended: bool,
}

impl Receiver {
    fn new() -> Result<Self, Wrong> {
        let keys = SessionKeys { client_to_daemon: [1; 32], daemon_to_client: [2; 32] };
        let mut entropy = Counter(0);
        let hello = Introduction::new("client".to_owned());
        let id = SessionId::new(1).ok_or("no session")?;
        let session = Session::new(id, Side::Client, &keys, &hello, SessionLimits::default(), &mut entropy);
        let sealer = Sealer::new(&keys, Direction::DaemonToClient);
        let mut receiver = Self { session, sealer, opener: Opener::new(&keys, Direction::ClientToDaemon), entropy };
        let said = FrameBody::Handshake(Introduction::new("daemon".to_owned()).to_json().into());
        let frame = Frame { id: FrameId::from_bytes([0; 16]), timestamp: None, body: said };
        receiver.receive(&frame.encode())?;
        same("whether the receiver knows the sender", receiver.session.is_introduced(), true)?;
        Ok(receiver)
    }

    fn receive(&mut self, plaintext: &[u8]) -> Result<Did, Wrong> {
        let payload = self.sealer.seal_payload(plaintext).map_err(|error| error.to_string())?;
        self.session.handle_payload(payload, &mut self.entropy);
        self.drain()
    }

    fn drain(&mut self) -> Result<Did, Wrong> {
        let mut did = Did::default();
        while let Some(output) = self.session.poll_output() {
            match output {
                SessionOutput::Frame(frame) => {
                    let Ok(wire::Frame::Data { payload, .. }) = wire::Frame::decode(&frame) else {
                        return Err(format!("{frame:?} is no Data frame"));
                    };
                    let plaintext = self.opener.open(payload).map_err(|error| error.to_string())?;
                    did.sent.push(Frame::decode(&plaintext).map_err(|error| error.to_string())?);
                }
                SessionOutput::Introduced(_) => {}
                SessionOutput::Deliver(delivery) => did.delivered.push(delivery),
                SessionOutput::Ended(_) => did.ended = true,
            }
        }
        Ok(did)
    }
}

// ---- sbp_frames.json ----

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SbpFrames {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    cases: Vec<SbpFrame>,
    invalid: Vec<InvalidFrame>,
    subjects: Vec<SubjectCase>,
    handshakes: Vec<HandshakeCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SbpFrame {
    name: String,
    kind: String,
    frame_id: Hex,
    #[serde(deserialize_with = "present")]
    timestamp: Option<i64>,
    op: Option<String>,
    data: Option<Hex>,
    reason: Option<String>,
    subject: Option<String>,
    ack_frame_id: Option<Hex>,
    code: Option<u16>,
    message: Option<String>,
    details: Option<Hex>,
    encoded: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InvalidFrame {
    name: String,
    bytes: Hex,
    expect: u16,
}

/// A name, or the code of an error.
#[derive(Deserialize, Debug, Clone, PartialEq)]
#[serde(untagged)]
enum NameOrCode {
    Name(String),
    Code(u16),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectCase {
    subject: String,
    expect: NameOrCode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HandshakeCase {
    name: String,
    json: String,
    expect: NameOrCode,
}

pub(super) fn sbp_frames(text: &[u8], report: &mut FileReport) -> Result<(), Wrong> {
    let file: SbpFrames = read(text)?;
    report.each("cases", &file.cases, |case| case.name.clone(), |case| frame(case));
    report.each("invalid", &file.invalid, |case| case.name.clone(), |case| invalid(case));
    report.each("subjects", &file.subjects, |case| case.subject.clone(), |case| subject(case));
    report.each("handshakes", &file.handshakes, |case| case.name.clone(), |case| handshake(case));
    Ok(())
}

fn frame(case: &SbpFrame) -> Result<(), Wrong> {
    let id = FrameId::from_bytes(case.frame_id.array()?);
    let built = Frame { id, timestamp: case.timestamp, body: body(case)? };
    same_bytes("the encoded frame", &built.encode(), &case.encoded)?;
    same("the decoded frame", Frame::decode(&case.encoded.bytes()), Ok(built))
}

/// The body that the members describe; exactly those of its kind must be there.
fn body(case: &SbpFrame) -> Result<FrameBody, Wrong> {
    let SbpFrame { op, data, reason, subject, ack_frame_id, code, message, details, .. } = case;
    let op = op.as_deref();
    Ok(match (case.kind.as_str(), op, data, reason, subject, ack_frame_id, code, message, details) {
        ("control", Some("handshake"), Some(data), None, None, None, None, None, None) => {
            FrameBody::Handshake(data.bytes())
        }
        ("control", Some("ping"), None, None, None, None, None, None, None) => FrameBody::Ping,
        ("control", Some("pong"), None, None, None, None, None, None, None) => FrameBody::Pong,
        ("control", Some("close"), data, reason, None, None, None, None, None) => {
            let reason = match (data, reason) {
                (None, None) => String::new(),
                (None, Some(reason)) => reason.clone(),
                (Some(data), None) => String::from_utf8(data.0.clone()).map_err(|error| error.to_string())?,
                (Some(_), Some(_)) => return Err("both data and a reason".to_owned()),
            };
            FrameBody::Close { reason }
        }
        ("message", None, Some(data), None, Some(subject), None, None, None, None) => {
            FrameBody::Message { subject: subject.clone(), data: data.bytes() }
        }
        ("ack", None, None, None, None, Some(id), None, None, None) => FrameBody::Ack(FrameId::from_bytes(id.array()?)),
        ("error", None, None, None, None, None, Some(code), Some(message), details) => FrameBody::Error {
            code: *code,
            message: message.clone(),
            details: details.as_ref().map(Hex::bytes).unwrap_or_default(),
        },
        _ => return Err(format!("nobody knows kind `{}` with op {op:?} and these members", case.kind)),
    })
}

/// SBP-02: the parser refuses it, and a session answers with the code, unless the kind is one that is never answered.
fn invalid(case: &InvalidFrame) -> Result<(), Wrong> {
    if case.expect != 1002 {
        return Err(format!("nobody knows expect {}", case.expect));
    }
    let plaintext = &case.bytes.0;
    if let Ok(frame) = Frame::decode(&case.bytes.bytes()) {
        return Err(format!("it reads as {frame:?}"));
    }
    let did = Receiver::new()?.receive(plaintext)?;
    same("what is delivered", did.delivered.len(), 0)?;
    let reserved_bits = plaintext.len() >= 18 && plaintext[1] & 0xFE != 0;
    same("whether the session ends", did.ended, reserved_bits)?;
    let answers: Vec<_> = did.sent.iter().map(|frame| (error_code(frame), frame.id)).collect();
    if matches!(plaintext.first(), Some(2 | 3)) {
        return same("the answer", answers, Vec::new());
    }
    let [(code, id)] = answers[..] else { return Err(format!("the answers are {:?}", did.sent)) };
    same("the code", code, Some(case.expect))?;
    match plaintext.get(2..18) {
        Some(theirs) => same("the answer's frame id", &id.as_bytes()[..], theirs),
        None => Ok(()),
    }
}

fn error_code(frame: &Frame) -> Option<u16> {
    match frame.body {
        FrameBody::Error { code, .. } => Some(code),
        FrameBody::Handshake(_)
        | FrameBody::Ping
        | FrameBody::Pong
        | FrameBody::Close { .. }
        | FrameBody::Message { .. }
        | FrameBody::Ack(_) => None,
    }
}

fn subject(case: &SubjectCase) -> Result<(), Wrong> {
    let name = |name: &str| NameOrCode::Name(name.to_owned());
    let got = match Subject::parse(&case.subject) {
        Ok(Subject::Rpc) => name("rpc"),
        Ok(Subject::Event) => name("event"),
        Ok(Subject::App(_)) => name("app"),
        Err(error) => NameOrCode::Code(error.code().code()),
    };
    same("the outcome", &got, &case.expect)
}

fn handshake(case: &HandshakeCase) -> Result<(), Wrong> {
    let got = match Introduction::parse(case.json.as_bytes()) {
        Ok(said) => {
            // What was understood is what was said.
            let value: Value = serde_json::from_str(&case.json).map_err(|error| error.to_string())?;
            same("the peer id", Some(said.peer_id.as_str()), value["peerId"].as_str())?;
            same("the caps", &serde_json::json!(said.caps), &value["caps"])?;
            same("the metadata", &serde_json::json!(said.metadata), &value["metadata"])?;
            NameOrCode::Name("ok".to_owned())
        }
        Err(error) => NameOrCode::Code(error.code().code()),
    };
    same("the outcome", &got, &case.expect)
}

// ---- rpc_envelopes.json ----

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelopes {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    cases: Vec<EnvelopeCase>,
    reactions: Vec<Reaction>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeCase {
    name: String,
    json: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reaction {
    name: String,
    channel: String,
    json: String,
    expect: String,
}

pub(super) fn rpc_envelopes(text: &[u8], report: &mut FileReport) -> Result<(), Wrong> {
    let file: Envelopes = read(text)?;
    report.each("cases", &file.cases, |case| case.name.clone(), |case| envelope(case));
    report.each("reactions", &file.reactions, |case| case.name.clone(), |case| reaction(case));
    Ok(())
}

fn envelope(case: &EnvelopeCase) -> Result<(), Wrong> {
    let parsed = Envelope::parse(&Bytes::from(case.json.clone())).map_err(|error| error.to_string())?;
    let json = |text: &[u8]| serde_json::from_slice::<Value>(text).map_err(|error| error.to_string());
    let mut expected = json(case.json.as_bytes())?;
    if case.name.contains("unknown member") {
        let members = expected.as_object_mut().ok_or("no object")?;
        let before = members.len();
        members.retain(|name, _| {
            ["t", "cid", "m", "p", "result", "code", "message", "data", "e", "d"].contains(&name.as_str())
        });
        same("whether a member is unknown", members.len() < before, true)?;
    }
    same("what is printed", json(&parsed.encode())?, expected)
}

fn reaction(case: &Reaction) -> Result<(), Wrong> {
    if !matches!(case.channel.as_str(), "rpc" | "event") {
        return Err(format!("nobody knows channel `{}`", case.channel));
    }
    let id = FrameId::from_bytes([0xAB; 16]);
    let data = Bytes::from(case.json.clone());
    let message = Frame { id, timestamp: None, body: FrameBody::Message { subject: case.channel.clone(), data } };
    let mut receiver = Receiver::new()?;
    let mut did = receiver.receive(&message.encode())?;
    same("whether the session ends", did.ended, false)?;
    // No handler is registered: the owner of a session then answers so.
    if let [Delivery::Request { cid, method, .. }] = &did.delivered[..] {
        let message = format!("no handler for {method}");
        let answer = Answer::Error { code: code::UNSUPPORTED_METHOD, message, data: None };
        receiver.session.respond(*cid, answer, &mut receiver.entropy);
        did = receiver.drain()?;
    }
    same("what is delivered", did.delivered.len(), 0)?;
    let cid = serde_json::from_str::<Value>(&case.json).ok().and_then(|value| value["cid"].as_str().map(str::to_owned));
    let got = match &did.sent[..] {
        [] => "dropped".to_owned(),
        [Frame { id: about, body: FrameBody::Error { code, .. }, .. }] if *about == id => format!("error_frame_{code}"),
        [Frame { body: FrameBody::Message { subject, data }, .. }] if subject == "rpc" => match Envelope::parse(data) {
            Ok(Envelope::Error { cid: about, code, .. }) if Some(about.to_string()) == cid => {
                format!("rpc_error_{code}")
            }
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    };
    same("the reaction", got.as_str(), case.expect.as_str())
}

// ---- event_patterns.json ----

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patterns {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    cases: Vec<Match>,
    invalid: InvalidNames,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    pattern: String,
    event: String,
    matches: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InvalidNames {
    patterns: Vec<String>,
    names: Vec<String>,
    valid_names: Vec<String>,
}

pub(super) fn event_patterns(text: &[u8], report: &mut FileReport) -> Result<(), Wrong> {
    let Patterns { cases, invalid, .. } = read(text)?;
    report.each(
        "cases",
        &cases,
        |case| format!("{} on {}", case.pattern, case.event),
        |case| {
            let pattern = EventPattern::new(&*case.pattern).map_err(|error| error.to_string())?;
            let name = EventName::new(&*case.event).map_err(|error| error.to_string())?;
            same("whether it matches", pattern.matches(&name), case.matches)
        },
    );
    let refused = |taken: bool| if taken { Err("it is taken".to_owned()) } else { Ok(()) };
    report.each(
        "invalid patterns",
        &invalid.patterns,
        |text| (*text).clone(),
        |text| refused(EventPattern::new(text.as_str()).is_ok()),
    );
    report.each(
        "invalid names",
        &invalid.names,
        |text| (*text).clone(),
        |text| refused(EventName::new(text.as_str()).is_ok()),
    );
    report.each(
        "valid names",
        &invalid.valid_names,
        |text| (*text).clone(),
        |text| EventName::new(text.as_str()).map(drop).map_err(|error| error.to_string()),
    );
    Ok(())
}
