# SPDX-License-Identifier: Apache-2.0
"""Client and daemon against each other; an in-memory pairing table stands in for the relay. `python -m unittest`."""

from __future__ import annotations

import asyncio
import unittest
from pathlib import Path
from typing import Any, Callable
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sideband_peer import api, crypto, sbp, vectors, wire
from sideband_peer.client import Client, Options
from sideband_peer.daemon import Daemon, DaemonSession, echo_service
from sideband_peer.rpc import PeerError
from sideband_peer.wire import Type

DAEMON = "d_loop"
VECTORS = Path(__file__).parent.parent / "vectors"


class MemoryLink:
    """One side's connection; what the relay pushes is received in order."""

    def __init__(self, deliver: Callable[[bytes], None], closed: Callable[[], None]) -> None:
        self._deliver, self._on_close = deliver, closed
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.open = True
        self.sent: list[wire.Frame] = []

    def send(self, message: bytes) -> None:
        if self.open:
            self.sent.append(wire.decode(message))
            self._deliver(message)

    def push(self, message: bytes) -> None:
        self._queue.put_nowait(message)

    async def receive(self, until: float | None) -> bytes:
        async with asyncio.timeout_at(until):
            message = await self._queue.get()
        if message is None:
            raise api.LinkClosed(1006)
        return message

    async def close(self, code: int = 1000) -> None:
        if self.open:
            self.open = False
            self._queue.put_nowait(None)
            self._on_close()


class MemoryRelay:
    """The pairing table of the specification, without grace and limits. `tamper` may replace a client's frames."""

    def __init__(self, resumable: bool = True) -> None:
        self.resumable = resumable
        self.returned = asyncio.Event()
        self.returned.set()
        self.daemon: MemoryLink | None = None
        self.clients: dict[int, MemoryLink] = {}
        self.states: dict[int, str] = {}
        self.spent = False
        self.tamper: Callable[[bytes], list[bytes]] = lambda message: [message]

    def active(self) -> None:
        """The client's opener is told."""

    async def open(self) -> tuple[str, int, MemoryLink]:
        """A client connects."""
        session = len(self.states) + 1
        link = MemoryLink(lambda message: self._from_client(session, message), lambda: self._client_gone(session))
        self.clients[session] = link
        self.states[session] = "paired"
        if not self.daemon:
            self._expire(session, 0x0202)
        return DAEMON, session, link

    async def accept(self) -> tuple[str, bool, MemoryLink]:
        """A daemon connects."""
        await self.returned.wait()
        self.daemon = MemoryLink(self._from_daemon, self.lose_daemon)
        for session, state in list(self.states.items()):
            if state == "paused" and self.resumable:
                self.states[session] = "pending"
                self.control(session, 0x1004)
            elif state == "paused":
                self._expire(session)
        return DAEMON, self.resumable, self.daemon

    def lose_daemon(self) -> None:
        """The daemon's socket is gone."""
        link, self.daemon = self.daemon, None
        if link:
            link.open = False
            link._queue.put_nowait(None)
            for session in [session for session, state in self.states.items() if state in ("paired", "pending")]:
                self.states[session] = "paused"
                self.control(session, 0x1001)

    def control(self, session: int, code: int) -> None:
        self.clients[session].push(wire.Frame(Type.CONTROL, session, code.to_bytes(2, "big")).encode())

    def _expire(self, session: int, code: int = 0x0302) -> None:
        self.states[session] = "ended"
        self.control(session, code)
        self.clients[session]._queue.put_nowait(None)

    def _client_gone(self, session: int) -> None:
        if self.states[session] != "ended":
            self.states[session] = "ended"
            if self.daemon:
                self.daemon.push(wire.Frame(Type.CONTROL, session, b"\x10\x03").encode())

    def _from_client(self, session: int, message: bytes) -> None:
        assert wire.relay_refusal("client", session, message) is None
        if self.daemon and self.states[session] == "paired":
            for altered in self.tamper(message):
                self.daemon.push(altered)

    def _from_daemon(self, message: bytes) -> None:
        frame = wire.decode(message)
        assert wire.relay_refusal("daemon", frame.session, message) is None
        state = self.states.get(frame.session, "ended")
        if frame.type == Type.SIGNAL and state != "ended":
            if frame.payload[0] == wire.Signal.CLOSE:
                self._expire(frame.session)
            elif state == "pending":
                self.states[frame.session] = "paired"
                self.control(frame.session, 0x1002)
        elif state == "paired":
            self.clients[frame.session].push(message)


