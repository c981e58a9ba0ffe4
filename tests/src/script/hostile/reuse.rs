//! Ways to end a session whose id the relay then gives to another client.

use bytes::Bytes;
use sideband_protocol::{
    sbp::FrameBody,
    wire::{ControlCode, Frame},
};

use super::{Aim, Throw, Throws};

/// What ends a session at a daemon.
pub struct Ending {
    /// What it is, for people.
    pub name: &'static str,
    /// Whether the daemon ends it by itself, and so tells the relay.
    pub signals: bool,
    throws: Throws,
}

impl Ending {
    fn new(name: &'static str, signals: bool, throw: impl Fn(&mut Aim<'_>) -> Frame + Send + Sync + 'static) -> Self {
        Self { name, signals, throws: Box::new(move |aim| vec![throw(aim).into()]) }
    }

    /// What is sent.
    pub fn throws(&self, aim: &mut Aim<'_>) -> Vec<Throw> {
        (self.throws)(aim)
    }
}

/// By the relay's word, by the client's, and by what neither may send.
pub fn endings() -> Vec<Ending> {
    let control = |code| {
        move |aim: &mut Aim<'_>| Frame::Control { session: Some(aim.session), code: Ok(code), message: String::new() }
    };
    vec![
        Ending::new("session_ended", false, control(ControlCode::SessionEnded)),
        Ending::new("session_not_found", false, control(ControlCode::SessionNotFound)),
        Ending::new("an SBP Close", true, |aim| aim.line.seal_body(FrameBody::Close { reason: String::new() })),
        Ending::new("forged Data", true, |aim| Frame::Data {
            session: aim.session,
            payload: Bytes::from_static(&[0; 64]),
        }),
        Ending::new("a second HandshakeInit", true, |aim| Frame::HandshakeInit {
            session: aim.session,
            client_ephemeral: [9; 32],
        }),
    ]
}
