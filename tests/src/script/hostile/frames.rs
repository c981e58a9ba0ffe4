//! Attacks on an open socket: spoilt, replayed and reordered Data, frames out of place, Control codes, floods, garbage, closes.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use sideband_protocol::{
    SessionId, entropy,
    sbp::{self, FrameBody},
    wire::{
        ControlCode, Frame, FrameType, MAX_MESSAGE, MAX_PAYLOAD, MAX_PLAINTEXT, NONCE_LEN, Reason, Signal, TAG_LEN,
        UnknownControlCode, close,
    },
};

use super::{Aim, Attack, ClientFate, ClientStage, DaemonFate, DaemonStage, Throw, event};
use crate::script::{Line, session};

use ClientFate::{Closed, GoesOn, Retried};

/// Every attack on an open socket.
pub fn attacks() -> Vec<Attack> {
    [tampered(), replayed(), out_of_place(), sizes(), controls(), floods(), websocket(), garbage(), ends()]
        .into_iter()
        .flatten()
        .collect()
}

/// Another session's id, which the endpoint never heard of.
fn other_session() -> SessionId {
    session(0xdead_beef)
}

// ---- fates that many attacks share ----

/// Data that do not open: before the Accept they are out of place (CRY-10), later the session is over (CRY-09).
fn forged_at_client(stage: ClientStage) -> Option<ClientFate> {
    Some(if stage == ClientStage::Opened { Closed("malformed_frame") } else { Closed("decrypt_failed") })
}

fn forged_at_daemon(stage: DaemonStage) -> Option<DaemonFate> {
    Some(match stage {
        // DMN-06
        DaemonStage::Online => DaemonFate::GoesOn,
        DaemonStage::Keyed | DaemonStage::Active => DaemonFate::SessionEnds("decrypt_failed"),
    })
}

fn malformed_at_client(_: ClientStage) -> Option<ClientFate> {
    Some(Closed("malformed_frame"))
}

/// A malformed frame whose header names the session (WIRE-02, WIRE-21).
fn malformed_at_daemon(stage: DaemonStage) -> Option<DaemonFate> {
    Some(match stage {
        DaemonStage::Online => DaemonFate::GoesOn,
        DaemonStage::Keyed | DaemonStage::Active => DaemonFate::SessionEnds("malformed_frame"),
    })
}

/// A malformed frame that names no session: fewer than ten in a row change nothing (DMN-08).
fn ignored_at_daemon(_: DaemonStage) -> Option<DaemonFate> {
    Some(DaemonFate::GoesOn)
}

fn goes_on_at_client(_: ClientStage) -> Option<ClientFate> {
    Some(GoesOn)
}

// ---- Data ----

fn payload_of(frame: &Frame) -> BytesMut {
    match frame {
        Frame::Data { payload, .. } => BytesMut::from(&payload[..]),
        _ => BytesMut::new(),
    }
}

fn data(aim: &Aim<'_>, payload: impl Into<Bytes>) -> Throw {
    Frame::Data { session: aim.session, payload: payload.into() }.into()
}

/// A sealed event, still to be spoilt.
fn sealed(line: &mut Line) -> BytesMut {
    payload_of(&line.seal_body(event("spoilt")))
}

/// A payload that was never sealed, under a nonce that looks right.
fn forged_payload(aim: &mut Aim<'_>, sequence: u64, length: usize) -> Bytes {
    let mut payload = sealed(aim.line);
    payload.truncate(4);
    payload.put_u64(sequence);
    payload.resize(length.max(NONCE_LEN), 0x5a);
    let mut noise = [0; 16];
    aim.entropy.fill(&mut noise);
    let end = payload.len();
    for (byte, noise) in payload[NONCE_LEN..end].iter_mut().zip(noise) {
        *byte ^= noise;
    }
    payload.freeze()
}

