# SPDX-License-Identifier: Apache-2.0
"""SBP frames and the state machine of one sealed session (SBP-01 to SBP-07). Little-endian; no I/O, no clock."""

from __future__ import annotations

import json
import secrets
import struct
from dataclasses import dataclass, field
from typing import Any, Callable

CONTROL, MESSAGE, ACK, ERROR = range(4)
HANDSHAKE, PING, PONG, CLOSE = range(4)
PROTOCOL_VIOLATION, UNSUPPORTED_VERSION, INVALID_FRAME, UNSUPPORTED_FEATURE = 1000, 1001, 1002, 1003
MAX_PLAIN = 65_508
MAX_SUBJECT = 256


class SbpError(Exception):
    """A frame that breaks a rule: the SBP error code and, if it could be read, the frame's id and kind."""

    def __init__(self, code: int, text: str, frame_id: bytes | None = None, kind: int | None = None) -> None:
        super().__init__(text)
        self.code, self.text, self.frame_id, self.kind = code, text, frame_id, kind
        self.reserved_bits = False


def new_id() -> bytes:
    """SBP-01: 16 random bytes."""
    return secrets.token_bytes(16)


@dataclass
class Frame:
    """One SBP frame; which fields count depends on `kind`."""

    kind: int
    frame_id: bytes = field(default_factory=new_id)
    timestamp: int | None = None
    op: int = 0
    subject: str = ""
    data: bytes = b""
    code: int = 0
    message: str = ""

    def encode(self) -> bytes:
        """The frame's bytes."""
        head = bytes((self.kind, self.timestamp is not None)) + self.frame_id
        if self.timestamp is not None:
            head += struct.pack("<q", self.timestamp)
        if self.kind == CONTROL:
            return head + bytes((self.op,)) + self.data
        if self.kind == MESSAGE:
            subject = self.subject.encode()
            return head + struct.pack("<I", len(subject)) + subject + self.data
        if self.kind == ERROR:
            text = self.message.encode()
            return head + struct.pack("<HI", self.code, len(text)) + text + self.data
        return head + self.data


def decode(raw: bytes) -> Frame:
    """Read a frame; SbpError 1002 says what is broken (SBP-02)."""
    if len(raw) < 18:
        raise SbpError(INVALID_FRAME, "frame cut short")
    kind, flags, frame_id, rest = raw[0], raw[1], raw[2:18], raw[18:]

    def broken(text: str) -> SbpError:
        return SbpError(INVALID_FRAME, text, frame_id, kind)

    if flags & 0xFE:
        error = broken("reserved flag bits are set")
        error.reserved_bits = True
        raise error
    frame = Frame(kind, frame_id)
    if flags & 1:
        if len(rest) < 8:
            raise broken("timestamp cut short")
        (frame.timestamp,) = struct.unpack_from("<q", rest)
        rest = rest[8:]
    if kind == CONTROL:
        if not rest or rest[0] > CLOSE:
            raise broken("no known operation")
        frame.op, frame.data = rest[0], rest[1:]
        if frame.op in (PING, PONG) and frame.data or frame.op == HANDSHAKE and not frame.data:
            raise broken("wrong amount of data for the operation")
        if frame.op == CLOSE:
            _text(frame.data, broken)
    elif kind == MESSAGE:
        subject, frame.data = _counted(rest, "<I", broken)
        frame.subject = _text(subject, broken)
        if not 0 < len(subject) <= MAX_SUBJECT or "\0" in frame.subject:
            raise broken("illegal subject")
    elif kind == ACK:
        if len(rest) != 16:
            raise broken("an ack holds 16 bytes")
        frame.data = rest
    elif kind == ERROR:
        message, frame.data = _counted(rest, "<HI", broken)
        frame.code, frame.message = int.from_bytes(rest[:2], "little"), _text(message, broken)
    else:
        raise broken("unknown kind")
    return frame


def _counted(rest: bytes, layout: str, broken: Callable[[str], SbpError]) -> tuple[bytes, bytes]:
    """Split at the length that ends the fields of `layout`."""
    start = struct.calcsize(layout)
    if len(rest) < start:
        raise broken("length cut short")
    end = start + struct.unpack_from(layout, rest)[-1]
    if end > len(rest):
        raise broken("text cut short")
    return rest[start:end], rest[end:]


def _text(raw: bytes, broken: Callable[[str], SbpError]) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise broken("not UTF-8") from None


def parse_json(raw: bytes) -> Any:
    """Strict JSON in UTF-8; ValueError otherwise. NaN and infinities are no JSON."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(raw.decode(), parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def print_json(value: Any) -> bytes:
    """Compact JSON; lone surrogates, which UTF-8 cannot hold, stay escaped."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def subject_class(subject: str) -> str:
    """`rpc`, `event` or `app`; SbpError 1002 or 1003 for any other (SBP-04)."""
    if subject in ("rpc", "event"):
        return subject
    if subject.startswith("app/"):
        return "app"
    if subject == "stream" or subject.startswith("stream/"):
        raise SbpError(UNSUPPORTED_FEATURE, "streams are not supported")
    raise SbpError(INVALID_FRAME, "unknown subject")


