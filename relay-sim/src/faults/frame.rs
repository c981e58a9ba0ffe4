//! Faults of frames, those that come in and those that go out.
//!
//! What comes in has been seen and judged as it came when it gets here; then it goes through its connection's lane to the machine. What goes
//! out has left the machine, which believes that it was sent; what it becomes goes into the outbox, and is what events tell.

use std::sync::Arc;

use bytes::Bytes;
use sideband_protocol::{
    Instant, SessionId,
    relay::{ConnId, Watched},
    wire::{FrameType, HEADER_LEN},
};
use sideband_sim_kit::{
    event::{Direction, Role},
    fault::{Control, Fired, Forged, Forgery, FrameAction, FramePoint, Place},
    observer::FrameSeen,
};

use super::FaultEnd;
use crate::{
    hub::Turn,
    lane::{Next, Wait},
    outbox::{Outbox, Place as Spot},
};

/// The golden ratio of 64 bits, which spreads what is drawn.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bytes of a forged Data behind its nonce: a tag and some text.
const FORGED_LEN: usize = 48;
/// The sequence of the first forged Data.
const FORGED_SEQUENCE: u64 = 1 << 40;

/// What is on its way to the machine.
#[derive(Debug)]
pub(crate) enum Inward {
    Frame(Bytes),
    /// Its sender is told this.
    Tell(Control, Option<SessionId>),
    /// Its sender's connection ends so.
    End(FaultEnd),
}

/// What becomes of a frame.
struct Treated {
    message: Bytes,
    session: Option<SessionId>,
    /// After what it goes.
    wait: Option<Wait>,
    /// How many of it; none if it is lost.
    copies: usize,
    /// How many others pass first.
    behind: u32,
    /// What is told before it.
    before: Vec<Control>,
    /// What goes before it, although nobody sent it.
    forged: Vec<Bytes>,
    end: Option<FaultEnd>,
    /// Its receiver gets it as it was, and in its turn.
    whole: bool,
}

impl Turn<'_> {
    /// A frame that came and was seen goes to the machine, as faults have it.
    pub(crate) fn take_in(&mut self, conn: ConnId, outbox: &Arc<Outbox>, message: Bytes) {
        let faulty = self.hub.common.faults.any_at(Place::RelayFrame);
        if !faulty && self.state.lanes.is_empty() {
            self.state.machine.handle_message(conn, message, self.now);
            // At once, so that a receiver which is full never gets more than the frames before.
            self.carry_out();
            return;
        }
        if outbox.is_ghost() || outbox.ending().is_some() {
            // A frame before it has ended the connection.
            return;
        }
        let Treated { message, session, wait, copies, behind, before, forged, end, whole: _ } =
            self.treat(outbox, Direction::In, message);
        let lane = self.state.lanes.entry(conn).or_default();
        for frame in forged {
            lane.push_beside(Inward::Frame(frame), None);
        }
        for control in before {
            lane.push_beside(Inward::Tell(control, session), None);
        }
        if let Some(end) = end {
            lane.push_beside(Inward::End(end), wait);
        } else if behind > 0 {
            (0..copies).for_each(|_| lane.hold(behind, Inward::Frame(message.clone())));
        } else if let Some(more) = copies.checked_sub(1) {
            (0..more).for_each(|_| lane.push_beside(Inward::Frame(message.clone()), wait.clone()));
            lane.push(Inward::Frame(message), wait);
        }
        self.release(conn, Some(self.now));
    }

    /// Lets what has waited long enough go to the machine; all of it, if `now` is none. Returns when to come again.
    pub(crate) fn release(&mut self, conn: ConnId, now: Option<Instant>) -> Option<Instant> {
        loop {
            let lane = self.state.lanes.get_mut(&conn)?;
            if now.is_none() {
                lane.let_all_pass();
            }
            match lane.pop(now, &self.hub.common.faults) {
                Next::Item(Inward::Frame(message)) => self.state.machine.handle_message(conn, message, self.now),
                Next::Item(Inward::Tell(control, session)) => self.tell_by_fault(conn, control, session),
                Next::Item(Inward::End(end)) => {
                    self.state.lanes.remove(&conn);
                    self.end_by_fault(conn, end);
                }
                Next::Later(at) => return Some(at),
                Next::Nothing => {
                    if lane.is_empty() {
                        self.state.lanes.remove(&conn);
                    }
                    return None;
                }
            }
            self.carry_out();
        }
    }

    /// Sends a message as faults have it.
    pub(crate) fn send_faulty(
        &mut self,
        to: ConnId,
        outbox: &Arc<Outbox>,
        message: Bytes,
        of: Option<&Arc<Outbox>>,
        own: bool,
    ) {
        let Treated { message, session, wait, copies, behind, before, forged, end, whole } =
            self.treat(outbox, Direction::Out, message);
        if !whole {
            // If it is a Control, nobody can be held to what it says.
            self.unheard = Some(to);
        }
        for frame in forged {
            if !self.queue(to, outbox, frame, of, own, Spot::Beside(None)) {
                return;
            }
        }
        for control in before {
            self.tell_by_fault(to, control, session);
        }
        if let Some(end) = end {
            if outbox.push_end(end, wait) {
                self.wake.push(outbox.clone());
            }
            return;
        }
        for copy in 0..copies {
            let spot = match (behind, copy) {
                (0, 0) => Spot::Next(wait.clone()),
                (0, _) => Spot::Beside(wait.clone()),
                (behind, _) => Spot::Behind(behind),
            };
            if !self.queue(to, outbox, message.clone(), of, own, spot) {
                return;
            }
        }
    }

    /// Asks the plan what becomes of a frame.
    fn treat(&mut self, outbox: &Outbox, direction: Direction, message: Bytes) -> Treated {
        let seen = FrameSeen::read(&message);
        let session = seen.session;
        let role = match outbox.whose() {
            Watched::Client => Role::Client,
            Watched::Daemon => Role::Daemon,
        };
        let age = outbox.opened().map_or_else(Default::default, |opened| self.now - opened);
        let (daemon, user) = (self.hub.daemon_id.as_str(), outbox.user());
        let point = FramePoint { role, direction, frame: seen.frame_type, daemon, user, session, age };
        let fired = self.hub.common.faults.relay_frame(&point);
        // The direction that a Data's nonce names.
        let nonce = if (role == Role::Client) == (direction == Direction::In) { 1 } else { 2 };
        let mut treated = Treated {
            message,
            session,
            wait: None,
            copies: 1,
            behind: 0,
            before: Vec::new(),
            forged: Vec::new(),
            end: None,
            whole: true,
        };
        for fault in fired {
            fault.report(Place::RelayFrame, &self.hub.common.events, Some(daemon), session);
            treated.suffer(fault, nonce, self.now);
        }
        treated
    }
}