fn tampered() -> Vec<Attack> {
    // Where one bit is turned: a place in front, or one counted from the end.
    let places: [(&str, fn(usize) -> usize, u8); 10] = [
        ("the direction's first byte", |_| 0, 0x80),
        ("the direction's last byte, so that it names the other one", |_| 3, 0x03),
        ("the sequence's first byte, a huge one", |_| 4, 0x80),
        ("the sequence's middle", |_| 7, 0x01),
        ("the sequence's last byte", |_| 11, 0x10),
        ("the ciphertext's first byte", |_| NONCE_LEN, 0x01),
        ("the ciphertext's middle", |length| length / 2, 0x40),
        ("the ciphertext's last byte", |length| length - TAG_LEN - 1, 0x01),
        ("the tag's first byte", |length| length - TAG_LEN, 0x01),
        ("the tag's last byte", |length| length - 1, 0x80),
    ];
    let turned = places.into_iter().map(|(what, place, bit)| {
        Attack::new(format!("Data with a bit turned in {what}"), "CRY-09, CRY-10", move |aim| {
            let mut payload = sealed(aim.line);
            let at = place(payload.len());
            payload[at] ^= bit;
            vec![data(aim, payload)]
        })
        .client(forged_at_client)
        .daemon(forged_at_daemon)
    });
    let forged = |name: &str, throws: fn(&mut Aim<'_>) -> Vec<Throw>| {
        Attack::new(name, "CRY-08, CRY-09, CRY-10", throws).client(forged_at_client).daemon(forged_at_daemon)
    };
    turned
        .chain([
            forged("Data cut short by a byte", |aim| {
                let mut payload = sealed(aim.line);
                payload.truncate(payload.len() - 1);
                vec![data(aim, payload)]
            }),
            forged("Data with a byte added", |aim| {
                let mut payload = sealed(aim.line);
                payload.put_u8(0);
                vec![data(aim, payload)]
            }),
            forged("Data of another session's keys", |aim| {
                // Under a sequence that was not seen: the window is asked first.
                aim.stranger.continue_at(aim.line.next_sequence());
                let frame = aim.stranger.seal_body(event("stranger"));
                vec![frame.into()]
            }),
            forged("forged Data with the largest sequence", |aim| {
                let payload = forged_payload(aim, u64::MAX, 64);
                vec![data(aim, payload)]
            }),
            forged("forged Data a million sequences ahead", |aim| {
                let next = aim.line.next_sequence();
                let payload = forged_payload(aim, next + 1_000_000, 64);
                vec![data(aim, payload)]
            }),
            forged("forged Data of the largest size", |aim| {
                let next = aim.line.next_sequence();
                let payload = forged_payload(aim, next, MAX_PAYLOAD);
                vec![data(aim, payload)]
            }),
        ])
        .chain([Attack::new("the endpoint's own Data sent back to it", "CRY-09", |aim| {
            aim.echo.cloned().into_iter().map(Throw::from).collect()
        })
        .client(|stage| (stage == ClientStage::Keyed || stage.stands()).then_some(Closed("decrypt_failed")))
        .daemon(|stage| (stage != DaemonStage::Online).then_some(DaemonFate::SessionEnds("decrypt_failed")))])
        .collect()
}

