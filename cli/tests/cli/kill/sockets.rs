//! Session tokens: each opens one socket, in all lives of the relay (REL-10).

use std::collections::BTreeSet;

use sideband_protocol::{Entropy, SessionId, entropy::next_below};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::session_of;
use crate::support::PATIENCE;

/// How many of the last tokens that were used are tried in each life.
const TRIED: usize = 6;

/// What is known of tokens.
#[derive(Debug, Default)]
pub(super) struct Book {
    fresh: Vec<String>,
    /// Those that opened a socket, or may have: the newest last.
    used: Vec<String>,
    /// Those that opened one in this life.
    of_this_life: BTreeSet<SessionId>,
    pub(super) opened: u32,
    /// How often a used one was refused as used, by a later life.
    pub(super) refused: u32,
}

impl Book {
    /// A token that nobody has used.
    pub(super) fn add(&mut self, token: String) {
        self.fresh.push(token);
    }

    /// Takes a token out to use it.
    pub(super) fn draw(&mut self, source: &mut dyn Entropy) -> Option<String> {
        let at = next_below(source, self.fresh.len().max(1) as u64) as usize;
        (at < self.fresh.len()).then(|| self.fresh.swap_remove(at))
    }

    /// An upgrade was answered, or not.
    pub(super) fn note(&mut self, token: String, status: Option<u16>) {
        match status {
            Some(101) => {
                self.of_this_life.insert(session_of(&token));
                self.opened += 1;
                self.used.push(token);
            }
            // Its key is gone.
            Some(401) => {}
            Some(status) => panic!("a token that nobody used was refused with {status}"),
            // Used or not: nobody knows.
            None => {}
        }
    }

    /// The ids that opened sockets since this was asked last.
    pub(super) fn take_opened(&mut self) -> BTreeSet<SessionId> {
        std::mem::take(&mut self.of_this_life)
    }

    /// Tokens that opened a socket in an earlier life are refused.
    pub(super) async fn check(&mut self, addr: &str) {
        for token in self.used.iter().rev().take(TRIED) {
            match upgrade(addr, token).await {
                Some(409) => self.refused += 1,
                // Its key is gone, or it has run out.
                Some(401) => {}
                other => panic!("a token that was used is answered with {other:?}"),
            }
        }
    }
}

/// Asks for a WebSocket; the status, if there is an answer. The socket is gone with it.
pub(crate) async fn upgrade(addr: &str, token: &str) -> Option<u16> {
    let request = format!(
        "GET /relay HTTP/1.1\r\nhost: {addr}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let answer = async {
        let mut stream = TcpStream::connect(addr).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut text = Vec::new();
        while text.len() < 12 {
            if stream.read_buf(&mut text).await.ok()? == 0 {
                return None;
            }
        }
        std::str::from_utf8(&text[9..12]).unwrap().parse().ok()
    };
    timeout(PATIENCE, answer).await.expect("neither an answer nor an end")
}
