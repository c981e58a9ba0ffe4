# SPDX-License-Identifier: Apache-2.0
"""RPC and events on Message frames (RPC-01 to RPC-09, EVT-01, EVT-02)."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
from dataclasses import dataclass
from typing import Any, Callable, Protocol

from . import sbp

INVALID_ENVELOPE, UNSUPPORTED_METHOD, APPLICATION = 1100, 1101, 2000
MISSING: Any = type("Missing", (), {"__repr__": lambda _: "MISSING"})()
_CID = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[A-Za-z0-9_-]+")


class PeerError(Exception):
    """A failure of the peer, by its code; `wire_code` and `data` for rpc_error."""

    def __init__(self, code: str, message: str = "", wire_code: int | None = None, data: Any = MISSING) -> None:
        super().__init__(message or code)
        self.code, self.message, self.wire_code, self.data = code, message or code, wire_code, data

    def describe(self) -> dict[str, Any]:
        """The error as members of a JSON object."""
        extra = {} if self.wire_code is None else {"rpcCode": self.wire_code}
        return {"code": self.code, "message": self.message, **extra, **_some(data=self.data)}


class RpcFailure(Exception):
    """What a handler raises to answer with its own code (2000 or more)."""

    def __init__(self, code: int, message: str, data: Any = MISSING) -> None:
        super().__init__(message)
        self.code, self.data = code, data


class BadEnvelope(Exception):
    """An envelope that cannot be read; `cid` is set if an answer can still be addressed."""

    def __init__(self, cid: str | None) -> None:
        super().__init__("invalid envelope")
        self.cid = cid


def _some(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not MISSING}


@dataclass
class Envelope:
    """A parsed envelope: `t` is r, R, E or N; `name` is the method or event, `value` is p, result, data or d."""

    t: str
    cid: str = ""
    name: str = ""
    value: Any = MISSING
    code: int = 0
    message: str = ""

    def encode(self) -> bytes:
        """The envelope as JSON."""
        members: dict[str, Any] = {"t": self.t}
        if self.t == "r":
            members |= {"m": self.name, **_some(p=self.value), "cid": self.cid}
        elif self.t == "R":
            members |= {"cid": self.cid, **_some(result=self.value)}
        elif self.t == "E":
            members |= {"cid": self.cid, "code": self.code, "message": self.message, **_some(data=self.value)}
        else:
            members |= {"e": self.name, **_some(d=self.value)}
        return sbp.print_json(members)


def parse(raw: bytes) -> Envelope:
    """Read an envelope; unknown members are ignored. BadEnvelope if it is broken."""
    try:
        got = sbp.parse_json(raw)
    except ValueError:
        raise BadEnvelope(None) from None
    if not isinstance(got, dict):
        raise BadEnvelope(None)
    t, cid = got.get("t"), got.get("cid")
    if t == "N":
        return Envelope("N", name=got["e"] if isinstance(got.get("e"), str) else "", value=got.get("d", MISSING))
    if not isinstance(cid, str) or not _CID.fullmatch(cid):
        raise BadEnvelope(None)
    if t == "r" and isinstance(got.get("m"), str):
        return Envelope("r", cid, got["m"], got.get("p", MISSING))
    if t == "R":
        return Envelope("R", cid, value=got.get("result", MISSING))
    code = got.get("code")
    if t == "E" and isinstance(code, int) and not isinstance(code, bool) and isinstance(got.get("message"), str):
        return Envelope("E", cid, value=got.get("data", MISSING), code=code, message=got["message"])
    raise BadEnvelope(cid)


def valid_name(name: str) -> bool:
    """EVT-01: whether this is an event's name."""
    return len(name) <= 255 and all(_NAME.fullmatch(part) for part in name.split("."))


def valid_pattern(pattern: str) -> bool:
    """EVT-01: whether this is a pattern: a name in which `*` and a last `>` may stand for segments."""
    *head, last = pattern.split(".")
    return len(pattern) <= 255 and all(
        part == "*" or bool(_NAME.fullmatch(part)) for part in head + ([] if last == ">" else [last])
    )


def matches(pattern: str, name: str) -> bool:
    """Whether a valid pattern matches a valid name."""
    wanted, parts = pattern.split("."), name.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(parts) <= len(wanted):
            return False
        parts = parts[: len(wanted)]
    return len(wanted) == len(parts) and all(w in ("*", p) for w, p in zip(wanted, parts))


class Outlet(Protocol):
    """Where an RpcPeer's frames go: it sends, keeps or refuses (PeerError) them by `kind`: call, answer, event, error."""

    def submit(self, kind: str, frame: bytes, sent: Callable[[], None]) -> None:
        """Take one encoded SBP frame; call `sent` when it leaves."""


@dataclass
class _Pending:
    future: asyncio.Future[Any]
    timeout: float
    timer: asyncio.TimerHandle | None = None