fn replayed() -> Vec<Attack> {
    let standing = |name: &str, rules, delivers, throws: fn(&mut Aim<'_>) -> Vec<Throw>| {
        Attack::new(name, rules, throws)
            .client(|stage| (stage == ClientStage::Active).then_some(GoesOn))
            .daemon(|stage| (stage == DaemonStage::Active).then_some(DaemonFate::GoesOn))
            .delivers(delivers)
    };
    /// Enough to be below any window that an endpoint may keep.
    const FAR: u64 = 1 << 40;
    vec![
        standing("replayed Data", "CRY-06", 0, |aim| {
            let again = aim.delivered.iter().cloned().map(Throw::from);
            again.cycle().take(aim.delivered.len() * 3).collect()
        }),
        standing("a seen sequence over other bytes", "CRY-06", 0, |aim| {
            let spoil = |frame: &Frame| {
                let mut payload = payload_of(frame);
                let at = payload.len() - 1;
                payload[at] ^= 1;
                data(aim, payload)
            };
            aim.delivered.iter().map(spoil).collect()
        }),
        standing("Data in reverse order", "CRY-06, EVT-02", 64, |aim| {
            let mut frames: Vec<_> = (0..64).map(|n| aim.line.seal_body(event(&n.to_string())).into()).collect();
            frames.reverse();
            frames
        }),
        standing("each Data twice, the second one late", "CRY-06", 40, |aim| {
            let frames: Vec<Throw> = (0..40).map(|n| aim.line.seal_body(event(&n.to_string())).into()).collect();
            let late = frames.clone();
            frames.into_iter().chain(late).collect()
        }),
        standing("Data that come when the window has passed them", "CRY-06", 1, |aim| {
            let late = aim.line.seal_body(event("late"));
            let next = aim.line.next_sequence();
            aim.line.continue_at(next + FAR);
            vec![aim.line.seal_body(event("ahead")).into(), late.into()]
        }),
        standing("Data just inside the smallest window that is allowed", "CRY-06", 2, |aim| {
            let late = aim.line.seal_body(event("late"));
            let next = aim.line.next_sequence();
            aim.line.continue_at(next + 62);
            vec![aim.line.seal_body(event("ahead")).into(), late.into()]
        }),
        standing("a genuine jump to the last sequence but one", "CRY-05, CRY-07", 1, |aim| {
            aim.line.continue_at(u64::MAX - 1);
            let ahead = aim.line.seal_body(event("ahead")).into();
            // What the far end sends after this lies within the window still, on sequences not used before.
            aim.line.continue_at(u64::MAX - 1 - 60);
            vec![ahead]
        }),
    ]
}

// ---- frames out of place ----

fn low_signal(session: SessionId, signal: Signal) -> Frame {
    Frame::Signal { session, signal, reason: Reason::None }
}

fn raw(kind: u8, declared: u32, session: u64, payload: &[u8]) -> Throw {
    let mut out = BytesMut::new();
    out.put_u8(kind);
    out.put_u32(declared);
    out.put_u64(session);
    out.put_slice(payload);
    Throw::Message(out.freeze())
}

