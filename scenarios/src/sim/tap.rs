//! What a relay's sockets carry, read along: no byte of it may be plaintext of a call, an answer or an event.
//!
//! Every value that a scenario sends holds [`CANARY`]. What comes from an endpoint is masked (RFC 6455, 5.3), so the tap
//! takes the masks away; what goes to one is as it is.

use std::collections::BTreeMap;

/// The text that stands in every payload of a scenario.
pub(crate) const CANARY: &str = "sideband-canary";

/// Most bytes of an HTTP head that are kept while its end is looked for.
const MOST_HEAD: usize = 64 << 10;

/// Reads along on every tapped stream.
#[derive(Default)]
pub(crate) struct Tap {
    streams: BTreeMap<(u64, bool), Lane>,
    opened: u64,
    /// How many bytes were seen.
    pub(crate) bytes: u64,
    /// How many streams carried a canary.
    pub(crate) found: u64,
}

/// One direction of one stream.
#[derive(Default)]
struct Lane {
    /// The HTTP head, until it ends.
    head: Vec<u8>,
    upgraded: bool,
    frame: Frame,
    /// How much of the canary the last bytes are.
    matched: usize,
    caught: bool,
}

/// Where the WebSocket's parser is.
#[derive(Default)]
struct Frame {
    header: Vec<u8>,
    left: u64,
    mask: Option<[u8; 4]>,
    at: usize,
}

impl Tap {
    pub(crate) fn open(&mut self) -> u64 {
        self.opened += 1;
        self.opened
    }

    pub(crate) fn see(&mut self, stream: u64, from_peer: bool, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let lane = self.streams.entry((stream, from_peer)).or_default();
        let before = lane.caught;
        for byte in bytes {
            lane.take(*byte);
        }
        self.found += u64::from(lane.caught && !before);
    }
}

impl Lane {
    fn take(&mut self, byte: u8) {
        if !self.upgraded {
            self.look(byte);
            if self.head.len() < MOST_HEAD {
                self.head.push(byte);
            }
            self.upgraded = self.head.ends_with(b"\r\n\r\n");
            return;
        }
        let frame = &mut self.frame;
        if frame.left == 0 {
            frame.header.push(byte);
            if let Some((left, mask)) = parse(&frame.header) {
                (frame.left, frame.mask, frame.at) = (left, mask, 0);
                frame.header.clear();
            }
            return;
        }
        let plain = frame.mask.map_or(byte, |mask| byte ^ mask[frame.at % 4]);
        frame.at += 1;
        frame.left -= 1;
        self.look(plain);
    }

    fn look(&mut self, byte: u8) {
        let canary = CANARY.as_bytes();
        self.matched = match (canary.get(self.matched) == Some(&byte), byte == canary[0]) {
            (true, _) => self.matched + 1,
            (false, true) => 1,
            (false, false) => 0,
        };
        if self.matched == canary.len() {
            self.caught = true;
            self.matched = 0;
        }
    }
}

/// Length and mask, once the header is whole (RFC 6455, 5.2).
fn parse(header: &[u8]) -> Option<(u64, Option<[u8; 4]>)> {
    let second = *header.get(1)?;
    let (length, at) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(header.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(header.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    if second & 0x80 == 0 {
        return (header.len() == at).then_some((length, None));
    }
    let mask = header.get(at..at + 4)?.try_into().ok()?;
    Some((length, Some(mask)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(from_peer: bool, bytes: &[u8], chunk: usize) -> u64 {
        let mut tap = Tap::default();
        let stream = tap.open();
        for part in bytes.chunks(chunk) {
            tap.see(stream, from_peer, part);
        }
        tap.found
    }

    fn frame(mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
        let mut bytes = b"GET / HTTP/1.1\r\n\r\n".to_vec();
        let bit = if mask.is_some() { 0x80 } else { 0 };
        bytes.extend([0x82, bit | 126]);
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
        let mask = mask.unwrap_or_default();
        bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        bytes
    }

    #[test]
    fn plaintext_is_found_masked_or_not_however_it_is_cut() {
        let mut payload = vec![b's'; 200];
        payload.extend(CANARY.as_bytes());
        for chunk in [1, 7, 1_000] {
            assert_eq!(seen(true, &frame(Some([1, 2, 3, 4]), &payload), chunk), 1);
            assert_eq!(seen(false, &frame(None, &payload), chunk), 1);
            assert_eq!(seen(false, &frame(None, &payload[..210]), chunk), 0);
            let twice =
                [frame(Some([9, 8, 7, 6]), &[0; 300]), frame(Some([1, 2, 3, 4]), &payload)[18..].to_vec()].concat();
            assert_eq!(seen(true, &twice, chunk), 1);
        }
    }
}