class RpcPeer:
    """Calls, handlers, events and subscriptions of one peer; it outlives connections."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._pending: dict[str, _Pending] = {}
        self._handlers: dict[str, Callable[[Any], Any]] = {}
        self._subscriptions: list[tuple[str, Callable[[str, Any], None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, method: str, handler: Callable[[Any], Any]) -> None:
        """Register the one handler of a method; it gets the params (None if absent) and may be a coroutine."""
        if method.startswith("$sideband/"):
            raise PeerError("invalid_state", "method names under $sideband/ are reserved")
        if method in self._handlers:
            raise PeerError("rpc_method_already_registered", method)
        self._handlers[method] = handler

    def subscribe(self, pattern: str, handler: Callable[[str, Any], None]) -> None:
        """Have every matching event delivered, in order."""
        if not valid_pattern(pattern):
            raise PeerError("invalid_pattern", pattern)
        self._subscriptions.append((pattern, handler))

    def emit(self, name: str, data: Any = MISSING) -> None:
        """Send an event."""
        if not valid_name(name):
            raise PeerError("invalid_pattern", name)
        frame = self._frame("event", Envelope("N", name=name, value=data), sbp.new_id())
        self._outlet.submit("event", frame, lambda: None)

    async def call(self, method: str, params: Any = MISSING, timeout: float = 10.0) -> Any:
        """Call the other side; the result, or PeerError. The clock starts when the request leaves (RPC-05)."""
        frame_id = sbp.new_id()
        cid = frame_id.hex()
        frame = self._frame("rpc", Envelope("r", cid, method, params), frame_id)
        loop = asyncio.get_running_loop()
        pending = self._pending[cid] = _Pending(loop.create_future(), timeout)

        def expire() -> None:
            self._settle(cid, PeerError("rpc_timeout", f"no answer to {method} in {timeout} s"))

        def sent() -> None:
            pending.timer = loop.call_later(timeout, expire)

        try:
            self._outlet.submit("call", frame, sent)
            return await pending.future
        finally:
            self._pending.pop(cid, None)
            if pending.timer:
                pending.timer.cancel()

    def fail_calls(self, error: PeerError, sent_only: bool) -> None:
        """End the calls in flight, or those that wait to be sent as well."""
        for cid, pending in list(self._pending.items()):
            if pending.timer or not sent_only:
                self._settle(cid, error)

    def stop(self) -> None:
        """End the handlers that still run."""
        for task in self._tasks:
            task.cancel()

    def frame_error(self, frame: sbp.Frame) -> None:
        """The other side could not use a frame of ours: if that was a request, its call fails."""
        self._settle(frame.frame_id.hex(), PeerError("rpc_error", frame.message, frame.code))

    def receive(self, frame: sbp.Frame) -> None:
        """Take a Message frame on `rpc` or `event`; others are not for us."""
        if frame.subject not in ("rpc", "event"):
            return
        try:
            got = parse(frame.data)
        except BadEnvelope as bad:
            if frame.subject == "event":
                return
            if bad.cid:
                self._answer(Envelope("E", bad.cid, code=INVALID_ENVELOPE, message="Invalid envelope"))
            else:
                error = sbp.Frame(sbp.ERROR, frame.frame_id, code=sbp.INVALID_FRAME, message="Invalid envelope")
                self._reply("error", error.encode())
            return
        if (got.t == "N") != (frame.subject == "event"):  # RPC-04
            return
        if got.t == "N":
            self._event(got)
        elif got.t == "R":
            self._settle(got.cid, None if got.value is MISSING else got.value)
        elif got.t == "E":
            self._settle(got.cid, PeerError("rpc_error", got.message, got.code, got.value))
        elif got.name not in self._handlers:
            self._answer(Envelope("E", got.cid, code=UNSUPPORTED_METHOD, message=f"Method not found: {got.name}"))
        else:
            task = asyncio.get_running_loop().create_task(self._serve(got))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _event(self, got: Envelope) -> None:
        if not valid_name(got.name):
            return
        for pattern, handler in list(self._subscriptions):
            if matches(pattern, got.name):
                try:
                    handler(got.name, None if got.value is MISSING else got.value)
                except Exception:  # EVT-02: a failing handler stops no other
                    continue

    async def _serve(self, request: Envelope) -> None:
        try:
            result = self._handlers[request.name](None if request.value is MISSING else request.value)
            if inspect.isawaitable(result):
                result = await result
            self._answer(Envelope("R", request.cid, value=result))
        except RpcFailure as failure:
            self._answer(Envelope("E", request.cid, value=failure.data, code=failure.code, message=str(failure)))
        except Exception as error:  # a handler's failure is an answer, never the end of the session
            self._answer(Envelope("E", request.cid, code=APPLICATION, message=str(error) or type(error).__name__))

    def _answer(self, answer: Envelope) -> None:
        try:
            frame = self._frame("rpc", answer, sbp.new_id())
        except PeerError as error:
            answer = Envelope("E", answer.cid, code=APPLICATION, message=error.message)
            frame = self._frame("rpc", answer, sbp.new_id())
        self._reply("answer", frame)

    def _reply(self, kind: str, frame: bytes) -> None:
        with contextlib.suppress(PeerError):  # nobody may be left to answer
            self._outlet.submit(kind, frame, lambda: None)

    def _settle(self, cid: str, outcome: Any) -> None:
        pending = self._pending.pop(cid, None)
        if pending is None or pending.future.done():
            return
        if isinstance(outcome, PeerError):
            pending.future.set_exception(outcome)
        else:
            pending.future.set_result(outcome)

    @staticmethod
    def _frame(subject: str, envelope: Envelope, frame_id: bytes) -> bytes:
        frame = sbp.Frame(sbp.MESSAGE, frame_id, subject=subject, data=envelope.encode()).encode()
        if len(frame) > sbp.MAX_PLAIN:
            raise PeerError("message_too_large", f"{len(frame)} bytes do not fit into {sbp.MAX_PLAIN}")
        return frame