fn out_of_place() -> Vec<Attack> {
    let foreign = |name: &str, throws: fn(&mut Aim<'_>) -> Vec<Throw>| {
        Attack::new(name, "WIRE-21, DMN-06", throws).client(malformed_at_client).daemon(ignored_at_daemon)
    };
    let never = |name: &str, throws: fn(&mut Aim<'_>) -> Vec<Throw>| Attack::new(name, "WIRE-21", throws);
    let nameless = |name: &str, throws: fn(&mut Aim<'_>) -> Vec<Throw>| {
        Attack::new(name, "WIRE-11, WIRE-14, DMN-08", throws).client(malformed_at_client).daemon(ignored_at_daemon)
    };
    vec![
        foreign("Data under another session's id", |aim| {
            let payload = sealed(aim.line);
            vec![Frame::Data { session: other_session(), payload: payload.into() }.into()]
        }),
        foreign("an Accept under another session's id", |_| {
            vec![Frame::HandshakeAccept { session: other_session(), payload: vec![7; 128].into() }.into()]
        }),
        foreign("a Signal for another session", |_| vec![low_signal(other_session(), Signal::Close).into()]),
        never("a HandshakeInit at a client", |aim| {
            vec![Frame::HandshakeInit { session: aim.session, client_ephemeral: [9; 32] }.into()]
        })
        .client(malformed_at_client),
        never("a second HandshakeInit", |aim| {
            vec![Frame::HandshakeInit { session: aim.session, client_ephemeral: [9; 32] }.into()]
        })
        .daemon(|stage| (stage != DaemonStage::Online).then_some(DaemonFate::SessionEnds("malformed_frame"))),
        never("a second Accept, the same again", |aim| aim.accept.cloned().into_iter().map(Throw::from).collect())
            .client(|stage| (stage != ClientStage::Opened).then_some(Closed("malformed_frame")))
            .daemon(|stage| (stage != DaemonStage::Online).then_some(DaemonFate::SessionEnds("malformed_frame"))),
        never("an Accept of noise in a session that has keys", |aim| {
            vec![Frame::HandshakeAccept { session: aim.session, payload: vec![7; 128].into() }.into()]
        })
        .client(|stage| (stage != ClientStage::Opened).then_some(Closed("malformed_frame")))
        .daemon(malformed_at_daemon),
        never("Signal(ready)", |aim| vec![low_signal(aim.session, Signal::Ready).into()])
            .client(malformed_at_client)
            .daemon(malformed_at_daemon),
        never("Signal(close)", |aim| vec![low_signal(aim.session, Signal::Close).into()])
            .client(malformed_at_client)
            .daemon(malformed_at_daemon),
        never("a Signal with an unknown signal", |aim| vec![raw(0x04, 2, aim.session.get(), &[9, 0])])
            .client(malformed_at_client)
            .daemon(malformed_at_daemon),
        nameless("Data without a session", |_| vec![raw(0x03, 28, 0, &[0; 28])]),
        nameless("an Accept without a session", |_| vec![raw(0x02, 128, 0, &[0; 128])]),
        nameless("a Ping with a session", |aim| vec![raw(0x10, 0, aim.session.get(), &[])]),
        nameless("a Pong with a session", |aim| vec![raw(0x11, 4, aim.session.get(), b"pong")]),
        nameless("a Ping of nine bytes", |_| vec![raw(0x10, 9, 0, &[1; 9])]),
        nameless("an unknown type", |aim| vec![raw(0x05, 0, aim.session.get(), &[])]),
        nameless("an unknown type, the largest", |_| vec![raw(0xff, 3, 0, &[1; 3])]),
        nameless("a header that declares one byte too many", |aim| vec![raw(0x03, 29, aim.session.get(), &[0; 28])]),
        nameless("a header that declares one byte too few", |aim| vec![raw(0x03, 28, aim.session.get(), &[0; 29])]),
        nameless("a header that declares nothing", |aim| vec![raw(0x03, 0, aim.session.get(), &[0; 64])]),
        nameless("a header that declares 4 GiB", |aim| vec![raw(0x03, u32::MAX, aim.session.get(), &[0; 64])]),
        nameless("a header that declares the largest payload, alone", |aim| {
            vec![raw(0x03, MAX_PAYLOAD as u32, aim.session.get(), &[])]
        }),
        nameless("an empty message", |_| vec![Throw::Message(Bytes::new())]),
        nameless("two frames in one message", |_| {
            let mut two = BytesMut::from(&Frame::Ping(Bytes::new()).encode()[..]);
            two.put_slice(&Frame::Ping(Bytes::new()).encode());
            vec![Throw::Message(two.freeze())]
        }),
        Attack::new("a stray Pong", "WIRE-20", |_| vec![Frame::Pong(Bytes::from_static(b"12345678")).into()])
            .client(goes_on_at_client)
            .daemon(ignored_at_daemon),
        Attack::new("nine malformed frames, a good one, nine more", "DMN-08", |_| {
            let nine = || std::iter::repeat_n(raw(0xff, 0, 0, &[]), 9);
            nine().chain([Frame::Pong(Bytes::new()).into()]).chain(nine()).collect()
        })
        .daemon(ignored_at_daemon),
        Attack::new("ten malformed frames in a row", "DMN-08", |_| vec![raw(0xff, 0, 0, &[]); 10])
            .daemon(|_| Some(DaemonFate::Reconnects("malformed_frame"))),
        Attack::new("ten malformed frames of different kinds in a row", "DMN-08", |_| {
            let kinds = [raw(0xff, 0, 0, &[]), raw(0x03, 28, 0, &[0; 28]), Throw::Message(Bytes::from_static(b"x"))];
            kinds.into_iter().cycle().take(10).collect()
        })
        .daemon(|_| Some(DaemonFate::Reconnects("malformed_frame"))),
    ]
}

// ---- sizes ----

fn sizes() -> Vec<Attack> {
    let wrong = |name: String, kind: FrameType, length: usize| {
        Attack::new(name, "WIRE-02", move |aim| {
            vec![raw(kind.byte(), length as u32, aim.session.get(), &vec![3; length])]
        })
        .client(malformed_at_client)
        .daemon(malformed_at_daemon)
    };
    let mut all = Vec::new();
    for length in [0, 1, 11, 12, 26, 27] {
        all.push(wrong(format!("Data of {length} bytes"), FrameType::Data, length));
    }
    for length in [0, 1, 127, 129, MAX_PAYLOAD] {
        all.push(wrong(format!("an Accept of {length} bytes"), FrameType::HandshakeAccept, length));
    }
    for length in [0, 31, 33, MAX_PAYLOAD] {
        all.push(
            wrong(format!("a HandshakeInit of {length} bytes"), FrameType::HandshakeInit, length)
                // It names the session that it would have started: its client is told that it failed.
                .daemon(|_| Some(DaemonFate::SessionEnds("malformed_frame"))),
        );
    }
    for length in [0, 1, 3] {
        all.push(wrong(format!("a Signal of {length} bytes"), FrameType::Signal, length));
    }
    // Unsealed bytes of every size that Data may have.
    for length in [28, 29, 1_000, MAX_PAYLOAD - 1, MAX_PAYLOAD] {
        all.push(
            Attack::new(format!("unsealed Data of {length} bytes"), "WIRE-02, CRY-09", move |aim| {
                let next = aim.line.next_sequence();
                let payload = forged_payload(aim, next, length);
                vec![data(aim, payload)]
            })
            .client(forged_at_client)
            .daemon(forged_at_daemon),
        );
    }
    for length in [MAX_PAYLOAD + 1, MAX_PAYLOAD + 2, 100_000] {
        all.push(
            Attack::new(format!("Data of {length} bytes"), "WIRE-01, DMN-08", move |aim| {
                vec![raw(0x03, length as u32, aim.session.get(), &vec![3; length])]
            })
            .client(malformed_at_client)
            .daemon(ignored_at_daemon),
        );
    }
    // Sealed Data of every size around the limits. The smallest hold no SBP frame, which is told and skipped (SBP-02).
    for length in [28_usize, 29, 45] {
        all.push(
            Attack::new(format!("sealed Data of {length} bytes, which are no SBP frame"), "SBP-02", move |aim| {
                vec![aim.line.seal_plain(&vec![0; length - NONCE_LEN - TAG_LEN]).into()]
            })
            .client(|stage| match stage {
                ClientStage::Opened => Some(Closed("malformed_frame")),
                // Before the introduction: Error 1002 and close, which is retried.
                ClientStage::Trusting | ClientStage::Keyed => Some(Retried("peer_violation")),
                ClientStage::Active => Some(GoesOn),
                ClientStage::Paused | ClientStage::Pending => None,
            })
            .daemon(|stage| match stage {
                DaemonStage::Online | DaemonStage::Active => Some(DaemonFate::GoesOn),
                DaemonStage::Keyed => Some(DaemonFate::SessionEnds("peer_violation")),
            }),
        );
    }
    for length in [MAX_PAYLOAD - 1, MAX_PAYLOAD] {
        all.push(
            Attack::new(format!("a sealed event in Data of {length} bytes"), "WIRE-01", move |aim| {
                let empty = sbp::Frame { id: aim.line.new_id(), timestamp: None, body: event("") }.encode().len();
                let room = length - NONCE_LEN - TAG_LEN - empty;
                let frame = aim.line.seal_body(event(&"x".repeat(room)));
                debug_assert_eq!(payload_of(&frame).len(), length, "at most {MAX_PLAINTEXT} bytes of plaintext");
                vec![frame.into()]
            })
            .client(|stage| (stage == ClientStage::Active).then_some(GoesOn))
            .daemon(|stage| (stage == DaemonStage::Active).then_some(DaemonFate::GoesOn))
            .delivers(1),
        );
    }
    all
}

// ---- Control ----

fn control(code: Result<ControlCode, UnknownControlCode>, session: Option<SessionId>) -> Frame {
    Frame::Control { session, code, message: "words".to_owned() }
}

/// CLI-05, CLI-11, and WIRE-05 for what the table does not have.
fn control_at_client(code: Result<ControlCode, UnknownControlCode>, stage: ClientStage) -> ClientFate {
    use ControlCode as C;
    match code {
        Ok(C::RateLimited) => GoesOn,
        Ok(C::SessionPaused | C::SessionPending | C::SessionResumed) if stage.stands() => GoesOn,
        Ok(C::Unauthorized) => Closed("unauthorized"),
        Ok(C::Forbidden) => Closed("forbidden"),
        Ok(C::DaemonNotFound) => Closed("daemon_not_found"),
        Ok(C::SessionNotFound) => Closed("session_not_found"),
        Ok(C::MalformedFrame) => Closed("malformed_frame"),
        Ok(C::PayloadTooLarge) => Closed("payload_too_large"),
        Ok(C::InvalidFrameType) => Closed("invalid_frame_type"),
        Ok(C::InvalidSessionId) => Closed("invalid_session_id"),
        Ok(C::DisallowedSender) => Closed("disallowed_sender"),
        Ok(C::DaemonOffline) => Retried("daemon_offline"),
        Ok(C::SessionExpired) => Retried("session_expired"),
        Ok(C::InternalError) => Retried("internal_error"),
        Ok(C::Backpressure) => Retried("backpressure"),
        Ok(C::SessionPaused) => Retried("session_paused"),
        Ok(C::SessionPending) => Retried("session_pending"),
        Ok(C::SessionResumed) => Retried("session_resumed"),
        Ok(C::SessionEnded) => Retried("session_ended"),
        Err(_) => Retried("unknown_code"),
    }
}

fn name_of(code: Result<ControlCode, UnknownControlCode>) -> &'static str {
    code.map_or("unknown_code", ControlCode::name)
}