def check_handshake(raw: bytes) -> str:
    """The peer id in a Handshake; SbpError 1001 or 1002 if it cannot be accepted (SBP-03)."""
    try:
        hello = parse_json(raw)
    except ValueError:
        raise SbpError(INVALID_FRAME, "handshake is not JSON") from None
    if not isinstance(hello, dict):
        raise SbpError(INVALID_FRAME, "handshake is no object")
    for member, ours in (("protocol", "sideband"), ("version", "1")):
        if isinstance(hello.get(member), str) and hello[member] != ours:
            raise SbpError(UNSUPPORTED_VERSION, f"unsupported {member}")
    caps = hello.get("caps", [])
    whole = (
        isinstance(hello.get("protocol"), str)
        and isinstance(hello.get("version"), str)
        and isinstance(hello.get("peerId"), str)
        and hello["peerId"]
        and isinstance(caps, list)
        and all(isinstance(cap, str) for cap in caps)
        and isinstance(hello.get("metadata", {}), dict)
    )
    if not whole:
        raise SbpError(INVALID_FRAME, "handshake is malformed")
    return str(hello["peerId"])


class SbpSession:
    """One side of one SBP session: frames in, frames out through `send`, what happened as a return value.

    `receive` returns None (nothing to do), `("open", peer_id)`, `("message", Frame)`, `("error", Frame)` or
    `("end", name)` with a name of `closed`, `protocol_violation`, `unsupported_version` or `invalid_frame`.
    """

    def __init__(self, peer_id: str, send: Callable[[bytes], None]) -> None:
        self._peer_id = peer_id
        self._send = send
        self.open = False

    def start(self) -> None:
        """Introduce ourselves, at once and unasked."""
        hello = {"protocol": "sideband", "version": "1", "peerId": self._peer_id, "caps": ["rpc"]}
        self._send(Frame(CONTROL, op=HANDSHAKE, data=print_json(hello)).encode())

    def close(self, reason: str = "") -> None:
        """Say goodbye (SBP-07)."""
        self._send(Frame(CONTROL, op=CLOSE, data=reason.encode()).encode())

    def error(self, code: int, text: str, frame_id: bytes | None) -> None:
        """Send an Error about a frame."""
        self._send(Frame(ERROR, frame_id or new_id(), code=code, message=text).encode())

    def receive(self, raw: bytes) -> tuple[str, Any] | None:
        """Take one opened frame."""
        try:
            frame = decode(raw)
        except SbpError as broken:
            if broken.kind not in (ACK, ERROR):  # SBP-06: those are never answered
                self.error(broken.code, broken.text, broken.frame_id)
            return ("end", "invalid_frame") if broken.reserved_bits or not self.open else None
        if not self.open:
            return self._introduced(frame)
        if frame.kind == CONTROL:
            if frame.op == HANDSHAKE:  # the specification is silent on a second one
                return self._refuse(SbpError(PROTOCOL_VIOLATION, "second handshake", frame.frame_id))
            if frame.op == PING:
                self._send(Frame(CONTROL, op=PONG).encode())
            return ("end", "closed") if frame.op == CLOSE else None
        if frame.kind == MESSAGE:
            try:
                subject_class(frame.subject)
            except SbpError as refused:
                self.error(refused.code, refused.text, frame.frame_id)
                return None
            return "message", frame
        return self._error_received(frame) if frame.kind == ERROR else None

    def _introduced(self, frame: Frame) -> tuple[str, Any]:
        if frame.kind == CONTROL and frame.op == HANDSHAKE:
            try:
                peer_id = check_handshake(frame.data)
            except SbpError as refused:
                refused.frame_id = frame.frame_id
                return self._refuse(refused)
            self.open = True
            return "open", peer_id
        if frame.kind in (ACK, ERROR):
            received = self._error_received(frame)
            return received if received[0] == "end" else ("end", "protocol_violation")
        return self._refuse(SbpError(PROTOCOL_VIOLATION, "handshake expected", frame.frame_id))

    def _refuse(self, error: SbpError) -> tuple[str, Any]:
        self.error(error.code, error.text, error.frame_id)
        return "end", _END.get(error.code, "invalid_frame")

    @staticmethod
    def _error_received(frame: Frame) -> tuple[str, Any]:
        if frame.kind == ERROR and frame.code in _END:
            return "end", _END[frame.code]
        return "error", frame


_END = {PROTOCOL_VIOLATION: "protocol_violation", UNSUPPORTED_VERSION: "unsupported_version"}
