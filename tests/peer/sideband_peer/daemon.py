# SPDX-License-Identifier: Apache-2.0
"""The daemon: many sessions on one relay socket, kept over reconnects (DMN-01 to DMN-16), and an echo service."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from typing import Any, Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from . import api, crypto, sbp, wire
from .api import Failure, Link, LinkClosed
from .rpc import PeerError, RpcFailure, RpcPeer
from .wire import Reason, Signal, Type

AWAY_BUFFER = 65_536
MALFORMED_IN_A_ROW = 10
Report = Callable[[dict[str, Any]], None]


class Reconnect(Exception):
    """This relay connection is of no use any more."""


class DaemonSession:
    """One client's session; pure but for the tasks of its handlers."""

    def __init__(self, hub: Hub, session: int, channel: crypto.Channel, deadline: float) -> None:
        self._hub, self.id, self.channel, self.deadline = hub, session, channel, deadline
        self._away: list[bytes] = []
        self._close_actions: list[Callable[[], None]] = []
        self.sbp = sbp.SbpSession("daemon-" + secrets.token_hex(8), self._send)
        self.rpc = RpcPeer(self)

    def submit(self, kind: str, frame: bytes, sent: Callable[[], None]) -> None:
        """See rpc.Outlet: while the relay is away answers and events wait, new calls fail (DMN-11)."""
        if self._hub.sessions.get(self.id) is not self:
            raise PeerError("peer_closed")
        if self._hub.send is not None:
            self._send(frame)
            sent()
        elif kind == "call":
            raise PeerError("session_paused")
        elif sum(map(len, self._away)) + len(frame) > AWAY_BUFFER:
            self._hub.end(self.id, "buffer_overflow", Reason.ERROR)
        else:
            self._away.append(frame)

    def on_close(self, action: Callable[[], None]) -> None:
        """Have something done when the session ends."""
        self._close_actions.append(action)

    def flush(self) -> None:
        """Send what has waited."""
        waiting, self._away = self._away, []
        for frame in waiting:
            self._send(frame)

    def stop(self) -> None:
        """The session is over."""
        for action in self._close_actions:
            action()
        self.rpc.fail_calls(PeerError("peer_closed"), sent_only=False)
        self.rpc.stop()

    def _send(self, plain: bytes) -> None:
        if self._hub.send is not None:
            self._hub.send(wire.Frame(Type.DATA, self.id, self.channel.seal(plain)).encode())