fn controls() -> Vec<Attack> {
    let known = ControlCode::ALL.iter().copied().map(Ok);
    // Numbers that the table does not have, and those that never travel (WIRE-10).
    let unknown =
        [0x0000, 0x0100, 0x0303, 0x0406, 0x0602, 0x0903, 0x1005, 0xe001, 0xe002, 0xe003, 0xe004, 0xe005, 0xffff];
    let codes: Vec<_> = known.chain(unknown.into_iter().map(|code| Err(UnknownControlCode(code)))).collect();
    let mut all = Vec::new();
    for code in codes {
        let text = match code {
            Ok(code) => code.to_string(),
            Err(unknown) => unknown.to_string(),
        };
        all.push(
            Attack::new(format!("Control {text} for the session"), "CLI-05, CLI-11, DMN-10, WIRE-05", move |aim| {
                vec![control(code, Some(aim.session)).into()]
            })
            .client(move |stage| Some(control_at_client(code, stage)))
            .daemon(move |stage| {
                let frees = match code {
                    Ok(code) => code.is_terminal() || code == ControlCode::SessionEnded,
                    Err(_) => true,
                };
                Some(if frees && stage != DaemonStage::Online {
                    DaemonFate::SessionFreed(name_of(code))
                } else {
                    DaemonFate::GoesOn
                })
            }),
        );
        all.push(
            Attack::new(format!("Control {text} without a session"), "CLI-05, CLI-11, DMN-09, WIRE-05", move |_| {
                vec![control(code, None).into()]
            })
            .client(move |stage| Some(control_at_client(code, stage)))
            .daemon(move |_| {
                Some(match code {
                    Ok(ControlCode::RateLimited) => DaemonFate::GoesOn,
                    code => DaemonFate::Reconnects(name_of(code)),
                })
            }),
        );
        all.push(
            Attack::new(format!("Control {text} for another session"), "WIRE-21, DMN-06", move |_| {
                vec![control(code, Some(other_session())).into()]
            })
            .client(malformed_at_client)
            .daemon(ignored_at_daemon),
        );
    }
    for length in [0_usize, 1] {
        all.push(
            Attack::new(format!("a Control of {length} bytes"), "WIRE-02, DMN-08", move |_| {
                vec![raw(0x20, length as u32, 0, &vec![9; length])]
            })
            .client(malformed_at_client)
            .daemon(ignored_at_daemon),
        );
    }
    all.push(
        Attack::new("rate_limited with words that are not UTF-8", "WIRE-06", |_| {
            vec![raw(0x20, 6, 0, &[0x09, 0x01, 0xff, 0xfe, 0x00, 0xc0])]
        })
        .client(goes_on_at_client)
        .daemon(ignored_at_daemon),
    );
    all.push(
        Attack::new("rate_limited with 64 KiB of words that name another code", "WIRE-06", |_| {
            let mut payload = BytesMut::from(&[0x09, 0x01][..]);
            payload.resize(MAX_PAYLOAD, b'!');
            payload[2..14].copy_from_slice(b"unauthorized");
            vec![raw(0x20, MAX_PAYLOAD as u32, 0, &payload)]
        })
        .client(goes_on_at_client)
        .daemon(ignored_at_daemon),
    );
    all.push(
        Attack::new("a terminal code, and malformed frames behind it", "CLI-05, WIRE-09", |_| {
            let garbage = Throw::Message(Bytes::from_static(b"garbage"));
            vec![control(Ok(ControlCode::Backpressure), None).into(), garbage.clone(), garbage]
        })
        .client(|_| Some(Retried("backpressure")))
        .daemon(|_| Some(DaemonFate::Reconnects("backpressure"))),
    );
    all
}

