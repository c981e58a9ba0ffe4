//! Properties of sealing, and of two sessions that talk over a wire that loses, doubles and reorders.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use bytes::Bytes;
use common::{Seeded, at, id, keys, payload_of};
use proptest::prelude::*;
use sideband_protocol::{
    crypto::{DEFAULT_WINDOW, Direction, OpenError, Opener, SealError, Sealer},
    event::EventName,
    failure::Cause,
    peer::{Answer, CallError, CallId, Delivery, Session, SessionLimits, SessionOutput, Side},
    rpc::Envelope,
    sbp::{Frame, FrameBody, FrameId, Introduction},
    wire::{MAX_PAYLOAD, MAX_PLAINTEXT, NONCE_LEN},
};

const UP: Direction = Direction::ClientToDaemon;

fn pair() -> (Sealer, Opener) {
    (Sealer::new(&keys(), UP), Opener::new(&keys(), UP))
}

fn text(length: usize) -> Vec<u8> {
    b"0123456789abcdef-".repeat(length / 17 + 1)[..length].to_vec()
}

fn number(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

// ---- sealing ----

proptest! {
    #[test]
    fn wire_01_every_size_up_to_65508_opens_to_what_was_sealed(
        length in prop_oneof![0usize..100, 65_400..=MAX_PLAINTEXT, 0..=MAX_PLAINTEXT],
    ) {
        let (mut sealer, mut opener) = pair();
        let sealed = sealer.seal_payload(&text(length)).unwrap();
        prop_assert_eq!(sealed.len(), length + 28);
        prop_assert!(sealed.len() <= MAX_PAYLOAD);
        prop_assert_eq!(opener.open(sealed).unwrap(), text(length));
    }

    #[test]
    fn wire_01_larger_plaintext_is_refused_and_counts_nothing(length in MAX_PLAINTEXT + 1..MAX_PLAINTEXT + 5_000) {
        let (mut sealer, _) = pair();
        prop_assert_eq!(sealer.seal_payload(&text(length)), Err(SealError::TooLarge(length)));
        prop_assert_eq!(sealer.next_sequence(), 0);
    }

    /// CRY-04 to CRY-08: whatever order, doubling and loss, a message opens once, and only while the window holds it.
    #[test]
    fn cry_06_orders_duplicates_and_losses(arrivals in prop::collection::vec(
        prop_oneof![0usize..40, 0usize..2_500, 1_000usize..1_100], 0..300,
    )) {
        static SEALED: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
            let (mut sealer, _) = pair();
            (0..2_500).map(|n| sealer.seal_payload(&number(n)).unwrap()).collect()
        });
        let (_, mut opener) = pair();
        let mut seen = BTreeSet::new();
        for sequence in arrivals {
            let highest = seen.last().copied();
            let fresh = !seen.contains(&sequence)
                && highest.is_none_or(|highest: usize| highest.saturating_sub(sequence) < DEFAULT_WINDOW as usize);
            let opened = opener.open(SEALED[sequence].clone());
            if fresh {
                prop_assert_eq!(opened.unwrap(), &number(sequence as u64)[..]);
                seen.insert(sequence);
            } else {
                prop_assert!(matches!(opened, Err(OpenError::Replayed(replayed)) if replayed.0 == sequence as u64));
            }
        }
    }

    /// CRY-09, CRY-08: a changed bit never opens, and what it does leaves the true message as good as it was.
    #[test]
    fn cry_09_one_changed_bit_never_opens(length in 0usize..200, before in 0u64..5, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (mut sealer, mut opener) = pair();
        for n in 0..before {
            opener.open(sealer.seal_payload(&number(n)).unwrap()).unwrap();
        }
        let sealed = sealer.seal_payload(&text(length)).unwrap();
        let mut changed = sealed.to_vec();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        let refused = opener.open(changed.into());
        if (4..NONCE_LEN).contains(&at) {
            // Another sequence: forged, or one that was seen.
            prop_assert!(matches!(refused, Err(OpenError::Forged | OpenError::Replayed(_))), "{:?}", refused);
        } else {
            prop_assert_eq!(refused, Err(OpenError::Forged));
        }
        prop_assert_eq!(opener.open(sealed).unwrap(), text(length));
    }

    #[test]
    fn cry_09_any_payload_is_refused(payload in prop::collection::vec(any::<u8>(), 0..200), ours in any::<bool>()) {
        let (_, mut opener) = pair();
        let mut payload = payload;
        if ours && payload.len() >= NONCE_LEN {
            payload[..4].copy_from_slice(&1u32.to_be_bytes());
        }
        let length = payload.len();
        let expected = if length < 28 { OpenError::Short(length) } else { OpenError::Forged };
        prop_assert_eq!(opener.open(payload.into()), Err(expected));
    }

    /// CRY-08: forged frames with any sequence push no true one out of the window.
    #[test]
    fn cry_08_forged_sequences_do_not_move_the_window(sequences in prop::collection::vec(any::<u64>(), 1..20)) {
        let (mut sealer, mut opener) = pair();
        let first = sealer.seal_payload(b"first").unwrap();
        for sequence in sequences {
            let mut forged = first.to_vec();
            forged[4..NONCE_LEN].copy_from_slice(&sequence.to_be_bytes());
            forged[NONCE_LEN] ^= 1;
            prop_assert_eq!(opener.open(forged.into()), Err(OpenError::Forged));
        }
        prop_assert_eq!(opener.open(first).unwrap(), &b"first"[..]);
    }

    /// CRY-05: the last number is never used, and nothing wraps.
    #[test]
    fn cry_05_sequences_end_before_they_wrap(left in 0u64..6) {
        let key = [7; 32];
        let mut sealer = Sealer::starting_at(&key, UP, u64::MAX - left);
        let mut opener = Opener::with_key(&key, UP);
        for n in 0..left {
            prop_assert_eq!(opener.open(sealer.seal_payload(&number(n)).unwrap()).unwrap(), &number(n)[..]);
        }
        for _ in 0..2 {
            prop_assert_eq!(sealer.seal_payload(b"more"), Err(SealError::Exhausted));
            prop_assert_eq!(sealer.next_sequence(), u64::MAX);
        }
    }

    /// The other direction's key and the other direction's nonce open nothing.
    #[test]
    fn cry_09_what_one_side_sealed_does_not_open_as_the_others(length in 0usize..100) {
        let (mut sealer, mut own) = pair();
        let mut other = Opener::new(&keys(), Direction::DaemonToClient);
        let sealed = sealer.seal_payload(&text(length)).unwrap();
        prop_assert_eq!(other.open(sealed.clone()), Err(OpenError::Forged));
        let mut turned = sealed.to_vec();
        turned[..4].copy_from_slice(&2u32.to_be_bytes());
        prop_assert_eq!(own.open(turned.clone().into()), Err(OpenError::Forged));
        prop_assert_eq!(other.open(turned.into()), Err(OpenError::Forged));
    }
}

