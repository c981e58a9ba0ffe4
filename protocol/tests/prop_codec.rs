//! Properties of everything that reads or writes bytes: what is written reads back the same, and no bytes whatsoever
//! make a reader panic.

mod common;

use bytes::Bytes;
use common::{Seeded, id};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sideband_protocol::{
    SessionId,
    crypto::{Accept, HandshakeError, Identity, IdentityKey},
    event::{EventName, EventPattern},
    rpc::{Envelope, OnEvent, OnRpc, on_event, on_rpc},
    sbp::{self, FrameBody, FrameId, Introduction, Subject},
    token::{Claims, GrantRole, KeySet, Policy, Refusal, Signer, check, peek},
    wire::{
        ControlCode, DecodeError, Frame, FrameType, HEADER_LEN, Header, HeaderError, MAX_PAYLOAD, Reason, Signal,
        UnknownControlCode, control_message, decode_signal,
    },
};

// ---- what is generated ----

fn blob(size: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), size).prop_map(Bytes::from)
}

fn session() -> impl Strategy<Value = SessionId> {
    prop_oneof![Just(1), Just(u64::MAX), 1..=u64::MAX].prop_map(id)
}

fn control_code() -> impl Strategy<Value = Result<ControlCode, UnknownControlCode>> {
    any::<u16>()
        .prop_map(|code| ControlCode::from_u16(code).ok_or(UnknownControlCode(code)))
        .boxed()
        .prop_union(prop::sample::select(ControlCode::ALL).prop_map(Ok).boxed())
}

fn sbrp_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (session(), any::<[u8; 32]>())
            .prop_map(|(session, client_ephemeral)| Frame::HandshakeInit { session, client_ephemeral }),
        (session(), blob(128)).prop_map(|(session, payload)| Frame::HandshakeAccept { session, payload }),
        (session(), blob(28..400)).prop_map(|(session, payload)| Frame::Data { session, payload }),
        (session(), any::<bool>(), 0u8..5).prop_map(|(session, close, reason)| Frame::Signal {
            session,
            signal: if close { Signal::Close } else { Signal::Ready },
            reason: Reason::from_byte(reason),
        }),
        blob(0..=8).prop_map(Frame::Ping),
        blob(0..=8).prop_map(Frame::Pong),
        (prop::option::of(session()), control_code(), any::<String>())
            .prop_map(|(session, code, message)| Frame::Control { session, code, message }),
    ]
}

fn frame_id() -> impl Strategy<Value = FrameId> {
    any::<[u8; 16]>().prop_map(FrameId::from_bytes)
}

fn subject() -> impl Strategy<Value = String> {
    prop_oneof![Just("rpc".to_owned()), Just("event".to_owned()), "[^\0]{1,60}", "app/[^\0]{0,60}", "[a-z/]{256}"]
}

fn sbp_frame() -> impl Strategy<Value = sbp::Frame> {
    let body = prop_oneof![
        blob(1..200).prop_map(FrameBody::Handshake),
        Just(FrameBody::Ping),
        Just(FrameBody::Pong),
        any::<String>().prop_map(|reason| FrameBody::Close { reason }),
        (subject(), blob(0..200)).prop_map(|(subject, data)| FrameBody::Message { subject, data }),
        frame_id().prop_map(FrameBody::Ack),
        (any::<u16>(), any::<String>(), blob(0..100)).prop_map(|(code, message, details)| FrameBody::Error {
            code,
            message,
            details
        }),
    ];
    (frame_id(), prop::option::of(any::<i64>()), body).prop_map(|(id, timestamp, body)| sbp::Frame {
        id,
        timestamp,
        body,
    })
}

/// Values without fractions, which read back exactly.
fn exact_json_value() -> impl Strategy<Value = Value> {
    nested(
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ]
        .boxed(),
    )
}

fn json_value() -> impl Strategy<Value = Value> {
    prop_oneof![7 => exact_json_value(), 1 => (-1e300f64..1e300).prop_map(Value::from)]
}

