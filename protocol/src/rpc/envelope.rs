//! The four envelopes.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::sbp::FrameId;

/// One envelope. `params`, `result` and `data` are JSON text; `None` means that the member is absent, which is not `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope {
    /// `t: "r"`: a call.
    Request {
        /// The method's name.
        method: String,
        /// JSON text.
        params: Option<Bytes>,
        /// The request's frame id.
        cid: FrameId,
    },
    /// `t: "R"`: an answer.
    Result {
        /// The request's frame id.
        cid: FrameId,
        /// JSON text.
        result: Option<Bytes>,
    },
    /// `t: "E"`: a failure.
    Error {
        /// The request's frame id.
        cid: FrameId,
        /// See [`code`](super::code).
        code: i64,
        /// Words for people.
        message: String,
        /// JSON text.
        data: Option<Bytes>,
    },
    /// `t: "N"`: an event.
    Event {
        /// The event's name.
        name: String,
        /// JSON text.
        data: Option<Bytes>,
    },
}

/// An envelope that is broken, with its `cid` if that can be read (RPC-03).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broken envelope: {reason}")]
pub struct EnvelopeError {
    /// The readable `cid`.
    pub cid: Option<FrameId>,
    /// Whether it calls itself an event, which nobody answers.
    pub is_event: bool,
    /// What is wrong.
    pub reason: &'static str,
}

/// A member that is there, `null` included.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(d: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}

/// Every member that some envelope has, unread. Unknown ones are ignored.
#[derive(Deserialize)]
struct Loose<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    t: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    cid: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    m: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    p: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    code: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    message: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    e: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    d: Option<&'a RawValue>,
}

fn text(raw: Option<&RawValue>) -> Option<String> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw?.get()).ok().map(|t| t.0.into_owned())
}

impl Envelope {
    /// Reads a Message's data; JSON members stay slices of it.
    ///
    /// # Errors
    /// Not JSON, not an object, or a member missing or of the wrong type.
    pub fn parse(data: &Bytes) -> Result<Self, EnvelopeError> {
        let broken = |cid, is_event, reason| EnvelopeError { cid, is_event, reason };
        // A derived struct would read a list as its members in order; an envelope is an object.
        if data.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Err(broken(None, false, "not a JSON object"));
        }
        let loose: Loose<'_> = serde_json::from_slice(data).map_err(|_| broken(None, false, "not a JSON object"))?;
        let slice = |raw: Option<&RawValue>| raw.map(|raw| data.slice_ref(raw.get().as_bytes()));
        let cid = text(loose.cid).and_then(|text| text.parse::<FrameId>().ok());
        let kind = text(loose.t);
        let is_event = kind.as_deref() == Some("N");
        let fail = |reason| broken(cid, is_event, reason);
        let need_cid = || cid.ok_or(fail("no cid of 32 lower-case hex digits"));
        match kind.as_deref() {
            Some("r") => Ok(Self::Request {
                cid: need_cid()?,
                method: text(loose.m).ok_or(fail("a request without a method"))?,
                params: slice(loose.p),
            }),
            Some("R") => Ok(Self::Result { cid: need_cid()?, result: slice(loose.result) }),
            Some("E") => Ok(Self::Error {
                cid: need_cid()?,
                code: loose
                    .code
                    .and_then(|raw| serde_json::from_str(raw.get()).ok())
                    .ok_or(fail("an error without a whole number as code"))?,
                message: text(loose.message).ok_or(fail("an error without a message"))?,
                data: slice(loose.data),
            }),
            Some("N") => {
                Ok(Self::Event { name: text(loose.e).ok_or(fail("an event without a name"))?, data: slice(loose.d) })
            }
            Some(_) | None => Err(fail("no known t")),
        }
    }

    /// Appends the envelope's JSON.
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Request { method, params, cid } => {
                out.put_slice(br#"{"t":"r","m":"#);
                put_text(out, method);
                put_member(out, "p", params.as_ref());
                put_cid(out, cid);
            }
            Self::Result { cid, result } => {
                out.put_slice(br#"{"t":"R""#);
                put_cid(out, cid);
                put_member(out, "result", result.as_ref());
            }
            Self::Error { cid, code, message, data } => {
                out.put_slice(br#"{"t":"E""#);
                put_cid(out, cid);
                out.put_slice(format!(r#","code":{code},"message":"#).as_bytes());
                put_text(out, message);
                put_member(out, "data", data.as_ref());
            }
            Self::Event { name, data } => {
                out.put_slice(br#"{"t":"N","e":"#);
                put_text(out, name);
                put_member(out, "d", data.as_ref());
            }
        }
        out.put_u8(b'}');
    }

    /// The envelope's JSON.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.write(&mut out);
        out.freeze()
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    // A string always serialises.
    out.put_slice(serde_json::to_string(text).unwrap_or_default().as_bytes());
}

fn put_member(out: &mut BytesMut, name: &str, json: Option<&Bytes>) {
    if let Some(json) = json {
        out.put_slice(b",\"");
        out.put_slice(name.as_bytes());
        out.put_slice(b"\":");
        out.put_slice(json);
    }
}

fn put_cid(out: &mut BytesMut, cid: &FrameId) {
    out.put_slice(format!(r#","cid":"{cid}""#).as_bytes());
}