class Dialer:
    """The daemon's way to the relay."""

    def __init__(self, relay: MemoryRelay) -> None:
        self._relay = relay

    async def open(self) -> tuple[str, bool, MemoryLink]:
        return await self._relay.accept()


class Loopback(unittest.IsolatedAsyncioTestCase):
    """Every test has a daemon, a relay and as many clients as it likes."""

    async def asyncSetUp(self) -> None:
        patched = mock.patch("sideband_peer.daemon.daemon_delay", return_value=0.01)
        patched.start()
        self.addCleanup(patched.stop)
        self.relay = MemoryRelay()
        self.sessions: list[DaemonSession] = []
        self.reports: list[dict[str, Any]] = []
        self.seen: list[dict[str, Any]] = []
        self.daemon = Daemon(Dialer(self.relay), Ed25519PrivateKey.generate(), self._serve, self.reports.append)
        self.serving = asyncio.ensure_future(self.daemon.run())
        await asyncio.sleep(0.01)

    async def asyncTearDown(self) -> None:
        self.serving.cancel()
        await asyncio.wait({self.serving})

    def _serve(self, session: DaemonSession) -> None:
        self.sessions.append(session)
        echo_service(session)

    async def client(self, **options: Any) -> Client:
        client = Client(self.relay, Options(initial_delay=0.01, **options), self.seen.append)
        self.addAsyncCleanup(client.close)
        client.start()
        await client.ready()
        return client

    def states(self) -> list[str]:
        return [line["state"] for line in self.seen if line["event"] == "state"]

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)

    async def fails(self, code: str, work: Any, wire_code: int | None = None) -> PeerError:
        with self.assertRaises(PeerError) as caught:
            await work
        self.assertEqual((caught.exception.code, caught.exception.wire_code), (code, wire_code))
        return caught.exception

    async def test_calls_and_events(self) -> None:
        client = await self.client()
        call = client.rpc.call
        self.assertEqual(await call("ping"), "pong")
        self.assertEqual(await call("echo", {"ü": [1, None, "\ud800"]}), {"ü": [1, None, "\ud800"]})
        self.assertEqual(await call("add", {"a": 2, "b": 3}), 5)
        await self.fails("rpc_error", call("boom"), 2000)
        await self.fails("rpc_error", call("add", {"a": 1}), 2000)
        await self.fails("rpc_error", call("nobody"), 1101)
        await self.fails("rpc_timeout", call("sleep", {"ms": 5000}, 0.05))
        await self.fails("message_too_large", call("echo", "x" * 65_508))
        self.assertEqual(await call("echo", "x" * 65_000), "x" * 65_000)
        slow = asyncio.ensure_future(call("sleep", {"ms": 100}))
        self.assertEqual(await call("ping"), "pong")  # RPC-06
        self.assertFalse(slow.done())
        self.assertEqual(await slow, 100)
        ticks: list[Any] = []
        client.rpc.subscribe(">", lambda name, data: 1 / 0)  # EVT-02: harms nobody
        client.rpc.subscribe("tick", lambda name, data: ticks.append(data))
        await call("tick", {"on": True})
        await self.until(lambda: ticks == [{"n": 1}])
        self.assertEqual(self.states(), ["connecting", "negotiating", "active"])

    async def test_the_daemon_calls_the_client(self) -> None:
        client = await self.client()
        client.rpc.handle("twice", lambda params: params * 2)
        await client.rpc.call("ping")
        self.assertEqual(await self.sessions[0].rpc.call("twice", 21), 42)
        with self.assertRaises(PeerError):
            client.rpc.handle("twice", lambda params: params)

    async def test_resume_goes_on_with_the_same_keys(self) -> None:
        client = await self.client()
        events: list[Any] = []
        client.rpc.subscribe("away.*", lambda name, data: events.append((name, data)))
        slow = asyncio.ensure_future(client.rpc.call("sleep", {"ms": 30}))
        await asyncio.sleep(0.01)
        self.relay.returned.clear()
        self.relay.lose_daemon()
        await self.until(lambda: client.state == "paused")
        held = asyncio.ensure_future(client.rpc.call("add", {"a": 1, "b": 1}))
        self.sessions[0].rpc.emit("away.first", 1)
        await self.fails("session_paused", self.sessions[0].rpc.call("x"))
        await asyncio.sleep(0.05)  # the slow answer is ready while the relay is away
        sequence = self.sessions[0].channel.next_sequence
        self.relay.returned.set()
        self.assertEqual((await slow, await held), (30, 2))
        self.assertEqual(events, [("away.first", 1)])
        assert self.relay.daemon
        first, second = self.relay.daemon.sent[:2]
        self.assertEqual((first.type, first.session, first.payload), (Type.SIGNAL, 1, b"\0\0"))
        self.assertEqual((second.type, second.payload[:12]), (Type.DATA, crypto.NONCE.pack(2, sequence)))
        self.assertEqual(self.states(), ["connecting", "negotiating", "active", "paused", "active"])
        self.assertEqual([line["event"] for line in self.seen].count("connected"), 1)  # CLI-12
        self.assertEqual(len(self.sessions), 1)

    async def test_without_resume_there_is_a_new_session(self) -> None:
        self.relay.resumable = False
        self.relay.lose_daemon()
        await self.until(lambda: self.relay.daemon)
        client = await self.client()
        lost = asyncio.ensure_future(client.rpc.call("sleep", {"ms": 9000}))
        await asyncio.sleep(0.01)
        self.relay.lose_daemon()
        await self.until(lambda: client.state == "paused")
        held = asyncio.ensure_future(client.rpc.call("ping"))
        await self.fails("not_connected", lost)
        self.assertEqual(await held, "pong")
        self.assertIn("reconnecting", self.states())
        self.assertEqual([line["event"] for line in self.seen].count("connected"), 2)
        self.assertFalse(any(line["event"] == "signal" for line in self.reports))

    async def test_a_handshake_cut_in_half_is_not_resumed(self) -> None:
        self.relay.tamper = lambda message: [message] if message[0] == Type.HANDSHAKE_INIT else []
        client = Client(self.relay, Options(initial_delay=0.01), self.seen.append)
        self.addAsyncCleanup(client.close)
        client.start()
        await self.until(lambda: 1 in self.relay.clients and len(self.relay.clients[1].sent) > 1)
        self.relay.tamper = lambda message: [message]
        self.relay.lose_daemon()
        wanted = {"event": "signal", "session": f"{1:016x}", "signal": "close", "reason": "state_lost"}
        await self.until(lambda: wanted in self.reports)
        await self.until(lambda: self.states()[-1] == "active")
        self.assertEqual(await client.rpc.call("ping"), "pong")

    async def test_an_overfull_session_is_closed_on_return(self) -> None:
        client = await self.client()
        self.relay.returned.clear()
        self.relay.lose_daemon()
        await self.until(lambda: client.state == "paused")
        for _ in range(3):
            self.sessions[0].rpc.emit("big", "x" * 30_000)
        self.relay.returned.set()
        await self.until(lambda: client.state == "active")
        signals = [line for line in self.reports if line["event"] == "signal"]
        self.assertEqual([(line["signal"], line["reason"]) for line in signals], [("close", "error")])

    async def test_replayed_and_forged_frames(self) -> None:
        client = await self.client()
        self.relay.tamper = lambda message: [message, message]
        self.assertEqual(await client.rpc.call("ping"), "pong")  # CRY-06: the copy is refused, no more
        self.assertEqual([line["code"] for line in self.reports if line["event"] == "refused"], ["sequence_error"])
        self.relay.tamper = lambda message: [message[:-1] + bytes((message[-1] ^ 1,))]
        await self.fails("not_connected", client.rpc.call("ping"))
        wanted = {"event": "session_ended", "session": f"{1:016x}", "reason": "decrypt_failed"}
        self.assertIn(wanted, self.reports)

    async def test_frames_that_a_client_never_receives(self) -> None:
        client = await self.client()
        self.relay.clients[1].push(wire.Frame(Type.PING, 0, b"abc").encode())
        await self.until(lambda: self.relay.clients[1].sent[-1] == wire.Frame(Type.PONG, 0, b"abc"))
        self.relay.clients[1].push(wire.signal(1, wire.Signal.READY))
        await self.until(lambda: client.state == "closed")
        await self.fails("malformed_frame", client.ready())

    async def test_broken_inner_frames(self) -> None:
        client = await self.client()
        session, answers = client._session, []
        assert session
        session._sbp.receive = lambda raw: answers.append(sbp.decode(raw))  # type: ignore[assignment]
        ids = [bytes((number,)) * 16 for number in range(5)]
        sent = [
            sbp.Frame(sbp.CONTROL, ids[0], op=sbp.PING).encode(),
            b"\x09\x00" + ids[1],  # unknown kind
            sbp.Frame(sbp.MESSAGE, ids[2], subject="stream/x").encode(),
            sbp.Frame(sbp.MESSAGE, ids[3], subject="rpc", data=b"{").encode(),
            sbp.Frame(sbp.ERROR, ids[4], code=1002).encode() + b"detail",  # never answered
            b"\x00\x80" + ids[4],  # reserved bits: the session ends
        ]
        for raw in sent:
            session.send_plain(raw)
        await self.until(lambda: client.state == "reconnecting")
        self.assertEqual((answers[0].kind, answers[0].op), (sbp.CONTROL, sbp.PONG))
        errors = [(frame.frame_id, frame.code) for frame in answers[1:]]
        self.assertEqual(errors, [(ids[1], 1002), (ids[2], 1003), (ids[3], 1002), (ids[4], 1002)])

    async def test_trust(self) -> None:
        client = await self.client()
        pins = client.options.pins
        key = pins[DAEMON]
        await self.client(policy="pinned-only", pins=pins)
        pins[DAEMON] = bytes(32)
        stranger = Client(self.relay, Options(policy="pinned-only", pins=pins))
        stranger.start()
        error = await self.fails("identity_key_changed", stranger.ready())
        self.assertIn(crypto.fingerprint(key), error.message)
        await self.client(pins=pins)
        self.assertEqual(pins[DAEMON], key)  # auto takes the new one

    async def test_a_code_serves_once(self) -> None:
        self.relay.spent = True
        client = await self.client()
        self.relay._expire(1)
        await self.until(lambda: client.state == "closed")
        await self.fails("invalid_state", client.ready())

    async def test_retries_end(self) -> None:
        client = await self.client(max_retries=2)
        self.relay.returned.clear()
        self.relay.lose_daemon()
        self.relay._expire(1)
        await self.until(lambda: client.state == "closed")
        error = await self.fails("not_connected", client.ready())
        self.assertEqual((self.states().count("reconnecting"), error.data), (2, {"cause": "daemon_offline"}))

    async def test_buffers(self) -> None:
        client = await self.client()
        self.relay.returned.clear()
        self.relay.lose_daemon()
        await self.until(lambda: client.state == "paused")
        held = asyncio.ensure_future(client.rpc.call("echo", "x" * 60_000))
        await asyncio.sleep(0)
        await self.fails("buffer_overflow", client.rpc.call("echo", "x" * 6_000))
        for number in range(130):
            client.rpc.emit("n", number)
        got: list[int] = []
        self.sessions[0].rpc.subscribe("n", lambda _, number: got.append(number))
        self.relay.returned.set()
        await held
        await self.until(lambda: len(got) == 128)
        self.assertEqual(got, list(range(2, 130)))

    async def test_close_is_final(self) -> None:
        client = await self.client()
        slow = asyncio.ensure_future(client.rpc.call("sleep", {"ms": 9000}))
        await asyncio.sleep(0.01)
        await client.close()
        await client.close()
        await self.fails("peer_closed", slow)
        await self.fails("peer_closed", client.rpc.call("ping"))
        await self.fails("peer_closed", client.ready())
        await self.until(lambda: not self.daemon.hub.sessions)
        signals = [line for line in self.reports if line["event"] == "signal"]
        self.assertEqual([(line["signal"], line["reason"]) for line in signals], [("close", "none")])

    async def test_the_daemon_closes(self) -> None:
        client = await self.client(reconnect="never")
        self.serving.cancel()
        await self.until(lambda: client.state == "closed")
        self.assertIn("shutdown", [line.get("reason") for line in self.reports if line["event"] == "signal"])


class Known(unittest.TestCase):
    """The known answers, where the folder is at hand."""

    @unittest.skipUnless(VECTORS.is_dir(), "no vectors here")
    def test_vectors(self) -> None:
        passed, failed = vectors.check(VECTORS)
        self.assertEqual(failed, [])
        self.assertGreater(sum(passed.values()), 0)


if __name__ == "__main__":
    unittest.main()