#[test]
fn wire_01_one_byte_over_is_refused_exactly_at_65509() {
    let (mut sealer, mut opener) = pair();
    assert_eq!(MAX_PLAINTEXT, 65_508);
    assert_eq!(sealer.seal_payload(&text(65_509)), Err(SealError::TooLarge(65_509)));
    assert_eq!(opener.open(sealer.seal_payload(&text(65_508)).unwrap()).unwrap().len(), 65_508);
}

/// Every bit of a short message, one by one.
#[test]
fn cry_09_no_bit_of_a_message_may_change() {
    let (mut sealer, mut opener) = pair();
    let sealed = sealer.seal_payload(b"hello").unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(opener.open(changed.into()), Err(OpenError::Forged), "bit {bit}");
    }
    assert_eq!(opener.open(sealed).unwrap(), &b"hello"[..]);
}

// ---- two sessions and a wire ----

/// One end, what it has done, and what is on its way to it.
struct End {
    session: Session,
    entropy: Seeded,
    inbox: Vec<Bytes>,
    /// Calls that were accepted, and how each ended.
    calls: BTreeMap<u64, Vec<Result<Option<Bytes>, CallError>>>,
    /// Events that were sent, and that came.
    emitted: BTreeSet<String>,
    events: Vec<String>,
    requests: Vec<FrameId>,
    requested: Vec<FrameId>,
    ended: Option<Cause>,
    /// It closed by itself.
    closed: bool,
}