impl Treated {
    fn suffer(&mut self, fault: Fired<FrameAction>, nonce: u32, now: Instant) {
        let rule = fault.key();
        match fault.action {
            FrameAction::Drop => (self.copies, self.whole) = (0, false),
            FrameAction::Delay(time) => self.wait.get_or_insert_with(|| Wait::new(now)).add(rule, time),
            FrameAction::Duplicate => self.copies += 1,
            FrameAction::Reorder(frames) => {
                self.behind = self.behind.saturating_add(frames);
                self.whole = false;
            }
            FrameAction::Corrupt => {
                self.message = corrupted(&self.message, fault.random);
                self.whole = false;
            }
            FrameAction::Forge(Forgery { what, frames }) => {
                for number in 0..u64::from(frames.unwrap_or(1)) {
                    let random = fault.random.wrapping_add(number.wrapping_mul(GOLDEN));
                    self.forged.extend(match (what, self.session) {
                        (Forged::Data, Some(session)) => Some(data_of_nobody(session, nonce, number, random)),
                        (Forged::Data, None) => None,
                        (Forged::Malformed, _) => Some(longer_than_it_is(&self.message)),
                    });
                }
            }
            FrameAction::Cut => self.ends(FaultEnd::Cut),
            FrameAction::Close(closing) => self.ends(FaultEnd::Close(closing)),
            FrameAction::Control(control) if control.is_terminal() => {
                self.ends(FaultEnd::Control(control, self.session));
            }
            FrameAction::Control(control) => self.before.push(control),
            FrameAction::Ghost => self.ends(FaultEnd::Ghost),
        }
    }

    fn ends(&mut self, end: FaultEnd) {
        (self.end, self.whole) = (Some(end), false);
    }
}

/// A Data that nobody sealed, with a sequence that no session reaches (CRY-08).
fn data_of_nobody(session: SessionId, direction: u32, number: u64, mut random: u64) -> Bytes {
    let mut bytes = vec![FrameType::Data.byte()];
    bytes.extend((12 + FORGED_LEN as u32).to_be_bytes());
    bytes.extend(session.get().to_be_bytes());
    bytes.extend(direction.to_be_bytes());
    bytes.extend((FORGED_SEQUENCE + number).to_be_bytes());
    while bytes.len() < HEADER_LEN + 12 + FORGED_LEN {
        random = random.wrapping_add(GOLDEN);
        let mixed = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bytes.extend((mixed ^ (mixed >> 27)).to_be_bytes());
    }
    bytes.into()
}

/// The message's header, with more bytes declared than follow (WIRE-11).
fn longer_than_it_is(message: &Bytes) -> Bytes {
    let mut bytes = message[..message.len().min(HEADER_LEN)].to_vec();
    if let Some(length) = bytes.get_mut(1..5) {
        length.copy_from_slice(&1u32.to_be_bytes());
    }
    bytes.into()
}

/// The message with one bit changed: of its payload, or of its header if it has none.
fn corrupted(message: &Bytes, random: u64) -> Bytes {
    let mut bytes = message.to_vec();
    let begin = if bytes.len() > HEADER_LEN { HEADER_LEN } else { 0 };
    let bits = (bytes.len() - begin) as u64 * 8;
    if let Some(bit) = random.checked_rem(bits) {
        bytes[begin + (bit / 8) as usize] ^= 1 << (bit % 8);
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_data_has_the_layout_of_data_and_no_two_are_alike() {
        let session = SessionId::new(7).unwrap();
        let (one, two) = (data_of_nobody(session, 2, 0, 5), data_of_nobody(session, 2, 1, 5));
        assert_eq!(one.len(), HEADER_LEN + 60);
        assert_eq!(one[..HEADER_LEN], [3, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(one[HEADER_LEN..][..12], [0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 0, 0]);
        assert_ne!(one[HEADER_LEN..], two[HEADER_LEN..]);
        assert_eq!(longer_than_it_is(&one)[..], [3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn one_bit_of_the_payload_changes() {
        let whole = Bytes::from(vec![0; HEADER_LEN + 3]);
        for random in 0..48 {
            let bytes = corrupted(&whole, random);
            assert_eq!(bytes[..HEADER_LEN], whole[..HEADER_LEN]);
            assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        }
        let header = corrupted(&whole.slice(..HEADER_LEN), 9);
        assert_eq!((header[1], header.len()), (2, HEADER_LEN));
        assert!(corrupted(&Bytes::new(), 9).is_empty());
    }
}