class Hub:
    """All sessions of a daemon: messages in, messages out; no I/O. `send` is None while the relay is away."""

    def __init__(
        self,
        identity: Ed25519PrivateKey,
        serve: Callable[[DaemonSession], None],
        report: Report,
        clock: Callable[[], float],
        handshake_timeout: float = 30.0,
    ) -> None:
        self._identity, self._serve, self._report, self._clock = identity, serve, report, clock
        self._handshake_timeout = handshake_timeout
        self._daemon_id = ""
        self._resumable = False
        self._owed: dict[int, Reason] = {}
        self._malformed = 0
        self.sessions: dict[int, DaemonSession] = {}
        self.send: Callable[[bytes], None] | None = None

    def connected(self, daemon_id: str, resumable: bool, send: Callable[[bytes], None]) -> None:
        """A relay connection stands: signals first, then what has waited (DMN-11)."""
        if daemon_id != self._daemon_id or not resumable:
            self._free_all("not_resumable")
            self._owed.clear()
        self._daemon_id, self._resumable, self._malformed = daemon_id, resumable, 0
        self.send = send
        owed, self._owed = self._owed, {}
        for session, reason in owed.items():
            self._signal(session, Signal.CLOSE, reason)
        for session in self.sessions:
            self._signal(session, Signal.READY, Reason.NONE)
        for live in list(self.sessions.values()):
            live.flush()

    def disconnected(self) -> None:
        """The relay connection is gone; whole sessions stay if they can be resumed (DMN-12)."""
        self.send = None
        if not self._resumable:
            self._free_all("relay_lost")
        for session in [live for live in self.sessions.values() if not live.sbp.open]:
            self.end(session.id, "state_lost", Reason.STATE_LOST)

    def end(self, session: int, why: str, reason: Reason | None) -> None:
        """End one session; with a reason the relay is told, now or when it is back (DMN-15)."""
        live = self.sessions.pop(session, None)
        if reason is not None and self.send is not None:
            self._signal(session, Signal.CLOSE, reason)
        elif reason is not None:
            self._owed[session] = reason
        if live:
            live.stop()
            self._report({"event": "session_ended", "session": f"{session:016x}", "reason": why})

    def shut_down(self) -> None:
        """DMN-16, SBP-07: a Close and a Signal for every session."""
        for live in list(self.sessions.values()):
            if live.sbp.open:
                live.sbp.close("shutdown")
            self.end(live.id, "shutdown", Reason.SHUTDOWN)

    def next_deadline(self) -> float | None:
        """When the next handshake is overdue."""
        return min((live.deadline for live in self.sessions.values() if not live.sbp.open), default=None)

    def expire(self) -> None:
        """End the sessions whose handshake is overdue (CRY-11)."""
        now = self._clock()
        for live in [live for live in self.sessions.values() if not live.sbp.open and live.deadline <= now]:
            self.end(live.id, "handshake_timeout", Reason.ERROR)

    def receive(self, message: bytes) -> None:
        """Take one message of the relay; Reconnect if the connection should be given up."""
        try:
            frame = wire.decode(message)
            code = wire.control_code(frame) if frame.type == Type.CONTROL else None
        except wire.WireError as error:
            self._malformed += 1
            self._report({"event": "malformed", "code": error.code})
            if self._malformed >= MALFORMED_IN_A_ROW:  # DMN-08
                raise Reconnect("too many malformed frames") from None
            return
        self._malformed = 0
        if code is not None:
            self._control(code, frame.session)
        elif frame.type == Type.PING and self.send is not None:
            self.send(wire.Frame(Type.PONG, 0, frame.payload).encode())
        elif frame.type <= Type.SIGNAL:
            self._session_frame(frame)

    def _control(self, code: wire.Code, session: int) -> None:
        if session == 0:
            self._report({"event": "control", "code": code.name})
            if code.name != "rate_limited":  # DMN-09
                raise Reconnect(code.name)
        elif code.terminal or code.name == "session_ended":  # DMN-10
            self.end(session, code.name, None)

    def _session_frame(self, frame: wire.Frame) -> None:
        live = self.sessions.get(frame.session)
        if live is None and frame.type != Type.HANDSHAKE_INIT:
            return  # DMN-06
        try:
            frame.check_size()
            if live is None:
                self._begin(frame)
            elif frame.type == Type.DATA:
                self._take(live, live.sbp.receive(live.channel.open(frame.payload)))
            else:
                self.end(live.id, "malformed_frame", Reason.ERROR)  # WIRE-21
        except wire.WireError as error:
            self.end(frame.session, error.code, Reason.ERROR)
        except crypto.CryptoError as error:
            if error.code == "sequence_error":  # CRY-06: this message is refused, the session goes on
                self._report({"event": "refused", "session": f"{frame.session:016x}", "code": error.code})
            else:
                self.end(frame.session, error.code, Reason.ERROR)

    def _begin(self, frame: wire.Frame) -> None:
        accept, keys = crypto.accept_handshake(self._daemon_id, self._identity, frame.payload)
        deadline = self._clock() + self._handshake_timeout
        live = DaemonSession(self, frame.session, keys.channel("daemon"), deadline)
        self.sessions[frame.session] = live
        if self.send is not None:
            self.send(wire.Frame(Type.HANDSHAKE_ACCEPT, frame.session, accept).encode())
        live.sbp.start()

    def _take(self, live: DaemonSession, happened: tuple[str, Any] | None) -> None:
        if happened is None:
            return
        what, value = happened
        if what == "open":
            self._report({"event": "session_started", "session": f"{live.id:016x}", "peerId": value})
            self._serve(live)
        elif what == "message":
            live.rpc.receive(value)
        elif what == "error":
            live.rpc.frame_error(value)
        else:
            self.end(live.id, value, Reason.NONE if value == "closed" else Reason.ERROR)

    def _signal(self, session: int, what: Signal, reason: Reason) -> None:
        assert self.send is not None
        self.send(wire.signal(session, what, reason))
        names = {"signal": what.name.lower(), "reason": reason.name.lower()}
        self._report({"event": "signal", "session": f"{session:016x}", **names})

    def _free_all(self, why: str) -> None:
        for session in list(self.sessions):
            self.end(session, why, None)