impl End {
    /// A session that is over leaves its calls to its owner, who ends them (CLI-09).
    fn end_calls(&mut self) {
        for pending in self.session.take_calls() {
            self.calls.get_mut(&pending.call.0).expect("a call that was made").push(Err(CallError::NotConnected));
        }
    }

    fn is_over(&self) -> bool {
        self.closed || self.ended.is_some()
    }
}

struct Pipe {
    ends: [End; 2],
    now: u64,
    next: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Call { side: usize, large: bool },
    Emit { side: usize },
    Answer { side: usize, which: prop::sample::Index, fails: bool },
    Deliver { side: usize, which: prop::sample::Index },
    DeliverFirst { side: usize },
    Double { side: usize, which: prop::sample::Index },
    Lose { side: usize, which: prop::sample::Index },
    Cancel { side: usize, which: prop::sample::Index },
    Hold { side: usize },
    Resume { side: usize },
    Close { side: usize },
    Wait { seconds: u64 },
}

fn steps(lossy: bool) -> impl Strategy<Value = Vec<Step>> {
    let side = 0usize..2;
    let which = any::<prop::sample::Index>;
    let common = prop_oneof![
        3 => (side.clone(), prop::bool::weighted(0.05)).prop_map(|(side, large)| Step::Call { side, large }),
        2 => side.clone().prop_map(|side| Step::Emit { side }),
        3 => (side.clone(), which(), any::<bool>()).prop_map(|(side, which, fails)| Step::Answer { side, which, fails }),
        6 => (side.clone(), which()).prop_map(|(side, which)| Step::Deliver { side, which }),
        6 => side.clone().prop_map(|side| Step::DeliverFirst { side }),
        1 => (side.clone(), which()).prop_map(|(side, which)| Step::Double { side, which }),
        1 => side.clone().prop_map(|side| Step::Hold { side }),
        2 => side.clone().prop_map(|side| Step::Resume { side }),
    ];
    let losses = prop_oneof![
        4 => (side.clone(), which()).prop_map(|(side, which)| Step::Lose { side, which }),
        2 => (side.clone(), which()).prop_map(|(side, which)| Step::Cancel { side, which }),
        4 => (0u64..8).prop_map(|seconds| Step::Wait { seconds }),
        1 => side.prop_map(|side| Step::Close { side }),
    ];
    let step = if lossy { prop_oneof![9 => common, 2 => losses].boxed() } else { common.boxed() };
    prop::collection::vec(step, 0..150)
}

impl Pipe {
    /// Both introductions are delivered; from there on anything may happen to a frame.
    fn introduced() -> Self {
        let end = |side, seed: u64| {
            let mut entropy = Seeded(seed);
            let hello = Introduction::new(format!("peer_{seed}"));
            let session = Session::new(id(1), side, &keys(), &hello, SessionLimits::default(), &mut entropy);
            End {
                session,
                entropy,
                inbox: Vec::new(),
                calls: BTreeMap::new(),
                emitted: BTreeSet::new(),
                events: Vec::new(),
                requests: Vec::new(),
                requested: Vec::new(),
                ended: None,
                closed: false,
            }
        };
        let mut pipe = Self { ends: [end(Side::Client, 1), end(Side::Daemon, 2)], now: 0, next: 0 };
        pipe.drain();
        for side in 0..2 {
            pipe.deliver(side, 0, true);
            assert!(pipe.ends[side].session.is_introduced());
        }
        pipe
    }