fn nested(leaf: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn json_text() -> impl Strategy<Value = Bytes> {
    json_value().prop_map(|value| Bytes::from(value.to_string()))
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let member = || prop::option::of(json_text());
    prop_oneof![
        (any::<String>(), member(), frame_id()).prop_map(|(method, params, cid)| Envelope::Request {
            method,
            params,
            cid
        }),
        (frame_id(), member()).prop_map(|(cid, result)| Envelope::Result { cid, result }),
        (frame_id(), any::<i64>(), any::<String>(), member()).prop_map(|(cid, code, message, data)| Envelope::Error {
            cid,
            code,
            message,
            data
        }),
        (any::<String>(), member()).prop_map(|(name, data)| Envelope::Event { name, data }),
    ]
}

/// Objects with the members that envelopes have, of any type.
fn envelope_like() -> impl Strategy<Value = Value> {
    let text = |values: &'static [&'static str]| prop::sample::select(values).prop_map(Value::from);
    let kind = prop_oneof![4 => text(&["r", "R", "E", "N", "q"]), 1 => json_value()];
    let cid = prop_oneof![
        4 => text(&["00112233445566778899aabbccddeeff", "00112233445566778899AABBCCDDEEFF", "0011", ""]),
        1 => json_value()
    ];
    let others = prop::collection::btree_map(
        prop::sample::select(vec!["m", "p", "result", "code", "message", "data", "e", "d", "zz"]),
        json_value(),
        0..6,
    );
    (prop::option::of(kind), prop::option::of(cid), others).prop_map(|(t, cid, others)| {
        let mut object: Map<_, _> = others.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        object.extend(t.map(|t| ("t".to_owned(), t)));
        object.extend(cid.map(|cid| ("cid".to_owned(), cid)));
        Value::Object(object)
    })
}

/// A valid encoding with some bytes changed, cut or added, or any bytes at all.
fn damaged(valid: impl Strategy<Value = Bytes>) -> impl Strategy<Value = Bytes> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let mutated = (valid, changes, prop::option::of(any::<prop::sample::Index>()), blob(0..4)).prop_map(
        |(valid, changes, cut, more)| {
            let mut bytes = valid.to_vec();
            for (at, byte) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            bytes.extend(more);
            Bytes::from(bytes)
        },
    );
    prop_oneof![3 => mutated, 1 => blob(0..300)]
}

// ---- SBRP ----

/// WIRE-11 to WIRE-14 said plainly, one after the other.
fn header_as_the_spec_says(message: &[u8]) -> Result<Header, HeaderError> {
    if message.len() < HEADER_LEN {
        return Err(HeaderError::Short(message.len()));
    }
    let number = |range: std::ops::Range<usize>| message[range].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let (kind, declared, session) = (message[0], number(1..5), number(5..13));
    let frame_type = FrameType::ALL.into_iter().find(|known| known.byte() == kind);
    let is_ping = kind == 0x10 || kind == 0x11;
    if declared > 65_536 || (is_ping && declared > 8) {
        return Err(HeaderError::TooLarge(declared as u32));
    }
    let actual = message.len() - HEADER_LEN;
    if declared != actual as u64 {
        return Err(HeaderError::LengthMismatch { declared: declared as u32, actual });
    }
    let Some(frame_type) = frame_type else { return Err(HeaderError::UnknownType(kind)) };
    if (kind <= 4 && session == 0) || (is_ping && session != 0) {
        return Err(HeaderError::SessionId { frame_type, session });
    }
    Ok(Header { frame_type, length: actual, session })
}

