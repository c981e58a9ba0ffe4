//! What is fuzzed: each function takes any bytes, and panics if a reader does or contradicts itself.
//!
//! The fuzz targets call them with what libFuzzer makes up, and a test of the workspace with the corpus.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use sideband_protocol::{
    api::{
        CreateQuickConnect, CreateSession, Input, ListAccessible, RedeemQuickConnect, RegisterDaemon, RenewToken,
        Request, decode_answer, decode_body, retry_after,
    },
    rpc::{self, Envelope},
    sbp::{self, Introduction, Subject},
    token::{Claims, KeySet, Policy, Refusal, Signer, check, peek},
    wire::{Frame, Header, decode_signal},
};
use sideband_sim_kit::{
    admin::{
        RestartRelay, RotateKeys,
        accounts::{DaemonSettings, NewDaemon, NewUser, UserChange},
    },
    event::Event,
    fault::{FaultPlan, FaultRule, Format},
    limits::{RelayLimits, RelayLimitsPatch},
    observer::Observer,
};

/// The targets by name, which are the folders of the corpus, too.
pub const TARGETS: [(&str, fn(&[u8])); 10] = [
    ("frame", frame),
    ("signal", signal),
    ("token", token),
    ("api_body", api_body),
    ("fault_plan", fault_plan),
    ("admin_body", admin_body),
    ("limits", limits),
    ("event", event),
    ("sbp", sbp),
    ("rpc", rpc),
];

/// A message of the relay's socket: the header, and the frame.
pub fn frame(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    let header = Header::parse(&message);
    let frame = Frame::decode(&message);
    match &header {
        Ok(header) => assert_eq!(header.encode(), message[..header.encode().len()]),
        Err(_) => assert!(frame.is_err(), "a frame without a header"),
    }
    if let Ok(frame) = frame {
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }
}

/// A Signal's payload.
pub fn signal(data: &[u8]) {
    let Ok((signal, reason)) = decode_signal(1, data) else { return };
    assert_eq!(data.len(), 2);
    assert_eq!(decode_signal(1, &[signal as u8, reason as u8]), Ok((signal, reason)));
}

/// A token: as it comes, and as claims that are signed; and a key set.
pub fn token(data: &[u8]) {
    let signer = Signer::from_seed("k", &[7; 32]);
    let keys = KeySet::from_keys([signer.public()]);
    let policy = Policy { issuer: "https://a".to_owned(), region: Some("eu".to_owned()), now: 1_700_000_000 };
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = peek(text);
        // Whoever has no key gets in with nothing.
        let strangers = KeySet::from_keys([Signer::from_seed("k", &[8; 32]).public()]);
        assert!(check(Some(text), &strangers, &policy).is_err());
        let _ = check(Some(text), &keys, &policy);
    }
    if let Ok(claims) = serde_json::from_slice(data) {
        let header = serde_json::json!({ "alg": "EdDSA", "typ": "sbrp-relay+jwt", "kid": "k" });
        let signed = signer.sign_json(&header, &claims);
        let verdict = check(Some(&signed), &keys, &policy);
        assert_ne!(verdict, Err(Refusal::Signature));
        assert_eq!(check(Some(&signed), &keys, &policy), verdict);
    }
    if let Ok(set) = KeySet::parse(data) {
        let client = Claims::daemon("https://a", "d", "j", policy.now, true);
        let _ = check(Some(&signer.sign(&client)), &set, &policy);
    }
}

/// A body of the API, as a request and as an answer; and a Retry-After.
pub fn api_body(data: &[u8]) {
    if let Ok(input) = decode_body(data) {
        let _ = CreateSession::from_value(&input);
        let _ = RenewToken::from_value(&input);
        let _ = ListAccessible::from_value(&input);
        let _ = RedeemQuickConnect::from_value(&input);
        let _ = RegisterDaemon::from_value(&input);
        if let Ok(create) = CreateQuickConnect::from_value(&input) {
            assert!((30..=3_600).contains(&create.ttl()));
        }
    }
    let text = std::str::from_utf8(data).ok();
    for status in [200, 401, 429, 503] {
        answer::<CreateSession>(status, text, data);
        answer::<RenewToken>(status, text, data);
        answer::<ListAccessible>(status, text, data);
        answer::<RedeemQuickConnect>(status, text, data);
        answer::<RegisterDaemon>(status, text, data);
        answer::<CreateQuickConnect>(status, text, data);
    }
    let _ = text.map(|text| retry_after(text, 1_700_000_000));
}

fn answer<R: Request>(status: u16, retry_after: Option<&str>, body: &[u8]) {
    let answer = decode_answer::<R>(status, retry_after, body, 1_700_000_000);
    assert!(answer.is_err() || status == 200, "a refusal is taken for an answer");
}

/// A fault plan in both languages, and one rule.
pub fn fault_plan(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for format in [Format::Toml, Format::Json] {
        let _ = FaultRule::parse(text, format);
        match FaultPlan::parse(text, format) {
            Ok(plan) => {
                assert_eq!(FaultPlan::parse(&plan.to_toml(), Format::Toml).as_ref(), Ok(&plan), "{}", plan.to_toml());
                assert_eq!(FaultPlan::parse(&plan.to_json(), Format::Json).as_ref(), Ok(&plan), "{}", plan.to_json());
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// What the admin API takes.
pub fn admin_body(data: &[u8]) {
    body::<NewUser>(data);
    body::<NewDaemon>(data);
    body::<DaemonSettings>(data);
    body::<UserChange>(data);
    body::<RotateKeys>(data);
    body::<RestartRelay>(data);
    body::<FaultRule>(data);
}

/// A file of a relay's limits, and a change of them.
pub fn limits(data: &[u8]) {
    let file = std::str::from_utf8(data).ok().and_then(|text| RelayLimits::parse_toml(text).ok());
    if let Some(limits) = file {
        assert_eq!(limits.check(), Ok(()));
        again(&limits);
    }
    if let Ok(patch) = RelayLimitsPatch::parse_json(data) {
        again(&patch);
        if let Ok(limits) = file.unwrap_or_default().patched(&patch) {
            assert_eq!(limits.check(), Ok(()));
            assert_eq!(limits.patched(&patch), Ok(limits));
            again(&limits);
        }
    }
}

/// A trace, one event a line; and who judges it, whatever order it has.
pub fn event(data: &[u8]) {
    let mut observer = Observer::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(event) = serde_json::from_slice::<Event>(line) else { continue };
        again(&event);
        for found in observer.observe(&event) {
            assert!(!found.mark.evidence.is_empty() && found.mark.times > 0, "{found:?}");
        }
        observer.tick(event.at);
    }
}

fn body<T: DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug>(data: &[u8]) {
    if let Ok(body) = serde_json::from_slice::<T>(data) {
        again(&body);
    }
}

/// What is written is read as the same.
fn again<T: DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).as_ref().ok(), Some(value), "{text}");
}

/// What is in a Data frame once it is opened.
pub fn sbp(data: &[u8]) {
    if let Ok(frame) = sbp::Frame::decode(&Bytes::copy_from_slice(data)) {
        assert_eq!(sbp::Frame::decode(&frame.encode()).ok(), Some(frame));
    }
    let _ = Introduction::parse(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(subject) = Subject::parse(text)
    {
        assert_eq!(subject.as_str(), text);
    }
}

/// A call, its answer or an event.
pub fn rpc(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    if let Ok(envelope) = Envelope::parse(&data) {
        assert_eq!(Envelope::parse(&envelope.encode()).ok(), Some(envelope));
    }
    let _ = rpc::on_rpc(&data);
    let _ = rpc::on_event(&data);
}
