//! On the socket, before the session stands: key exchange, trust, introductions (CRY-01..03, CRY-10, CRY-11, TRU-01..05).

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    Job, State,
    machine::{Client, Phase},
};
use crate::{
    Instant, SessionId,
    crypto::{
        Accept, ClientHandshake, IdentityKey, SessionKeys, TrustDecision, TrustQuestion, TrustRefusal, decide_with,
        refusal_of,
    },
    endpoint::Output,
    entropy,
    failure::Cause,
    peer::{Session, Side},
    quirks::{Quirk, Quirks},
    sbp::Introduction,
    wire::Frame,
};

/// How far the negotiation has come.
#[derive(Debug)]
enum Step {
    /// HandshakeInit is sent.
    Accept(ClientHandshake),
    /// The signature was good (CRY-02); what is pinned is being read.
    Pin(IdentityKey, SessionKeys),
    /// The user is being asked.
    Asking(TrustQuestion, IdentityKey, SessionKeys),
    /// The pin is being written (TRU-03).
    Storing(SessionKeys),
    /// Keys stand, our introduction is sent.
    Introducing,
}

/// One negotiation.
#[derive(Debug)]
pub(super) struct Negotiation {
    /// CRY-11: from the socket's opening.
    pub(super) deadline: Instant,
    pub(super) session: SessionId,
    daemon_id: String,
    step: Step,
    /// Data that came while trust was being decided; opened after it.
    early: VecDeque<Bytes>,
    early_bytes: usize,
}

impl Negotiation {
    /// What the end of the time means: an unanswered question counts as a no (TRU-04).
    pub(super) fn overdue(&self, quirks: Quirks) -> Cause {
        match &self.step {
            Step::Asking(..) if quirks.has(Quirk::AsksAgain) => Cause::HandshakeTimeout,
            Step::Asking(question, ..) => refused(refusal_of(*question), "nobody answered in time"),
            Step::Accept(_) | Step::Pin(..) | Step::Storing(_) | Step::Introducing => Cause::HandshakeTimeout,
        }
    }
}

fn refused(refusal: TrustRefusal, why: &str) -> Cause {
    match refusal {
        TrustRefusal::Unknown { fingerprint } => {
            Cause::HandshakeFailed(format!("the identity {fingerprint} is not trusted: {why}"))
        }
        // TRU-05
        TrustRefusal::Changed { expected, received } => Cause::IdentityChanged { expected, received },
    }
}

impl Client {
    /// The socket stands: a fresh key (CRY-01) goes out.
    pub(super) fn negotiate(&mut self, now: Instant) {
        let Phase::Dialling { daemon_id, session, .. } = &mut self.phase else { return };
        let (session, daemon_id) = (*session, std::mem::take(daemon_id));
        let handshake = ClientHandshake::new_with(&mut *self.entropy, self.config.quirks);
        let init = Frame::HandshakeInit { session, client_ephemeral: *handshake.public() };
        self.phase = Phase::Negotiating(Box::new(Negotiation {
            deadline: now + self.config.connection.handshake_timeout,
            session,
            daemon_id,
            step: Step::Accept(handshake),
            early: VecDeque::new(),
            early_bytes: 0,
        }));
        self.set_state(State::Negotiating);
        self.out.push_back(Output::Transmit(init.encode()));
    }

    /// CRY-02 before any trust decision.
    pub(super) fn handle_accept(&mut self, payload: &Bytes, now: Instant) {
        let Phase::Negotiating(negotiation) = &mut self.phase else {
            return self.malformed("a HandshakeAccept in a live session", now);
        };
        let Step::Accept(handshake) = &negotiation.step else {
            return self.malformed("a second HandshakeAccept", now);
        };
        let finished = Accept::parse(payload).and_then(|accept| {
            Ok((accept.identity, handshake.finish_with(&negotiation.daemon_id, &accept, self.config.quirks)?))
        });
        match finished {
            Ok((identity, keys)) => {
                let daemon_id = negotiation.daemon_id.clone();
                negotiation.step = Step::Pin(identity, keys);
                self.start_job(Job::LoadPin { daemon_id });
            }
            Err(_) if self.config.quirks.has(Quirk::PinsUnverified) => self.pin_unverified(payload),
            Err(error) => self.fail(Cause::HandshakeFailed(error.to_string()), now),
        }
    }