proptest! {
    #[test]
    fn sbrp_frame_reads_back_as_it_was_written(frame in sbrp_frame()) {
        let encoded = frame.encode();
        prop_assert_eq!(encoded[0], frame.frame_type().byte());
        prop_assert_eq!(Frame::decode(&encoded), Ok(frame));
    }

    #[test]
    fn wire_11_to_14_header_checks_come_in_order(
        kind in prop_oneof![prop::sample::select(vec![1u8, 2, 3, 4, 0x10, 0x11, 0x20]), any::<u8>()],
        declared in prop_oneof![0u32..20, 65_530u32..65_545, any::<u32>()],
        session in prop_oneof![Just(0), any::<u64>()],
        exact in any::<bool>(),
        rest in blob(0..20),
        cut in prop::option::of(0usize..14),
    ) {
        let mut message = vec![kind];
        message.extend(if exact { rest.len() as u32 } else { declared }.to_be_bytes());
        message.extend(session.to_be_bytes());
        message.extend(&rest);
        if let Some(cut) = cut {
            message.truncate(cut);
        }
        prop_assert_eq!(Header::parse(&message), header_as_the_spec_says(&message));
    }

    #[test]
    fn sbrp_decode_of_any_bytes_returns_or_refuses(bytes in damaged(sbrp_frame().prop_map(|frame| frame.encode()))) {
        match Frame::decode(&bytes) {
            // WIRE-08: an unknown reason reads as none. WIRE-06: invalid UTF-8 is replaced. Everything else is kept.
            Ok(Frame::Signal { signal, .. }) => prop_assert_eq!(signal as u8, bytes[13]),
            Ok(Frame::Control { message, .. }) => {
                prop_assert_eq!(message, String::from_utf8_lossy(&bytes[15..]));
            }
            Ok(frame) => prop_assert_eq!(frame.encode(), bytes),
            Err(DecodeError::Header(error)) => prop_assert_eq!(header_as_the_spec_says(&bytes), Err(error)),
            Err(DecodeError::Size { .. } | DecodeError::UnknownSignal { .. }) => {
                prop_assert!(header_as_the_spec_says(&bytes).is_ok());
            }
        }
    }

    /// WIRE-02: HandshakeInit is 32 bytes, HandshakeAccept 128, Signal 2, Data at least 28.
    #[test]
    fn wire_02_payload_sizes(kind in 1u8..5, length in prop_oneof![0usize..200, 28usize..34, 126usize..130], session in session()) {
        let frame_type = FrameType::from_byte(kind).unwrap();
        let mut message = Header { frame_type, length, session: session.get() }.encode().to_vec();
        message.resize(HEADER_LEN + length, 0);
        let fits = match frame_type {
            FrameType::HandshakeInit => length == 32,
            FrameType::HandshakeAccept => length == 128,
            FrameType::Data => length >= 28,
            _ => length == 2,
        };
        let refused = DecodeError::Size { frame_type, session: session.get(), length };
        match Frame::decode(&message.into()) {
            Ok(frame) => prop_assert!(fits && frame.frame_type() == frame_type),
            Err(error) => prop_assert!(!fits && error == refused, "{:?}", error),
        }
    }

    #[test]
    fn wire_06_any_bytes_in_a_control_message_read_as_text(code in any::<u16>(), text in blob(0..100)) {
        let mut message =
            Header { frame_type: FrameType::Control, length: 2 + text.len(), session: 0 }.encode().to_vec();
        message.extend(code.to_be_bytes());
        message.extend(&text);
        let Ok(Frame::Control { session: None, code: read, message }) = Frame::decode(&message.into()) else {
            return Err(TestCaseError::fail("a Control frame"));
        };
        prop_assert_eq!(read.map_or_else(|unknown| unknown.0, ControlCode::code), code);
        prop_assert_eq!(message, String::from_utf8_lossy(&text));
    }

    #[test]
    fn wire_08_signal_of_two_bytes_with_any_reason(session in session(), payload in blob(0..5)) {
        match decode_signal(session.get(), &payload) {
            Ok((signal, reason)) => {
                prop_assert_eq!(payload.len(), 2);
                prop_assert_eq!(signal as u8, payload[0]);
                prop_assert_eq!(reason as u8, if payload[1] < 5 { payload[1] } else { 0 });
            }
            Err(DecodeError::Size { length, .. }) => prop_assert!(length == payload.len() && length != 2),
            Err(DecodeError::UnknownSignal { signal, .. }) => prop_assert!(signal == payload[0] && signal > 1),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }
}

#[test]
fn wire_01_largest_payload_is_read_and_one_byte_more_is_not() {
    let largest = Frame::Data { session: id(1), payload: vec![7; MAX_PAYLOAD].into() };
    assert_eq!(Frame::decode(&largest.encode()), Ok(largest));
    let larger = Frame::Data { session: id(1), payload: vec![7; MAX_PAYLOAD + 1].into() };
    assert_eq!(Frame::decode(&larger.encode()), Err(HeaderError::TooLarge(65_537).into()));
}

#[test]
fn every_control_code_signal_reason_and_type_reads_back() {
    for number in 0..=u16::MAX {
        let in_table = ControlCode::ALL.iter().filter(|code| code.code() == number).count();
        assert_eq!(ControlCode::from_u16(number).map(ControlCode::code), (in_table == 1).then_some(number));
        assert!(in_table <= 1, "{number:#06x} twice");
    }
    for code in ControlCode::ALL {
        let written = control_message(*code, 5);
        let read = Frame::Control { session: Some(id(5)), code: Ok(*code), message: code.message().to_owned() };
        assert_eq!(Frame::decode(&written), Ok(read));
    }
    for byte in 0..=u8::MAX {
        assert_eq!(
            FrameType::from_byte(byte).map(FrameType::byte),
            FrameType::ALL.map(|t| t.byte()).contains(&byte).then_some(byte)
        );
        assert_eq!(Signal::from_byte(byte).map(|signal| signal as u8), (byte < 2).then_some(byte));
        assert_eq!(Reason::from_byte(byte) as u8, if byte < 5 { byte } else { 0 });
    }
}

/// WIRE-10: the codes that endpoints use among themselves are none of the wire's.
#[test]
fn wire_10_internal_codes_are_not_in_the_table() {
    for code in 0xE000..=0xE0FF {
        assert_eq!(ControlCode::from_u16(code), None);
    }
}

// ---- SBP ----

proptest! {
    #[test]
    fn sbp_frame_reads_back_as_it_was_written(frame in sbp_frame()) {
        prop_assert_eq!(sbp::Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn sbp_02_decode_of_any_bytes_returns_or_refuses(bytes in damaged(sbp_frame().prop_map(|frame| frame.encode()))) {
        match sbp::Frame::decode(&bytes) {
            Ok(frame) => prop_assert_eq!(frame.encode(), bytes, "there is one way to write a frame"),
            Err(broken) => {
                prop_assert_eq!(broken.id.is_some(), bytes.len() >= 18);
                if let Some(id) = broken.id {
                    prop_assert_eq!(&id.as_bytes()[..], &bytes[2..18]);
                    prop_assert_eq!(broken.fatal, bytes[1] & 0xFE != 0);
                }
                prop_assert_eq!(broken.answered, !matches!(bytes.first(), Some(2 | 3)));
            }
        }
    }

    #[test]
    fn sbp_04_subject_of_any_text_returns_or_refuses(text in prop_oneof![subject(), any::<String>(), "stream(/.*)?"]) {
        let streams = text == "stream" || text.starts_with("stream/");
        match Subject::parse(&text) {
            Ok(subject) => {
                prop_assert_eq!(subject.as_str(), &text);
                prop_assert!(text == "rpc" || text == "event" || text.starts_with("app/"));
                prop_assert!(text.len() <= 256 && !text.contains('\0'));
            }
            Err(error) => {
                let long_or_nul = text.len() > 256 || text.contains('\0');
                prop_assert_eq!(error.code().code(), if streams && !long_or_nul { 1003 } else { 1002 });
            }
        }
    }

    #[test]
    fn frame_id_and_session_id_read_back_as_text(frame_id in frame_id(), session in session()) {
        prop_assert_eq!(frame_id.to_string().parse(), Ok(frame_id));
        prop_assert_eq!(session.to_string().parse(), Ok(session));
        prop_assert_eq!(SessionId::from_claim(&session.to_claim()), Some(session));
    }

    #[test]
    fn introduction_reads_back_as_it_was_written(
        peer_id in ".+",
        caps in prop::option::of(prop::collection::vec(any::<String>(), 0..4)),
        metadata in prop::option::of(prop::collection::btree_map(any::<String>(), exact_json_value(), 0..3)),
    ) {
        let mut said = Introduction::new(peer_id);
        said.caps = caps;
        said.metadata = metadata.map(|members| members.into_iter().collect());
        prop_assert_eq!(Introduction::parse(&said.to_json()), Ok(said));
    }

    #[test]
    fn sbp_03_introduction_of_any_bytes_returns_or_refuses(bytes in damaged(
        Just(Bytes::from_static(br#"{"protocol":"sideband","version":"1","peerId":"p","caps":["rpc"],"metadata":{"a":1}}"#))
    )) {
        match Introduction::parse(&bytes) {
            Ok(said) => prop_assert!(!said.peer_id.is_empty()),
            Err(error) => prop_assert!(matches!(error.code().code(), 1001 | 1002)),
        }
    }

    #[test]
    fn sbp_03_introduction_with_members_of_any_type(
        protocol in prop_oneof![3 => Just(json!("sideband")), 1 => json_value()],
        version in prop_oneof![3 => Just(json!("1")), 1 => json_value()],
        peer_id in prop_oneof![3 => Just(json!("p")), 1 => Just(json!("")), 1 => json_value()],
        more in json_value(),
    ) {
        let said = json!({ "protocol": protocol, "version": version, "peerId": peer_id, "more": more });
        let other = |value: &Value, ours: &str| value.as_str().is_some_and(|theirs| theirs != ours);
        let expected = if other(&protocol, "sideband") || other(&version, "1") {
            Err(1001)
        } else if protocol.is_string() && version.is_string() && peer_id.as_str().is_some_and(|id| !id.is_empty()) {
            Ok(())
        } else {
            Err(1002)
        };
        let read = Introduction::parse(said.to_string().as_bytes());
        prop_assert_eq!(read.map(drop).map_err(|error| error.code().code()), expected);
    }

    #[test]
    fn sbp_03_introduction_that_is_no_object_is_malformed(value in json_value(), members in prop::collection::vec(json_value(), 0..6)) {
        let fitting = json!(["sideband", "1", "peer", ["rpc"], {}]);
        for json in [value, Value::Array(members), fitting] {
            if !json.is_object() {
                let refused = Introduction::parse(json.to_string().as_bytes()).map_err(|error| error.code().code());
                prop_assert_eq!(refused.map(drop), Err(1002));
            }
        }
    }
}

// ---- RPC and events ----

proptest! {
    #[test]
    fn envelope_reads_back_as_it_was_written(envelope in envelope()) {
        let encoded = envelope.encode();
        prop_assert!(serde_json::from_slice::<Value>(&encoded).is_ok(), "{:?} is no JSON", encoded);
        prop_assert_eq!(Envelope::parse(&encoded), Ok(envelope));
    }

    #[test]
    fn envelope_of_any_bytes_returns_or_refuses(bytes in damaged(envelope().prop_map(|envelope| envelope.encode()))) {
        let parsed = Envelope::parse(&bytes);
        if let Ok(envelope) = &parsed {
            prop_assert_eq!(&Envelope::parse(&envelope.encode()), &parsed);
        }
        // RPC-03, RPC-04: one of the answers that there are, and never both.
        let _ = (on_rpc(&bytes), on_event(&bytes));
    }

    /// RPC-03, RPC-04: what is answered follows from `t` and a readable `cid` alone, unless the envelope is whole.
    #[test]
    fn rpc_03_members_of_any_type(object in envelope_like()) {
        let data = Bytes::from(object.to_string());
        let kind = object.get("t").and_then(Value::as_str);
        let cid = object.get("cid").and_then(Value::as_str).and_then(|text| text.parse::<FrameId>().ok());
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        match on_rpc(&data) {
            OnRpc::Request { method, cid: read, params } => {
                prop_assert_eq!((kind, text("m"), cid), (Some("r"), Some(method.as_str()), Some(read)));
                let sent = object.get("p").cloned();
                prop_assert_eq!(params.map(|json| serde_json::from_slice::<Value>(&json).unwrap()), sent);
            }
            OnRpc::Answer { cid: read, outcome: Ok(_) } => prop_assert_eq!((kind, cid), (Some("R"), Some(read))),
            OnRpc::Answer { cid: read, outcome: Err((code, message, _)) } => {
                prop_assert_eq!((kind, cid, text("message")), (Some("E"), Some(read), Some(message.as_str())));
                prop_assert_eq!(object.get("code").and_then(Value::as_i64), Some(code));
            }
            OnRpc::Refuse { cid: read, .. } => prop_assert!(kind != Some("N") && cid == Some(read)),
            OnRpc::RefuseFrame { .. } => prop_assert!(kind != Some("N") && cid.is_none()),
            OnRpc::Drop => prop_assert_eq!(kind, Some("N")),
        }
        match on_event(&data) {
            OnEvent::Deliver { name, .. } => prop_assert_eq!((kind, text("e")), (Some("N"), Some(name.as_str()))),
            OnEvent::Drop => {
                let named = text("e").is_some_and(|name| EventName::new(name).is_ok());
                prop_assert!(kind != Some("N") || !named);
            }
        }
    }

    #[test]
    fn evt_01_name_and_pattern_of_any_text_return_or_refuse(text in prop_oneof!["[A-Za-z0-9_.*>-]{0,20}", any::<String>()]) {
        let is_segment = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        let segments: Vec<&str> = text.split('.').collect();
        let name = text.len() <= 255 && segments.iter().all(|s| is_segment(s));
        let last = segments.len() - 1;
        let pattern = text.len() <= 255
            && segments.iter().enumerate().all(|(i, s)| is_segment(s) || *s == "*" || (*s == ">" && i == last));
        prop_assert_eq!(EventName::new(&*text).is_ok(), name);
        prop_assert_eq!(EventPattern::new(&*text).is_ok(), pattern);
    }

    #[test]
    fn evt_01_star_is_one_segment_and_the_rest_is_one_or_more(
        name in prop::collection::vec("[a-c]{1,2}", 1..5),
        stars in prop::collection::vec(any::<bool>(), 5),
        rest in 0usize..6,
    ) {
        let event = EventName::new(name.join(".")).unwrap();
        let mut segments: Vec<&str> =
            name.iter().zip(&stars).map(|(segment, star)| if *star { "*" } else { segment.as_str() }).collect();
        let pattern = |segments: &[&str]| EventPattern::new(segments.join(".")).unwrap();
        prop_assert!(pattern(&segments).matches(&event));
        let mut longer = segments.clone();
        longer.push("*");
        prop_assert!(!pattern(&longer).matches(&event), "one segment too many");
        longer.pop();
        longer.push(">");
        prop_assert!(!pattern(&longer).matches(&event), "`>` stands for at least one");
        segments.truncate(rest.min(name.len() - 1));
        segments.push(">");
        prop_assert!(pattern(&segments).matches(&event));
        segments.pop();
        if !segments.is_empty() {
            prop_assert!(!pattern(&segments).matches(&event), "one segment too few");
        }
    }
}

// ---- keys and tokens ----

fn policy() -> Policy {
    Policy { issuer: "https://api.test".into(), region: Some("eu-1".into()), now: 1_000 }
}

/// A token with these claims under a good header, signed by [`signer`].
fn signed(claims: &Value) -> String {
    let header = json!({ "alg": "EdDSA", "typ": "sbrp-relay+jwt", "kid": "k-1" });
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let text = format!("{}.{}", part(&header), part(claims));
    let signature = SigningKey::from_bytes(&[7; 32]).sign(text.as_bytes());
    format!("{text}.{}", BASE64URL_NOPAD.encode(&signature.to_bytes()))
}

fn key_set() -> KeySet {
    KeySet::from_keys([Signer::from_seed("k-1", &[7; 32]).public()])
}

/// Good claims of a client, some of them replaced or left out.
fn claims() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 13] =
        ["aud", "iss", "iat", "exp", "ver", "role", "did", "sub", "sid", "region", "scp", "lim", "jti"];
    let value = prop_oneof![
        json_value(),
        prop::sample::select(vec![json!("daemon"), json!(["session:resume"]), json!({ "concurrent_sessions": 3 })]),
    ];
    prop::collection::vec((prop::sample::select(&NAMES[..]), prop::option::of(value)), 0..3).prop_map(|changes| {
        let mut claims = json!({
            "iss": "https://api.test", "aud": "sideband-relay", "iat": 990, "exp": 1_110, "ver": 1, "role": "client",
            "sub": "u", "did": "d_1", "sid": "AAAAAAAAAAE", "scp": ["session:create"], "region": "eu-1",
        });
        for (name, value) in changes {
            let members = claims.as_object_mut().unwrap();
            match value {
                Some(value) => drop(members.insert(name.to_owned(), value)),
                None => drop(members.remove(name)),
            }
        }
        claims
    })
}

proptest! {
    #[test]
    fn token_of_any_text_is_refused_and_peeked_at(text in prop_oneof![
        any::<String>(),
        "[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,20}",
        (json_value(), json_value(), blob(0..70)).prop_map(|(header, claims, signature)| {
            let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
            format!("{}.{}.{}", part(&header), part(&claims), BASE64URL_NOPAD.encode(&signature))
        }),
    ]) {
        prop_assert!(check(Some(&text), &key_set(), &policy()).is_err());
        prop_assert!(peek(&text).is_none_or(|seen| !seen.daemon_id.is_empty()));
    }

    #[test]
    fn tok_04_to_11_signed_claims_of_any_type(claims in claims()) {
        let token = signed(&claims);
        let checked = check(Some(&token), &key_set(), &policy());
        let seen = peek(&token);
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        match checked {
            Ok(grant) => {
                prop_assert_eq!(Some(grant.daemon_id.as_str()), text("did"));
                prop_assert_eq!(seen.map(|seen| seen.daemon_id), Some(grant.daemon_id));
                match grant.role {
                    GrantRole::Client { session, .. } => {
                        prop_assert_eq!(text("role"), Some("client"));
                        prop_assert_eq!(text("sid").and_then(SessionId::from_claim), Some(session));
                    }
                    GrantRole::Daemon { .. } => prop_assert_eq!(text("role"), Some("daemon")),
                }
            }
            Err(refusal) => {
                let later = matches!(refusal.rule(), "TOK-01" | "TOK-02" | "TOK-03");
                // A token of over 4,096 bytes is the one thing before the claims that can be wrong here.
                prop_assert!(!later || token.len() > 4_096, "{:?}", refusal);
            }
        }
    }

    #[test]
    fn tok_03_one_changed_character_is_refused(at in any::<prop::sample::Index>(), to in prop::sample::select(b"ABab01-_".to_vec())) {
        let token = Signer::from_seed("k-1", &[7; 32]).sign(&Claims::daemon("https://api.test", "d_1", "t", 1_000, true));
        prop_assert!(check(Some(&token), &key_set(), &policy()).is_ok());
        let mut changed = token.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] = to;
        let changed = String::from_utf8(changed).unwrap();
        prop_assume!(changed != token);
        prop_assert!(check(Some(&changed), &key_set(), &policy()).is_err(), "{}", changed);
    }

    #[test]
    fn key_set_of_any_bytes_returns_or_refuses(bytes in damaged(
        Just(serde_json::to_vec(&key_set()).unwrap().into())
    )) {
        if let Ok(set) = KeySet::parse(&bytes) {
            let token = signed(&json!({}));
            prop_assert_ne!(check(Some(&token), &set, &policy()).err(), None);
        }
    }

    #[test]
    fn accept_of_any_bytes_returns_or_refuses(bytes in prop_oneof![blob(128), blob(0..300)]) {
        match Accept::parse(&bytes) {
            Ok(accept) => prop_assert_eq!(&accept.to_payload()[..], &bytes[..]),
            Err(error) => {
                prop_assert_ne!(bytes.len(), 128);
                prop_assert_eq!(error, HandshakeError::Size(bytes.len()));
            }
        }
    }

    /// CRY-13.
    #[test]
    fn cry_13_fingerprint_and_identity_key_read_back_as_text(key in any::<[u8; 32]>(), text in any::<String>()) {
        let key = IdentityKey::from_bytes(key);
        let shown = key.fingerprint().to_string();
        prop_assert_eq!(shown.len(), 7 + 32 * 3 - 1);
        prop_assert_eq!(shown.parse(), Ok(key.fingerprint()));
        prop_assert!(shown.to_lowercase().parse::<sideband_protocol::crypto::Fingerprint>().is_err());
        prop_assert_eq!(IdentityKey::from_base64url(&key.to_base64url()), Some(key));
        let _ = (text.parse::<sideband_protocol::crypto::Fingerprint>(), IdentityKey::from_base64url(&text));
    }
}

#[test]
fn tok_01_no_token_and_an_empty_one_are_missing() {
    for token in [None, Some("")] {
        assert_eq!(check(token, &key_set(), &policy()), Err(Refusal::Missing));
    }
}

#[test]
fn identity_reads_back_from_its_seed_and_shows_no_secret() {
    let identity = Identity::generate(&mut Seeded(1));
    let again = Identity::from_seed(&identity.to_seed());
    assert_eq!(identity.public(), again.public());
    assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.public().fingerprint()));
}