// ---- floods ----

/// Many of one thing, with a moment after each hundred so that an endpoint that reads keeps up.
fn flood(count: usize, one: impl Fn(usize) -> Throw) -> Vec<Throw> {
    let breath = |at: usize| (at % 100 == 99).then_some(Throw::Wait(Duration::from_millis(1)));
    (0..count).flat_map(|at| [Some(one(at)), breath(at)]).flatten().collect()
}

fn floods() -> Vec<Attack> {
    let endless = |name: &str, rules, throws: fn(&mut Aim<'_>) -> Vec<Throw>| {
        Attack::new(name, rules, throws).client(goes_on_at_client).daemon(ignored_at_daemon)
    };
    let standing = |name: &str, throws: fn(&mut Aim<'_>) -> Vec<Throw>| {
        Attack::new(name, "CLI-11", throws)
            .client(|stage| stage.stands().then_some(GoesOn))
            .daemon(|stage| (stage == DaemonStage::Active).then_some(DaemonFate::GoesOn))
    };
    vec![
        endless("5,000 rate_limited", "REL-20, DMN-09", |_| {
            flood(5_000, |_| control(Ok(ControlCode::RateLimited), None).into())
        }),
        endless("5,000 Pings", "WIRE-20", |_| {
            flood(5_000, |at| Frame::Ping((at as u64).to_be_bytes().to_vec().into()).into())
        }),
        endless("5,000 Pongs", "WIRE-20", |_| flood(5_000, |_| Frame::Pong(Bytes::new()).into())),
        endless("5,000 WebSocket pings", "REL-22", |_| flood(5_000, |_| Throw::WsPing)),
        standing("5,000 session_pending", |aim| {
            let session = Some(aim.session);
            flood(5_000, move |_| control(Ok(ControlCode::SessionPending), session).into())
        }),
        standing("session_paused and session_resumed, 2,500 times", |aim| {
            let session = Some(aim.session);
            let code = |at| if at % 2 == 0 { ControlCode::SessionPaused } else { ControlCode::SessionResumed };
            flood(5_000, move |at| control(Ok(code(at)), session).into())
        }),
        standing("session_resumed for a session that was never paused", |aim| {
            vec![control(Ok(ControlCode::SessionResumed), Some(aim.session)).into(); 3]
        }),
        Attack::new("2,000 SBP Pongs and 2,000 SBP Errors", "SBP-05, SBP-06", |aim| {
            let error = || FrameBody::Error { code: 1002, message: "no".to_owned(), details: Bytes::new() };
            let frames: Vec<Frame> =
                (0..4_000).map(|at| aim.line.seal_body(if at % 2 == 0 { FrameBody::Pong } else { error() })).collect();
            flood(4_000, |at| frames[at].clone().into())
        })
        .client(|stage| (stage == ClientStage::Active).then_some(GoesOn))
        .daemon(|stage| (stage == DaemonStage::Active).then_some(DaemonFate::GoesOn)),
    ]
}