    /// What is pinned is known: the table of `docs/spec/2-crypto.md`.
    pub(super) fn handle_pin(&mut self, pin: Option<&IdentityKey>, now: Instant) {
        let Phase::Negotiating(negotiation) = &mut self.phase else { return };
        let Step::Pin(identity, keys) = &negotiation.step else { return };
        let (identity, keys) = (*identity, keys.clone());
        match decide_with(self.config.trust, pin, &identity, self.config.quirks) {
            TrustDecision::Proceed => self.introduce(&keys, now),
            TrustDecision::Pin => self.store_pin(identity, keys),
            TrustDecision::Ask(question) => {
                negotiation.step = Step::Asking(question, identity, keys);
                self.start_job(Job::AskTrust(question));
            }
            TrustDecision::Refuse(refusal) => {
                self.fail(refused(refusal, "the policy accepts pinned identities only"), now);
            }
        }
    }

    /// What only a quirk does: pin an identity that has proven nothing.
    fn pin_unverified(&mut self, payload: &Bytes) {
        if let Ok(accept) = Accept::parse(payload) {
            self.store_pin(accept.identity, SessionKeys { client_to_daemon: [0; 32], daemon_to_client: [0; 32] });
        }
    }

    fn store_pin(&mut self, key: IdentityKey, keys: SessionKeys) {
        let Phase::Negotiating(negotiation) = &mut self.phase else { return };
        let daemon_id = negotiation.daemon_id.clone();
        negotiation.step = Step::Storing(keys);
        self.start_job(Job::StorePin { daemon_id, key });
    }

    /// The user has answered (TRU-02).
    pub(super) fn handle_answer(&mut self, yes: bool, now: Instant) {
        let Phase::Negotiating(negotiation) = &mut self.phase else { return };
        let Step::Asking(question, identity, keys) = &negotiation.step else { return };
        let (question, identity, keys) = (*question, *identity, keys.clone());
        if yes || self.config.quirks.has(Quirk::PinsRefused) {
            self.store_pin(identity, keys);
        } else {
            self.fail(refused(refusal_of(question), "the user refused it"), now);
        }
    }

    /// The pin is written.
    pub(super) fn handle_trusted(&mut self, now: Instant) {
        let Phase::Negotiating(negotiation) = &self.phase else { return };
        let Step::Storing(keys) = &negotiation.step else { return };
        let keys = keys.clone();
        self.introduce(&keys, now);
    }

    /// Keys are agreed and trusted: our introduction goes out, and what came early is opened.
    fn introduce(&mut self, keys: &SessionKeys, now: Instant) {
        let Phase::Negotiating(negotiation) = &mut self.phase else { return };
        negotiation.step = Step::Introducing;
        let early = std::mem::take(&mut negotiation.early);
        // SBP-03: new and random for each attempt
        let random = entropy::next_u64(&mut *self.entropy);
        let peer_id = format!("peer_{:016x}", if self.config.quirks.has(Quirk::KeepsPeerId) { 1 } else { random });
        let hello = Introduction::new(peer_id);
        let mut session =
            Session::new(negotiation.session, Side::Client, keys, &hello, self.config.limits, &mut *self.entropy);
        session.set_quirks(self.config.quirks);
        if self.config.receipts {
            session.send_receipts();
        }
        session.inherit(std::mem::take(&mut self.untaken));
        self.session = Some(session);
        self.pump(now);
        for payload in early {
            self.handle_data(payload, now);
        }
    }

    pub(super) fn handle_data(&mut self, payload: Bytes, now: Instant) {
        if let Phase::Negotiating(negotiation) = &mut self.phase {
            match negotiation.step {
                // CRY-10
                Step::Accept(_) if self.config.quirks.has(Quirk::SkipsEarlyData) => return,
                Step::Accept(_) => return self.malformed("Data before the HandshakeAccept", now),
                Step::Pin(..) | Step::Asking(..) | Step::Storing(_) => {
                    negotiation.early_bytes += payload.len();
                    let limits = &self.config.limits;
                    if negotiation.early.len() >= limits.waiting_frames
                        || negotiation.early_bytes > limits.waiting_bytes
                    {
                        return self.fail(Cause::Overflow("messages before the identity is trusted"), now);
                    }
                    return negotiation.early.push_back(payload);
                }
                Step::Introducing => {}
            }
        }
        if let Some(session) = &mut self.session {
            session.handle_payload(payload, &mut *self.entropy);
            self.refused += session.take_refused();
            self.pump(now);
        }
    }
}
