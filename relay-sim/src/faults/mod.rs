//! What the fault plan does at the relay.
//!
//! | module | when |
//! |---|---|
//! | `upgrade` | a request for a WebSocket has come, and its token is not judged yet |
//! | `frame` | a frame came in, or leaves the machine |
//! | `connection` | a WebSocket has opened, or is as old as a rule asks |
//!
//! What ends a connection goes through [`Turn::end_by_fault`], so that the machine knows of it as of any other end.

mod connection;
mod frame;
mod upgrade;

use bytes::Bytes;
use sideband_protocol::{
    SessionId,
    relay::ConnId,
    wire::{ControlCode, Frame, Scope, UnknownControlCode, control_message},
};
use sideband_sim_kit::{
    event::{Direction, EventKind},
    fault::{Closing, Control},
};

pub(crate) use connection::{Command, Watching};
pub(crate) use frame::Inward;
pub(crate) use upgrade::{answer, faults_of_upgrade};

use crate::{hub::Turn, outbox::End};

/// How a fault ends a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FaultEnd {
    /// As it is.
    Cut,
    /// With a close frame.
    Close(Closing),
    /// With a terminal Control and the close that follows it (WIRE-09).
    Control(Control, Option<SessionId>),
    /// Not at all, for all that is known here (REL-11).
    Ghost,
}

impl Turn<'_> {
    /// Ends a connection. Its machine takes that as the socket's end.
    pub(crate) fn end_by_fault(&mut self, conn: ConnId, end: FaultEnd) {
        let Some(outbox) = self.state.outboxes.get(&conn).cloned() else { return };
        match end {
            FaultEnd::Ghost => {
                outbox.haunt();
                self.wake.push(outbox);
                return;
            }
            FaultEnd::Cut => self.end(conn, End::Cut),
            FaultEnd::Close(Closing { code, reason }) => {
                outbox.end_with(code, reason);
                self.end(conn, End::Close(code));
            }
            FaultEnd::Control(control, session) => {
                self.tell_by_fault(conn, control, session);
                // What no table has closes nothing (WIRE-09): the endpoint does (WIRE-05).
                match ControlCode::from_u16(control.code) {
                    Some(code) => self.end(conn, End::Close(code.close_code())),
                    None => return,
                }
            }
        }
        self.state.machine.handle_closed(conn, self.now);
    }

    /// Sends a Control that the machine knows nothing of. One that finds no room is lost, as its connection is then.
    pub(crate) fn tell_by_fault(&mut self, conn: ConnId, control: Control, session: Option<SessionId>) {
        let Some(outbox) = self.state.outboxes.get(&conn).cloned() else { return };
        let (message, session) = control_frame(control, session);
        if outbox.push(message.clone(), None, true).is_ok() {
            self.told(conn, &message, control, session);
            self.wake.push(outbox);
        }
    }

    /// A Control goes out that the machine knows nothing of.
    fn told(&mut self, conn: ConnId, message: &[u8], control: Control, session: Option<SessionId>) {
        self.frame(conn, Direction::Out, message);
        let code = ControlCode::from_u16(control.code);
        self.state.observer.control(self.at, conn.0, session, code);
        let code = code.map_or_else(|| format!("0x{:04x}", control.code), |code| code.name().to_owned());
        self.emit(session, EventKind::Control { connection: conn.0, code });
    }
}

/// The frame, and the session that its header names: none for a code that is about the connection.
fn control_frame(control: Control, session: Option<SessionId>) -> (Bytes, Option<SessionId>) {
    match ControlCode::from_u16(control.code) {
        Some(code) => {
            let session = session.filter(|_| code.scope() == Scope::Session);
            (control_message(code, session.map_or(0, SessionId::get)), session)
        }
        None => {
            let message = "a code by fault".to_owned();
            (Frame::Control { session, code: Err(UnknownControlCode(control.code)), message }.encode(), session)
        }
    }
}
