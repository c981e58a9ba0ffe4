# SPDX-License-Identifier: Apache-2.0
"""The client: one session as a pure state machine, and the peer that keeps one alive (CLI-01 to CLI-15)."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

from . import api, crypto, sbp, wire
from .api import Failure, Link, LinkClosed
from .rpc import MISSING, PeerError, RpcPeer
from .wire import Type

FATAL_CONTROL = {"unauthorized", "forbidden", "daemon_not_found", "session_not_found"}
CALL_BUFFER = 65_536
EVENT_BUFFER = 128


class ClientSession:
    """One SBRP session: messages in, messages out through `send`, what happened as a return value; no I/O, no clock.

    `receive` returns None or a pair: `("active", peer_id)`, `("paused", "")`, `("resumed", "")`, `("notice", name)`,
    `("trust", verdict)`, `("message", frame)`, `("error", frame)`. A Failure says that the session is over.
    """

    def __init__(
        self, session: int, daemon_id: str, policy: str, pins: dict[str, bytes], send: Callable[[bytes], None]
    ) -> None:
        self._session, self._daemon_id, self._policy, self._pins, self._send = session, daemon_id, policy, pins, send
        self._exchange = crypto.ClientHandshake(daemon_id)
        self._channel: crypto.Channel | None = None
        self._sbp = sbp.SbpSession("client-" + secrets.token_hex(8), self.send_plain)
        self.paused = False

    @property
    def established(self) -> bool:
        """Whether both introductions are done."""
        return self._sbp.open

    def start(self) -> None:
        """Open the key exchange."""
        self._send(wire.Frame(Type.HANDSHAKE_INIT, self._session, self._exchange.init_payload).encode())

    def send_plain(self, plain: bytes) -> None:
        """Seal one SBP frame and send it."""
        assert self._channel is not None
        self._send(wire.Frame(Type.DATA, self._session, self._channel.seal(plain)).encode())

    def close(self) -> None:
        """Say goodbye, if that can still be heard."""
        if self.established and not self.paused:
            self._sbp.close()

    def receive(self, message: bytes) -> tuple[str, Any] | None:
        """Take one message of the relay."""
        try:
            frame = wire.decode(message)
            frame.check_size()
        except wire.WireError as error:
            raise _malformed(error.code) from None
        if frame.type == Type.PING:
            self._send(wire.Frame(Type.PONG, 0, frame.payload).encode())
            return None
        if frame.type == Type.PONG:
            return None
        if frame.session != self._session and not (frame.type == Type.CONTROL and frame.session == 0):
            raise _malformed("another session's id")
        if frame.type == Type.CONTROL:
            return self._control(wire.control_code(frame), wire.control_text(frame))
        try:
            if frame.type == Type.HANDSHAKE_ACCEPT and self._channel is None:
                return self._accepted(frame.payload)
            if frame.type == Type.DATA and self._channel is not None:
                return self._inner(self._sbp.receive(self._channel.open(frame.payload)))
        except crypto.CryptoError as error:
            if error.code == "sequence_error":  # CRY-06: this message is refused, the session goes on
                return "notice", error.code
            self._channel = None
            raise Failure(error.code, str(error), fatal=True) from None
        raise _malformed(f"unexpected {frame.type.name}")

    def _accepted(self, payload: bytes) -> tuple[str, Any]:
        identity, keys = self._exchange.finish(payload)
        verdict = crypto.trust(self._policy, self._pins, self._daemon_id, identity)
        self._channel = keys.channel("client")
        self._sbp.start()
        return "trust", {"verdict": verdict, "fingerprint": crypto.fingerprint(identity)}

    def _inner(self, happened: tuple[str, Any] | None) -> tuple[str, Any] | None:
        if happened and happened[0] == "open":
            return "active", happened[1]
        if happened and happened[0] == "end":
            raise Failure(happened[1], fatal=happened[1] == "unsupported_version")
        return happened

    def _control(self, code: wire.Code, text: str) -> tuple[str, Any] | None:
        if code.name == "rate_limited":
            return "notice", code.name
        if code.terminal or code.name == "session_ended" or not self.established:
            raise Failure(code.name, text, fatal=code.name in FATAL_CONTROL or code.value in range(0x0400, 0x0500))
        if code.name == "session_paused":
            self.paused = True
            return "paused", ""
        if code.name == "session_resumed" and self.paused:
            self.paused = False
            return "resumed", ""
        return "notice", code.name


def _malformed(detail: str) -> Failure:
    return Failure("malformed_frame", detail, fatal=True)


class Opener(Protocol):
    """Where sessions come from. `spent`: there will be no other one. `active()` tells it that one has worked."""

    spent: bool

    async def open(self) -> tuple[str, int, Link]:
        """A new session: daemon id, session id, and a link to the relay."""

    def active(self) -> None:
        """The session became active."""


@dataclass
class AccountOpener:
    """A new session for every attempt, for an access token (CLI-01)."""

    api_url: str
    daemon_id: str
    access_token: str
    spent: bool = False
    _refused: bool = False

    async def open(self) -> tuple[str, int, Link]:
        """See Opener. One 401 of the relay may be a race with a key rotation (CLI-05)."""
        data = await api.call(self.api_url, "relay.createSession", self.access_token, {"daemonId": self.daemon_id})
        relay_url, token = api.text_members(data, "relayUrl", "token")
        session = api.session_id(api.token_claims(token))
        try:
            return self.daemon_id, session, await api.dial(relay_url, token)
        except Failure as failure:
            if failure.status == 401:
                failure.fatal, self._refused = self._refused, True
            raise

    def active(self) -> None:
        """See Opener."""
        self._refused = False


@dataclass
class QuickConnectOpener:
    """One session for a code, once (CLI-02)."""

    api_url: str
    code: str
    spent: bool = False
    _tried: bool = False

    async def open(self) -> tuple[str, int, Link]:
        """See Opener."""
        try:
            data = await api.call(self.api_url, "quickConnect.redeem", None, {"code": self.code})
            relay_url, token, daemon_id = api.text_members(data, "relayUrl", "token", "daemonId")
            session = api.session_id(api.token_claims(token))
        except Failure as failure:
            failure.fatal = failure.fatal or failure.status == 409
            if failure.status == 404 and self._tried:
                failure.detail += "; an attempt before may have used the code up"
            self._tried = True
            raise
        self.spent = True
        return daemon_id, session, await api.dial(relay_url, token)

    def active(self) -> None:
        """See Opener."""


@dataclass
class Options:
    """What a Client may be told; the defaults are those of `connect`."""

    policy: str = "auto"
    reconnect: str = "on-error"
    max_retries: int = 5
    initial_delay: float = 1.0
    max_delay: float = 30.0
    on_disconnect: str = "pause"
    handshake_timeout: float = 30.0
    pins: dict[str, bytes] = field(default_factory=dict)


class Client:
    """A peer with one daemon: calls, events and handlers that survive reconnects. `report` sees every change."""

    def __init__(
        self, opener: Opener, options: Options | None = None, report: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self._opener = opener
        self.options = options or Options()
        self._report = report or (lambda _: None)
        self._session: ClientSession | None = None
        self._link: Link | None = None
        self._waiting: deque[tuple[str, bytes, Callable[[], None]]] = deque()
        self._watchers: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._error = PeerError("peer_closed")
        self._worked = False
        self.state = "idle"
        self.rpc = RpcPeer(self)

    def start(self) -> None:
        """Begin to connect; once."""
        if self._task is None and self.state == "idle":
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def ready(self) -> None:
        """Wait until active; PeerError once closed (CLI-15)."""
        while self.state != "active":
            if self.state == "closed":
                raise self._error
            self._watchers.append(asyncio.get_running_loop().create_future())
            await self._watchers[-1]

    async def closed(self) -> None:
        """Wait until closed."""
        while self.state != "closed":
            self._watchers.append(asyncio.get_running_loop().create_future())
            await self._watchers[-1]

    async def close(self) -> None:
        """End it for good (CLI-14)."""
        if self.state == "active" and self._session:
            self._session.close()
        self._finish(PeerError("peer_closed"))
        if self._task and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait({self._task})

    def submit(self, kind: str, frame: bytes, sent: Callable[[], None]) -> None:
        """See rpc.Outlet: send now, or keep for later (CLI-09, CLI-10)."""
        if self.state == "closed":
            raise PeerError("peer_closed")
        if self.state == "active" and self._session:
            self._session.send_plain(frame)
            sent()
            return
        if kind == "call":
            if self.options.on_disconnect == "fail":
                raise PeerError("session_paused" if self.state == "paused" else "not_connected")
            held = sum(len(other) for what, other, _ in self._waiting if what == "call")
            if held + len(frame) > CALL_BUFFER:
                raise PeerError("buffer_overflow", f"more than {CALL_BUFFER} bytes wait")
        elif kind == "event":
            events = [entry for entry in self._waiting if entry[0] == "event"]
            if len(events) >= EVENT_BUFFER:
                self._waiting.remove(events[0])
        elif self.state != "paused":
            raise PeerError("not_connected")
        self._waiting.append((kind, frame, sent))

    def _set(self, state: str, **extra: Any) -> None:
        if self.state in (state, "closed"):
            return
        self.state = state
        self._report({"event": "state", "state": state, **extra})
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    def _finish(self, error: PeerError) -> None:
        if self.state == "closed":
            return
        self._error = error
        self._waiting.clear()
        self._set("closed", **({} if error.code == "peer_closed" else {"error": error.describe()}))
        self.rpc.fail_calls(PeerError("peer_closed", str(error)), sent_only=False)
        self.rpc.stop()

    async def _run(self) -> None:
        retry = 0
        try:
            while self.state != "closed":
                self._set("connecting")
                self._worked = False
                failure = await self._attempt()
                retry = 0 if self._worked else retry
                final = self._final_error(failure, retry)
                if final:
                    self._finish(final)
                    return
                delay = api.client_delay(retry, self.options.initial_delay, self.options.max_delay)
                delay = max(delay, failure.retry_after)
                retry += 1
                self._set("reconnecting", cause=failure.code, detail=failure.detail, delay=round(delay, 3))
                await asyncio.gather(asyncio.sleep(delay), self._hang_up())
        finally:
            await self._hang_up()

    def _final_error(self, failure: Failure, retry: int) -> PeerError | None:
        if failure.fatal:
            data = {"status": failure.status} if failure.status else MISSING
            return PeerError(failure.code, str(failure), data=data)
        if self._opener.spent:
            return PeerError("invalid_state", f"the connection is lost ({failure}); get a new code")
        if self.options.reconnect == "never" or 0 < self.options.max_retries <= retry:
            return PeerError("not_connected", f"no further attempt after {failure}", data={"cause": failure.code})
        return None

    async def _attempt(self) -> Failure:
        """One session from its creation to its end."""
        try:
            daemon_id, session_id, self._link = await self._opener.open()
            send, options = self._link.send, self.options
            session = ClientSession(session_id, daemon_id, options.policy, options.pins, send)
            deadline = asyncio.get_running_loop().time() + options.handshake_timeout
            self._set("negotiating", session=f"{session_id:016x}")
            self._session = session
            session.start()
            while True:
                self._take(session.receive(await self._link.receive(None if session.established else deadline)))
        except Failure as failure:
            return failure
        except TimeoutError:
            return Failure("handshake_timeout")
        except LinkClosed as closed:
            return Failure("disconnected", str(closed))
        except Exception as error:  # a fault of our own: never hang in a state that is not true
            return Failure("internal_fault", repr(error), fatal=True)
        finally:
            self._session = None
            self._waiting = deque(entry for entry in self._waiting if entry[0] in ("call", "event"))
            self.rpc.fail_calls(PeerError("not_connected", "the session is lost"), sent_only=True)
            self.rpc.stop()

    async def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link:
            await link.close()

    def _take(self, happened: tuple[str, Any] | None) -> None:
        if happened is None:
            return
        what, value = happened
        if what == "message":
            self.rpc.receive(value)
        elif what == "error":
            self.rpc.frame_error(value)
        elif what == "paused":
            self._set("paused")
        elif what in ("active", "resumed"):
            self._set("active")
            if what == "active":
                self._worked = True
                self._opener.active()
                self._report({"event": "connected", "peerId": value})
            self._flush()
        elif what == "trust":
            self._report({"event": "identity", **value})
        else:
            self._report({"event": "notice", "name": value})

    def _flush(self) -> None:
        while self._waiting and self._session:
            _, frame, sent = self._waiting.popleft()
            self._session.send_plain(frame)
            sent()
