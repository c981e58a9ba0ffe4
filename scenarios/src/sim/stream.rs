//! A stream on the network of a scenario: turmoil's, with a say of the [`Wire`] in each read and write.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use sideband_sim_kit::fault::{Fired, NetAction, Place};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use turmoil::net::TcpStream;

use super::{
    tap::Tap,
    wire::{LONGEST_RESEND, LOOK, RESEND, Wire},
};

/// What has arrived, and what it waits for.
struct Packet {
    bytes: Vec<u8>,
    taken: usize,
    waits: Vec<Wait>,
    sleep: Option<Pin<Box<Sleep>>>,
    resend: Duration,
    /// Whether rules and chance have been asked.
    judged: bool,
}

enum Wait {
    Time(Duration),
    Lost,
    Held(Fired<NetAction>),
}

/// Whose a stream is.
pub(super) struct Ends {
    /// The host that has it.
    pub(super) host: Arc<str>,
    /// The other one.
    pub(super) peer: Arc<str>,
    /// The addresses of dialler and listener.
    pub(super) key: (SocketAddr, SocketAddr),
    /// Its number in the run.
    pub(super) number: u64,
}

/// A stream that the network's state has a say in.
pub(super) struct WireStream {
    /// There until the end.
    inner: Option<TcpStream>,
    wire: Wire,
    ends: Ends,
    packet: Option<Packet>,
    tap: Option<(Arc<Mutex<Tap>>, u64)>,
}

enum Now {
    Whole,
    Dead,
    Reset,
    Blocked,
}

impl WireStream {
    pub(super) fn new(inner: TcpStream, wire: Wire, ends: Ends, tap: Option<(Arc<Mutex<Tap>>, u64)>) -> Self {
        Self { inner: Some(inner), wire, ends, packet: None, tap }
    }

    fn now(&self, waker: Option<&Waker>) -> Now {
        let mut state = self.wire.state();
        if let Some(waker) = waker {
            match state.readers.get_mut(&self.ends.number) {
                Some(known) => known.clone_from(waker),
                None => {
                    state.readers.insert(self.ends.number, waker.clone());
                }
            }
        }
        if !state.reset.is_empty() && state.reset.contains(&self.ends.key) {
            return Now::Reset;
        }
        let pair = || (self.ends.host.to_string(), self.ends.peer.to_string());
        if !state.cut_before.is_empty()
            && state.cut_before.get(&pair()).is_some_and(|before| self.ends.number < *before)
        {
            return Now::Reset;
        }
        if state.is_dead(self.ends.number, &self.ends.host, &self.ends.peer) {
            return Now::Dead;
        }
        if waker.is_some() && state.is_blocked(&self.ends.peer, &self.ends.host) {
            return Now::Blocked;
        }
        Now::Whole
    }

    fn inner(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Whether the packet may be taken.
    fn pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some(packet) = &mut self.packet else { return Poll::Ready(Ok(())) };
            if let Some(sleep) = &mut packet.sleep {
                ready!(sleep.as_mut().poll(cx));
                packet.sleep = None;
            }
            if !packet.judged {
                packet.judged = true;
                let mut state = self.wire.state();
                let lost = state.is_lost(&self.ends.peer, &self.ends.host);
                let fired = state.rules(&self.ends.peer, &self.ends.host);
                drop(state);
                packet.waits.extend(lost.then_some(Wait::Lost));
                for one in fired {
                    match one.action {
                        NetAction::Drop => packet.waits.push(Wait::Lost),
                        NetAction::Delay(time) => packet.waits.push(Wait::Time(time)),
                        NetAction::Hold => packet.waits.push(Wait::Held(one)),
                        NetAction::Cut => {
                            self.wire.reset(self.ends.key);
                            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                        }
                    }
                }
            }
            let pause = match packet.waits.pop() {
                None => return Poll::Ready(Ok(())),
                Some(Wait::Time(time)) => time,
                Some(Wait::Lost) => {
                    // Sent again, and at the mercy of the same rules again.
                    let pause = packet.resend;
                    packet.resend = (packet.resend * 2).min(LONGEST_RESEND);
                    packet.judged = false;
                    pause
                }
                Some(Wait::Held(fired)) => {
                    if !self.wire.state().holds(&fired) {
                        continue;
                    }
                    packet.waits.push(Wait::Held(fired));
                    LOOK
                }
            };
            packet.sleep = Some(Box::pin(sleep(pause)));
        }
    }

    fn tapped(&self, from_peer: bool, bytes: &[u8]) {
        if let Some((tap, id)) = &self.tap {
            tap.lock().unwrap_or_else(PoisonError::into_inner).see(*id, from_peer, bytes);
        }
    }
}

impl Drop for WireStream {
    fn drop(&mut self) {
        let mut state = self.wire.state();
        state.readers.remove(&self.ends.number);
        if let Some(inner) = self.inner.take()
            && let Some(of_host) = state.dying.get_mut(&*self.ends.host)
        {
            of_host.insert(self.ends.number, inner);
        }
    }
}

impl AsyncRead for WireStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match this.now(Some(cx.waker())) {
            Now::Whole => {}
            Now::Dead | Now::Blocked => return Poll::Pending,
            Now::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
        let watched = {
            let state = this.wire.state();
            !state.loss.is_empty() || state.faults.any_at(Place::Net)
        };
        if this.packet.is_none() {
            if !watched {
                let before = buf.filled().len();
                ready!(this.inner()?.poll_read(cx, buf))?;
                this.tapped(true, &buf.filled()[before..]);
                return Poll::Ready(Ok(()));
            }
            let mut bytes = vec![0; buf.remaining()];
            let mut into = ReadBuf::new(&mut bytes);
            ready!(this.inner()?.poll_read(cx, &mut into))?;
            let filled = into.filled().len();
            bytes.truncate(filled);
            this.packet =
                Some(Packet { bytes, taken: 0, waits: Vec::new(), sleep: None, resend: RESEND, judged: false });
        }
        ready!(this.pass(cx))?;
        if let Some(packet) = &mut this.packet {
            let rest = &packet.bytes[packet.taken..];
            let most = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..most]);
            packet.taken += most;
            let taken = rest[..most].to_vec();
            if packet.taken == packet.bytes.len() {
                this.packet = None;
            }
            this.tapped(true, &taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WireStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.now(None) {
            Now::Whole | Now::Blocked => {}
            Now::Dead => return Poll::Ready(Ok(buf.len())),
            Now::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
        let written = ready!(self.inner()?.poll_write(cx, buf))?;
        self.tapped(false, &buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.now(None) {
            Now::Whole | Now::Blocked => self.inner()?.poll_shutdown(cx),
            Now::Dead | Now::Reset => Poll::Ready(Ok(())),
        }
    }
}