    fn drain(&mut self) {
        for side in 0..2 {
            while let Some(output) = self.ends[side].session.poll_output() {
                let end = &mut self.ends[side];
                assert!(end.ended.is_none(), "nothing comes after the end, but {output:?}");
                match output {
                    SessionOutput::Frame(frame) => self.ends[1 - side].inbox.push(payload_of(&frame)),
                    SessionOutput::Introduced(_) => {}
                    SessionOutput::Ended(cause) => {
                        end.ended = Some(cause);
                        end.end_calls();
                    }
                    SessionOutput::Deliver(Delivery::Request { cid, .. }) => {
                        end.requests.push(cid);
                        end.requested.push(cid);
                    }
                    SessionOutput::Deliver(Delivery::CallEnded { call, outcome, .. }) => {
                        end.calls.get_mut(&call.0).expect("a call that was made").push(outcome);
                    }
                    SessionOutput::Deliver(Delivery::Event { name, size, .. }) => {
                        end.events.push(name.as_str().to_owned());
                        end.session.release(size);
                    }
                    SessionOutput::Deliver(delivery) => panic!("nobody sent {delivery:?}"),
                }
            }
        }
    }

    fn deliver(&mut self, side: usize, at: usize, remove: bool) {
        let end = &mut self.ends[side];
        let payload = if remove { end.inbox.remove(at) } else { end.inbox[at].clone() };
        end.session.handle_payload(payload, &mut end.entropy);
        self.drain();
    }

    fn answer(&mut self, side: usize, at: usize, fails: bool) {
        let end = &mut self.ends[side];
        let cid = end.requests.remove(at);
        let answer = if fails {
            Answer::Error { code: 2000, message: "no".to_owned(), data: None }
        } else {
            Answer::Result(Some(Bytes::from_static(b"1")))
        };
        end.session.respond(cid, answer, &mut end.entropy);
        self.drain();
    }

