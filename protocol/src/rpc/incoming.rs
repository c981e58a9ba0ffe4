//! What a receiver does with a Message on `rpc` and on `event`: RPC-03 and RPC-04.

use bytes::Bytes;

use super::{Envelope, EnvelopeError};
use crate::{event::EventName, sbp::FrameId};

/// What to do with a Message on `rpc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnRpc {
    /// A call; E 1101 if nobody handles the method.
    Request {
        /// The method.
        method: String,
        /// JSON text.
        params: Option<Bytes>,
        /// To be copied into the answer.
        cid: FrameId,
    },
    /// An answer to a call of ours; dropped if there is none with this id (RPC-01).
    Answer {
        /// The call.
        cid: FrameId,
        /// The result's JSON text, or code, message and data.
        outcome: Result<Option<Bytes>, (i64, String, Option<Bytes>)>,
    },
    /// Answer E 1100 with this `cid`.
    Refuse {
        /// The broken envelope's.
        cid: FrameId,
        /// What is wrong.
        reason: &'static str,
    },
    /// Answer an Error frame 1002 with the Message's frame id.
    RefuseFrame {
        /// What is wrong.
        reason: &'static str,
    },
    /// Drop it (RPC-04).
    Drop,
}

/// What to do with a Message on `event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnEvent {
    /// Give it to every matching subscription.
    Deliver {
        /// The name.
        name: EventName,
        /// JSON text.
        data: Option<Bytes>,
    },
    /// Drop it: broken, not an event, or a bad name (RPC-03, RPC-04).
    Drop,
}

/// Reads a Message on `rpc`.
pub fn on_rpc(data: &Bytes) -> OnRpc {
    match Envelope::parse(data) {
        Ok(Envelope::Request { method, params, cid }) => OnRpc::Request { method, params, cid },
        Ok(Envelope::Result { cid, result }) => OnRpc::Answer { cid, outcome: Ok(result) },
        Ok(Envelope::Error { cid, code, message, data }) => OnRpc::Answer { cid, outcome: Err((code, message, data)) },
        Ok(Envelope::Event { .. }) | Err(EnvelopeError { is_event: true, .. }) => OnRpc::Drop,
        Err(EnvelopeError { cid: Some(cid), reason, .. }) => OnRpc::Refuse { cid, reason },
        Err(EnvelopeError { cid: None, reason, .. }) => OnRpc::RefuseFrame { reason },
    }
}

/// Reads a Message on `event`.
pub fn on_event(data: &Bytes) -> OnEvent {
    match Envelope::parse(data) {
        Ok(Envelope::Event { name, data }) => match EventName::new(name) {
            Ok(name) => OnEvent::Deliver { name, data },
            Err(_) => OnEvent::Drop,
        },
        Ok(Envelope::Request { .. } | Envelope::Result { .. } | Envelope::Error { .. }) | Err(_) => OnEvent::Drop,
    }
}