// ---- messages of the WebSocket ----

fn websocket() -> Vec<Attack> {
    let forbidden = |name: &str, rules, code, throws: fn(&mut Aim<'_>) -> Vec<Throw>| {
        Attack::new(name, rules, throws)
            .client(malformed_at_client)
            .daemon(|_| Some(DaemonFate::Reconnects("malformed_frame")))
            .closes_with(code)
    };
    let large = |length: usize| Throw::Message(vec![0x5a; length].into());
    vec![
        forbidden("a text message", "WIRE-03", close::UNSUPPORTED, |_| vec![Throw::Text("hello".to_owned())]),
        forbidden("an empty text message", "WIRE-03", close::UNSUPPORTED, |_| vec![Throw::Text(String::new())]),
        forbidden("a text message that looks like a frame", "WIRE-03", close::UNSUPPORTED, |_| {
            vec![Throw::Text("\u{10}\0\0\0\0\0\0\0\0\0\0\0\0".to_owned())]
        }),
        forbidden("a message of 1 MiB and one byte", "WIRE-04", close::TOO_LARGE, |_| {
            vec![Throw::Message(vec![0x5a; MAX_MESSAGE + 1].into())]
        }),
        forbidden("a message of 4 MiB", "WIRE-04", close::TOO_LARGE, |_| {
            vec![Throw::Message(vec![0x5a; 4 << 20].into())]
        }),
        forbidden("a message of 1 MiB and more in fragments", "WIRE-04", close::TOO_LARGE, |_| {
            vec![Throw::Fragments(vec![vec![0x5a; 300_000].into(); 4])]
        }),
        Attack::new("a message of 1 MiB", "WIRE-04, WIRE-12", move |_| vec![large(MAX_MESSAGE)])
            .client(malformed_at_client)
            .daemon(ignored_at_daemon),
        Attack::new("a good frame in fragments of one byte", "WIRE-18", |_| {
            let frame = Frame::Pong(Bytes::new()).encode();
            vec![Throw::Fragments((0..frame.len()).map(|at| frame.slice(at..=at)).collect())]
        })
        .client(goes_on_at_client)
        .daemon(ignored_at_daemon),
    ]
}