class Dialer:
    """Presence tokens and relay connections of one daemon (DMN-01 to DMN-03)."""

    def __init__(self, api_url: str, relay_url: str, api_key: str, daemon_id: str | None, resume: bool) -> None:
        self._api_url, self._relay_url, self._api_key = api_url, relay_url, api_key
        self._daemon_id, self._resume = daemon_id, resume

    async def open(self) -> tuple[str, bool, Link]:
        """A connection with a fresh token: daemon id, whether its sessions can be resumed, the link."""
        headers = {"x-sideband-resume": "1"} if self._resume else {}
        data = await api.call(self._api_url, "daemon.renewToken", self._api_key, None, headers)
        (token,) = api.text_members(data, "presenceToken")
        claims = api.token_claims(token)
        (daemon_id,) = api.text_members(claims, "did")
        if self._daemon_id not in (None, daemon_id):
            raise Failure("api_error", "the API key belongs to another daemon", fatal=True, status=400)
        scopes = claims.get("scp")
        resumable = isinstance(scopes, list) and "session:resume" in scopes
        return daemon_id, resumable, await api.dial(self._relay_url, token)


class Daemon:
    """Keeps a Hub connected until it is closed or refused for good."""

    def __init__(self, dialer: Any, identity: Ed25519PrivateKey, serve: Callable[[DaemonSession], None], report: Report):
        self._dialer, self._report = dialer, report
        self.hub = Hub(identity, serve, report, lambda: asyncio.get_running_loop().time())
        self._connections = 0
        self._abandoned = -1e9

    async def run(self) -> None:
        """Serve for ever; Failure when the daemon is refused (DMN-01). Cancel it to close."""
        attempt = 0
        try:
            while True:
                try:
                    daemon_id, resumable, link = await self._dialer.open()
                except Failure as failure:
                    if failure.fatal:
                        raise
                    if failure.code == "dial_timeout":
                        self._abandoned = asyncio.get_running_loop().time()
                    self._report({"event": "retry", "code": failure.code, "detail": failure.detail})
                    await asyncio.sleep(max(daemon_delay(attempt), failure.retry_after))
                    attempt += 1
                    continue
                code, lasted = await self._connection(daemon_id, resumable, link)
                attempt = 0 if lasted else attempt
                clean = lasted and code in (1000, 1001, 1012)
                await asyncio.sleep(random.uniform(0, 2) if clean else daemon_delay(attempt))
                attempt += 0 if clean else 1
        finally:
            self.hub.shut_down()

    async def _connection(self, daemon_id: str, resumable: bool, link: Link) -> tuple[int, bool]:
        """One relay connection: its close code, and whether it lasted."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        self._connections += 1
        self.hub.connected(daemon_id, resumable, link.send)
        name = "ready" if self._connections == 1 else "reconnected"
        self._report({"event": name, "daemonId": daemon_id, "resumable": resumable, "connections": self._connections})
        try:
            code = await self._pump(link)
        except asyncio.CancelledError:
            self.hub.shut_down()  # while it can still be sent
            raise
        finally:
            self.hub.disconnected()
            await link.close()
        self._report({"event": "disconnected", "code": code})
        if code == 4001 and loop.time() - self._abandoned > 60:
            raise Failure("replaced", "another process has taken this daemon's place", fatal=True)
        return code, loop.time() - started >= 5

    async def _pump(self, link: Link) -> int:
        while True:
            try:
                self.hub.receive(await link.receive(self.hub.next_deadline()))
            except TimeoutError:
                self.hub.expire()
            except LinkClosed as closed:
                return closed.code
            except Reconnect as reason:
                self._report({"event": "giving_up", "reason": str(reason)})
                return 1006


def daemon_delay(attempt: int) -> float:
    """DMN-04."""
    return api.backoff(attempt) + random.uniform(0, 0.5)


def echo_service(session: DaemonSession) -> None:
    """The methods of the echo daemon."""
    ticking: list[asyncio.Task[None]] = []

    async def ticks() -> None:
        number = 0
        while True:
            await asyncio.sleep(1)
            number += 1
            with contextlib.suppress(PeerError):
                session.rpc.emit("tick", {"n": number})

    def tick(params: Any) -> Any:
        on = bool(params and params.get("on"))
        while ticking and not on:
            ticking.pop().cancel()
        if on and not ticking:
            ticking.append(asyncio.get_running_loop().create_task(ticks()))
        return {"on": on}

    def boom(_: Any) -> Any:
        raise RpcFailure(2000, "boom")

    async def sleep(params: Any) -> Any:
        await asyncio.sleep(params["ms"] / 1000)
        return params["ms"]

    session.rpc.handle("ping", lambda _: "pong")
    session.rpc.handle("echo", lambda params: params)
    session.rpc.handle("add", lambda params: params["a"] + params["b"])
    session.rpc.handle("boom", boom)
    session.rpc.handle("sleep", sleep)
    session.rpc.handle("tick", tick)
    session.on_close(lambda: tick(None))