    fn step(&mut self, step: Step) {
        let deadline = Some(at(self.now + 10));
        self.next += 1;
        let next = self.next;
        match step {
            Step::Call { side, large } => {
                let end = &mut self.ends[side];
                let params = large.then(|| Bytes::from(format!("\"{}\"", "x".repeat(MAX_PLAINTEXT))));
                let call = CallId(next);
                match end.session.call(call, "m".to_owned(), params, deadline, false, &mut end.entropy) {
                    Ok(()) => drop(end.calls.insert(next, Vec::new())),
                    Err(CallError::MessageTooLarge { size }) => assert!(large && size > MAX_PLAINTEXT),
                    Err(CallError::NotConnected) => {}
                    Err(CallError::SessionPaused) => assert!(end.session.is_held()),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Emit { side } => {
                let end = &mut self.ends[side];
                let name = format!("e.{next}");
                if end.session.emit(&EventName::new(&*name).unwrap(), None, &mut end.entropy).is_ok() {
                    end.emitted.insert(name);
                }
            }
            Step::Answer { side, which, fails } if !self.ends[side].requests.is_empty() => {
                self.answer(side, which.index(self.ends[side].requests.len()), fails);
            }
            Step::Deliver { side, which } if !self.ends[side].inbox.is_empty() => {
                self.deliver(side, which.index(self.ends[side].inbox.len()), true);
            }
            Step::DeliverFirst { side } if !self.ends[side].inbox.is_empty() => self.deliver(side, 0, true),
            Step::Double { side, which } if !self.ends[side].inbox.is_empty() => {
                self.deliver(side, which.index(self.ends[side].inbox.len()), false);
            }
            Step::Lose { side, which } if !self.ends[side].inbox.is_empty() => {
                let end = &mut self.ends[side];
                end.inbox.remove(which.index(end.inbox.len()));
            }
            Step::Cancel { side, which } if !self.ends[side].calls.is_empty() => {
                let end = &mut self.ends[side];
                let at = which.index(end.calls.len());
                let (&call, ends) = end.calls.iter_mut().nth(at).unwrap();
                if end.session.cancel(CallId(call)) {
                    // The caller's own doing is its end.
                    ends.push(Err(CallError::Cancelled));
                }
            }
            Step::Hold { side } if !self.ends[side].is_over() => self.ends[side].session.hold(),
            Step::Resume { side } if !self.ends[side].is_over() => self.ends[side].session.resume(),
            Step::Close { side } => {
                let end = &mut self.ends[side];
                end.session.close("", &mut end.entropy);
                end.closed = true;
                end.end_calls();
            }
            Step::Wait { seconds } => {
                self.now += seconds;
                for end in &mut self.ends {
                    end.session.handle_timeout(at(self.now));
                    assert!(end.session.poll_timeout().is_none_or(|next| next > at(self.now)));
                }
            }
            Step::Answer { .. }
            | Step::Deliver { .. }
            | Step::DeliverFirst { .. }
            | Step::Double { .. }
            | Step::Lose { .. }
            | Step::Cancel { .. }
            | Step::Hold { .. }
            | Step::Resume { .. } => {}
        }
        self.drain();
    }

    /// Whatever is on its way arrives, and every request is answered, until nothing happens any more.
    fn settle(&mut self) {
        for end in &mut self.ends {
            end.session.resume();
        }
        self.drain();
        while let Some(side) =
            (0..2).find(|side| !self.ends[*side].inbox.is_empty() || !self.ends[*side].requests.is_empty())
        {
            if self.ends[side].inbox.is_empty() {
                self.answer(side, 0, false);
            } else {
                self.deliver(side, 0, true);
            }
        }
    }

    fn check_events(&self) -> Result<(), TestCaseError> {
        for side in 0..2 {
            let came = &self.ends[side].events;
            let once: BTreeSet<_> = came.iter().cloned().collect();
            prop_assert_eq!(once.len(), came.len(), "an event came twice");
            prop_assert!(once.is_subset(&self.ends[1 - side].emitted), "an event that nobody sent");
            let asked: BTreeSet<_> = self.ends[side].requested.iter().collect();
            prop_assert_eq!(asked.len(), self.ends[side].requested.len(), "a request came twice");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// RPC-01, RPC-05: whatever the wire does, each request has exactly one end, and events come at most once.
    #[test]
    fn rpc_05_every_request_ends_once_over_a_lossy_wire(steps in steps(true)) {
        let mut pipe = Pipe::introduced();
        for step in steps {
            pipe.step(step);
        }
        pipe.step(Step::Wait { seconds: 11 });
        for end in &mut pipe.ends {
            prop_assert_eq!(end.session.poll_timeout(), None, "no call is left");
            prop_assert_eq!(end.session.take_calls().count(), 0);
            for (call, ends) in &end.calls {
                prop_assert_eq!(ends.len(), 1, "call {} ended {:?}", call, ends);
            }
            // Loss and reordering are no fault of the other side; only a Close ends it.
            prop_assert!(matches!(end.ended, None | Some(Cause::PeerClosed { .. })), "{:?}", end.ended);
        }
        pipe.check_events()?;
    }

    /// RPC-01: without loss, in whatever order frames and answers come, each request gets its answer and each event arrives.
    #[test]
    fn rpc_01_every_request_is_answered_over_a_reordering_wire(steps in steps(false)) {
        let mut pipe = Pipe::introduced();
        for step in steps {
            pipe.step(step);
        }
        pipe.settle();
        for side in 0..2 {
            let end = &pipe.ends[side];
            prop_assert_eq!(&end.ended, &None);
            for (call, ends) in &end.calls {
                let answered = matches!(&ends[..], [Ok(Some(_)) | Err(CallError::Rpc { code: 2000, .. })]);
                prop_assert!(answered, "call {} ended {:?}", call, ends);
            }
            let came: BTreeSet<_> = end.events.iter().cloned().collect();
            prop_assert_eq!(&came, &pipe.ends[1 - side].emitted);
        }
        pipe.check_events()?;
    }
}

// ---- any plaintext ----

/// A session under [`keys`], with what the other side would seal with.
fn target(introduced: bool) -> (Session, Sealer, Seeded) {
    let mut entropy = Seeded(3);
    let hello = Introduction::new("peer_d".to_owned());
    let mut session = Session::new(id(1), Side::Daemon, &keys(), &hello, SessionLimits::default(), &mut entropy);
    let mut sealer = Sealer::new(&keys(), UP);
    if introduced {
        let said = FrameBody::Handshake(Introduction::new("peer_c".to_owned()).to_json().into());
        let frame = Frame { id: FrameId::from_bytes([9; 16]), timestamp: None, body: said };
        session.handle_payload(sealer.seal_payload(&frame.encode()).unwrap(), &mut entropy);
    }
    while session.poll_output().is_some() {}
    (session, sealer, entropy)
}

fn plaintext() -> impl Strategy<Value = Bytes> {
    let frame_id = any::<[u8; 16]>().prop_map(FrameId::from_bytes);
    let data = prop_oneof![
        "[ -~]{0,40}".prop_map(Bytes::from),
        any::<[u8; 16]>().prop_map(|cid| {
            Envelope::Request { method: "m".to_owned(), params: None, cid: FrameId::from_bytes(cid) }.encode()
        }),
        any::<[u8; 16]>().prop_map(|cid| Envelope::Result { cid: FrameId::from_bytes(cid), result: None }.encode()),
        Just(Bytes::from_static(br#"{"t":"N","e":"x"}"#)),
        Just(Bytes::from_static(br#"{"t":"r","cid":"00112233445566778899aabbccddeeff"}"#)),
    ];
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40).prop_map(|json| FrameBody::Handshake(json.into())),
        Just(FrameBody::Ping),
        Just(FrameBody::Pong),
        "[a-z]{0,9}".prop_map(|reason| FrameBody::Close { reason }),
        (prop::sample::select(vec!["rpc", "event", "app/a", "stream", "x"]), data)
            .prop_map(|(subject, data)| FrameBody::Message { subject: subject.to_owned(), data }),
        frame_id.clone().prop_map(FrameBody::Ack),
        (998u16..1_006, any::<String>()).prop_map(|(code, message)| FrameBody::Error {
            code,
            message,
            details: Bytes::new()
        }),
    ];
    let whole = (frame_id, prop::option::of(any::<i64>()), body)
        .prop_map(|(id, timestamp, body)| Frame { id, timestamp, body }.encode());
    let flags = (whole.clone(), any::<u8>()).prop_map(|(frame, flags)| {
        let mut frame = frame.to_vec();
        frame[1] = flags;
        Bytes::from(frame)
    });
    prop_oneof![6 => whole, 1 => flags, 1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from)]
}

proptest! {
    /// SBP-02 to SBP-06: whatever the other side says, a session answers, ignores or ends, and is silent after its end.
    #[test]
    fn sbp_02_any_plaintext_is_answered_ignored_or_ends_the_session(
        introduced in any::<bool>(),
        plaintexts in prop::collection::vec(plaintext(), 1..12),
    ) {
        let (mut session, mut sealer, mut entropy) = target(introduced);
        let mut opener = Opener::new(&keys(), Direction::DaemonToClient);
        let mut ended = false;
        for plaintext in plaintexts {
            session.handle_payload(sealer.seal_payload(&plaintext).unwrap(), &mut entropy);
            let mut answers = 0;
            while let Some(output) = session.poll_output() {
                prop_assert!(!ended, "{:?} after the end", output);
                match output {
                    SessionOutput::Frame(frame) => {
                        answers += 1;
                        let answer = Frame::decode(&opener.open(payload_of(&frame)).unwrap()).unwrap();
                        // SBP-02, SBP-06: an Error or Ack is never answered.
                        prop_assert!(!matches!(plaintext.first(), Some(2 | 3)), "{:?} answers {:?}", answer, plaintext);
                        if let FrameBody::Error { code, .. } = answer.body {
                            prop_assert!((1000..=1003).contains(&code));
                            if plaintext.len() >= 18 {
                                prop_assert_eq!(&answer.id.as_bytes()[..], &plaintext[2..18], "SBP-01");
                            }
                        }
                    }
                    SessionOutput::Introduced(_) => prop_assert!(!introduced, "introduced twice"),
                    SessionOutput::Deliver(_) => prop_assert!(session.is_introduced()),
                    SessionOutput::Ended(_) => ended = true,
                }
            }
            prop_assert!(answers <= 1, "{} answers to one frame", answers);
        }
        prop_assert!(introduced || ended || session.is_introduced());
    }
}