// ---- garbage ----

/// Noise of a length whose first byte is no frame type, so that it can never be a frame.
fn noise(length: usize, aim: &mut Aim<'_>) -> Throw {
    let mut out = vec![0; length];
    let seed = entropy::next_u64(aim.entropy);
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = (seed.rotate_left(at as u32) as u8).wrapping_mul(31).wrapping_add(at as u8);
    }
    if let Some(first) = out.first_mut() {
        *first |= 0x80;
    }
    Throw::Message(out.into())
}

fn garbage() -> Vec<Attack> {
    let edges = [65_535, 65_536, 65_548, 65_549, 65_550, MAX_MESSAGE - 1, MAX_MESSAGE];
    let lengths = (0..=200).chain(edges);
    lengths
        .map(|length| {
            Attack::new(format!("{length} bytes of garbage"), "WIRE-11, DMN-08", move |aim| vec![noise(length, aim)])
                // What garbage does in other stages the few of `out_of_place` show.
                .client(move |stage| (stage == ClientStage::Active || length < 16).then_some(Closed("malformed_frame")))
                .daemon(move |stage| (stage == DaemonStage::Active || length < 16).then_some(DaemonFate::GoesOn))
        })
        .collect()
}

// ---- closes and cuts ----

fn ends() -> Vec<Attack> {
    let codes = [
        Some(1000),
        Some(1001),
        Some(1002),
        Some(1008),
        Some(1011),
        Some(1012),
        Some(1013),
        Some(3000),
        Some(4001),
        None,
    ];
    let closes = codes.into_iter().map(|code| {
        let name = match code {
            Some(code) => format!("a close with {code}"),
            None => "a close without a code".to_owned(),
        };
        Attack::new(name, "CLI-05, DMN-01", move |_| vec![Throw::Close(code)])
            .client(|_| Some(Retried("socket_lost")))
            .daemon(move |_| {
                Some(match code {
                    Some(close::REPLACED) => DaemonFate::Ends("socket_lost"),
                    _ => DaemonFate::Reconnects("socket_lost"),
                })
            })
    });
    closes
        .chain([Attack::new("a cut", "CLI-05, DMN-01", |_| vec![Throw::Cut])
            .client(|_| Some(Retried("socket_lost")))
            .daemon(|_| Some(DaemonFate::Reconnects("socket_lost")))])
        .collect()
}
