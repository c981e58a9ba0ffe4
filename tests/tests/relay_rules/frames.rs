//! What the relay makes of frames (page 1).

use bytes::Bytes;
use sideband_protocol::wire::{ControlCode, Frame, Signal};
use tokio_tungstenite::tungstenite::Message;

use crate::{bench::*, witness::witnesses};

const INIT: u8 = 0x01;
const ACCEPT: u8 = 0x02;
const DATA: u8 = 0x03;
const SIGNAL: u8 = 0x04;
const PING: u8 = 0x10;
const CONTROL: u8 = 0x20;

/// A daemon and a client whose session is 1.
async fn pair(bench: &Bench) -> (Peer, Peer) {
    (bench.daemon().await, bench.client(1).await)
}

/// Every one of these, sent by a client, is refused with the code; its daemon sees nothing of it.
async fn clients_are_refused(bench: &Bench, frames: &[Bytes], code: ControlCode, close: u16) {
    let mut daemon = bench.daemon().await;
    for (n, frame) in (1..).zip(frames) {
        let mut client = bench.client(n).await;
        client.send(frame.clone());
        client.is_refused(code, 0, close).await;
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, n), "{frame:?}");
    }
}

witnesses! {
    async fn wire_01_payloads_are_at_most_65536_bytes(quirks) breaks_with [TakesLargePayloads] {
        let bench = Bench::new(quirks);
        let (mut daemon, mut client) = pair(&bench).await;
        let largest = data(1, vec![1; 65_536]);
        client.send(largest.clone());
        assert_eq!(daemon.got().await, Got::Frame(largest));
        client.send(data(1, vec![1; 65_537]));
        client.is_refused(ControlCode::PayloadTooLarge, 0, 1002).await;
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
    }

    async fn wire_03_a_text_message_closes_with_1003(quirks) breaks_with [SkipsText] {
        let bench = Bench::new(quirks);
        let (mut daemon, mut client) = pair(&bench).await;
        client.message(Message::text("hello"));
        assert_eq!(client.got().await, Got::Close(1003));
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
    }

    async fn wire_04_a_message_over_1_mib_closes_with_1009(quirks) breaks_with [TakesLargeMessages] {
        let bench = Bench::new(quirks);
        let (_daemon, mut client) = pair(&bench).await;
        client.send(data(1, vec![1; (1 << 20) - 12]));
        assert_eq!(client.got().await, Got::Close(1009));
        let mut other = bench.client(2).await;
        other.send(data(2, vec![1; (1 << 20) - 13]));
        other.is_refused(ControlCode::PayloadTooLarge, 0, 1002).await;
    }

    async fn wire_07_control_texts_name_nobody(quirks) breaks_with [NamesSessionInText] {
        let bench = Bench::new(quirks);
        let n = 0x1234_5678_9abc_def0;
        let mut early = bench.client(7).await;
        let (mut daemon, mut client) = (bench.daemon().await, bench.client(n).await);
        let mut said = vec![early.got().await];
        bench.relay.drop_daemon(DAEMON);
        said.push(client.got().await);
        assert_eq!(daemon.got().await, Got::Lost);
        let mut daemon = bench.daemon().await;
        said.push(client.got().await);
        daemon.send(signal(n, Signal::Ready));
        said.push(client.got().await);
        client.send(data(9, vec![1; 40]));
        said.extend([client.got().await, daemon.got().await]);
        for got in said {
            let Got::Frame(frame) = got else { panic!("{got:?}") };
            let Frame::Control { message, .. } = Frame::decode(&frame).unwrap() else { panic!("{frame:?}") };
            for secret in ["123456789abcdef0", "0000000000000007", "0000000000000009", DAEMON, "u_1"] {
                assert!(!message.contains(secret), "{message}");
            }
        }
    }

    async fn wire_08_an_unknown_reason_changes_nothing(quirks) breaks_with [RefusesUnknownReasons] {
        let bench = Bench::new(quirks);
        let (daemon, mut client) = pair(&bench).await;
        daemon.send(raw(SIGNAL, 2, 1, &[1, 99]));
        client.is_refused(ControlCode::SessionExpired, 1, 1000).await;
    }

    async fn wire_08_an_unknown_signal_is_malformed(quirks) breaks_with [TakesAnySignal] {
        for payload in [&[2, 0][..], &[0], &[0, 0, 0]] {
            let bench = Bench::new(quirks);
            let (mut daemon, mut client) = pair(&bench).await;
            daemon.send(raw(SIGNAL, payload.len(), 1, payload));
            daemon.is_refused(ControlCode::MalformedFrame, 0, 1002).await;
            assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
        }
    }

    async fn wire_09_only_terminal_codes_close(quirks) breaks_with [ClosesAfterEveryControl] {
        let bench = Bench::new(quirks);
        let (mut daemon, client) = pair(&bench).await;
        drop(client);
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
        daemon.is_undisturbed().await;
    }

    async fn wire_09_each_family_of_codes_has_its_close_code(quirks) breaks_with [ClosesAlikeAfterControl] {
        let bench = Bench::new(quirks);
        let mut early = bench.client(9).await;
        early.is_refused(ControlCode::DaemonOffline, 9, 1000).await;
        let (_daemon, mut client) = pair(&bench).await;
        client.send(raw(0x99, 0, 0, b""));
        client.is_refused(ControlCode::InvalidFrameType, 0, 1002).await;
        assert_eq!(client.got().await, Got::Lost);
    }

    async fn wire_11_messages_that_are_no_frame_are_malformed(quirks) breaks_with [SkipsShortFrames] {
        let bench = Bench::new(quirks);
        let frames = [
            Bytes::new(),
            Bytes::from_static(&[DATA]),
            raw(DATA, 0, 1, b"").slice(..12),
            raw(DATA, 41, 1, &[0; 40]),
            raw(DATA, 39, 1, &[0; 40]),
        ];
        clients_are_refused(&bench, &frames, ControlCode::MalformedFrame, 1002).await;
    }

    async fn wire_12_a_declared_length_too_large_goes_first(quirks) breaks_with [MindsLengthFirst] {
        let bench = Bench::new(quirks);
        let frames = [
            raw(DATA, 65_537, 1, b""),
            raw(0x99, u32::MAX as usize, 0, b""),
            raw(PING, 9, 0, b""),
            raw(PING, 9, 0, b"123456789"),
        ];
        clients_are_refused(&bench, &frames, ControlCode::PayloadTooLarge, 1002).await;
    }

    async fn wire_13_an_unknown_type_is_refused(quirks) breaks_with [SkipsUnknownTypes] {
        let bench = Bench::new(quirks);
        let frames = [0x00, 0x05, 0x12, 0x21, 0xff].map(|kind| raw(kind, 2, 1, &[0; 2]));
        clients_are_refused(&bench, &frames, ControlCode::InvalidFrameType, 1002).await;
    }

    async fn wire_14_the_session_id_fits_the_type(quirks) breaks_with [SkipsZeroSessions] {
        let bench = Bench::new(quirks);
        let frames = [
            raw(INIT, 32, 0, &[0; 32]),
            raw(ACCEPT, 128, 0, &[0; 128]),
            raw(DATA, 40, 0, &[0; 40]),
            raw(SIGNAL, 2, 0, &[0; 2]),
            raw(PING, 1, 1, b"x"),
            raw(PING + 1, 1, 1, b"x"),
        ];
        clients_are_refused(&bench, &frames, ControlCode::InvalidSessionId, 1002).await;
    }

    async fn wire_15_each_side_sends_its_own_types_only(quirks) breaks_with [SkipsDisallowed] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        let frames = [raw(ACCEPT, 128, 77, &[0; 128]), raw(SIGNAL, 1, 77, &[9]), raw(CONTROL, 2, 77, &[3, 2])];
        for (n, frame) in (1..).zip(frames) {
            let mut client = bench.client(n).await;
            client.send(frame);
            client.is_refused(ControlCode::DisallowedSender, 77, 1002).await;
            assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, n));
        }
        for frame in [raw(INIT, 32, 77, &[0; 32]), raw(CONTROL, 2, 77, &[3, 2])] {
            let mut daemon = bench.daemon().await;
            daemon.send(frame);
            daemon.is_refused(ControlCode::DisallowedSender, 77, 1002).await;
        }
    }

    async fn wire_16_a_client_speaks_for_its_own_session_only(quirks) breaks_with [TakesForeignSessions] {
        let bench = Bench::new(quirks);
        let (mut daemon, mut client) = pair(&bench).await;
        let mut other = bench.client(2).await;
        client.send(data(2, vec![1; 40]));
        client.is_refused(ControlCode::SessionNotFound, 2, 1000).await;
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
        other.is_undisturbed().await;
    }

    async fn wire_17_frames_for_a_session_that_ended_are_dropped(quirks) breaks_with [ForgetsEnded] {
        let bench = Bench::new(quirks);
        let (mut daemon, client) = pair(&bench).await;
        drop(client);
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
        daemon.send(data(1, vec![1; 40]));
        daemon.send(raw(ACCEPT, 128, 1, &[0; 128]));
        daemon.is_undisturbed().await;
    }

    async fn wire_17_frames_for_a_session_that_never_was_are_refused(quirks) breaks_with [BearsUnknownSessions] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        daemon.send(data(5, vec![1; 40]));
        daemon.is_refused(ControlCode::SessionNotFound, 5, 1000).await;
    }

    async fn wire_17_a_late_signal_is_answered_and_its_session_counts_as_ended(quirks) breaks_with [SilentOnLateSignals] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        daemon.send(signal(5, Signal::Ready));
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 5));
        daemon.send(data(5, vec![1; 40]));
        daemon.is_undisturbed().await;
    }

    async fn wire_18_frames_pass_byte_for_byte(quirks) breaks_with [ChangesBytes] {
        let bench = Bench::new(quirks);
        let (mut daemon, mut client) = pair(&bench).await;
        // Not what an endpoint would make of them: the relay does not look.
        let frames = [raw(INIT, 3, 1, b"abc"), raw(DATA, 0, 1, b""), data(1, vec![7; 65_536])];
        for frame in frames {
            client.send(frame.clone());
            assert_eq!(daemon.got().await, Got::Frame(frame));
        }
        for frame in [raw(ACCEPT, 1, 1, b"x"), data(1, vec![8; 50])] {
            daemon.send(frame.clone());
            assert_eq!(client.got().await, Got::Frame(frame));
        }
    }

    async fn wire_19_pings_are_answered_with_their_bytes_and_not_forwarded(quirks) breaks_with [IgnoresPings, PongsEmpty] {
        let bench = Bench::new(quirks);
        let (mut daemon, mut client) = pair(&bench).await;
        for payload in [&b""[..], b"1", b"12345678"] {
            for peer in [&mut daemon, &mut client] {
                peer.send(Frame::Ping(Bytes::copy_from_slice(payload)).encode());
                assert_eq!(peer.got().await, Got::Frame(Frame::Pong(Bytes::copy_from_slice(payload)).encode()));
                peer.send(Frame::Pong(Bytes::from_static(b"unasked")).encode());
            }
        }
        daemon.is_undisturbed().await;
        client.is_undisturbed().await;
    }
}
