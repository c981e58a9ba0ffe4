# SPDX-License-Identifier: Apache-2.0
"""SBRP frames and control codes (WIRE-01 to WIRE-21)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct(">BIQ")
MAX_PAYLOAD = 65_536
MAX_MESSAGE = 1 << 20


class Type(IntEnum):
    """Frame types."""

    HANDSHAKE_INIT = 0x01
    HANDSHAKE_ACCEPT = 0x02
    DATA = 0x03
    SIGNAL = 0x04
    PING = 0x10
    PONG = 0x11
    CONTROL = 0x20


class Signal(IntEnum):
    """What a daemon tells the relay about one session."""

    READY = 0
    CLOSE = 1


class Reason(IntEnum):
    """Why it tells it."""

    NONE = 0
    STATE_LOST = 1
    SHUTDOWN = 2
    POLICY = 3
    ERROR = 4


@dataclass(frozen=True)
class Code:
    """One row of the table of control codes; `scoped`: the header carries the session id."""

    value: int
    name: str
    terminal: bool
    scoped: bool


CODES: dict[int, Code] = {
    value: Code(value, name, terminal, scoped)
    for value, name, terminal, scoped in (
        (0x0101, "unauthorized", True, False),
        (0x0102, "forbidden", True, False),
        (0x0201, "daemon_not_found", True, True),
        (0x0202, "daemon_offline", True, True),
        (0x0301, "session_not_found", True, True),
        (0x0302, "session_expired", True, True),
        (0x0401, "malformed_frame", True, False),
        (0x0402, "payload_too_large", True, False),
        (0x0403, "invalid_frame_type", True, False),
        (0x0404, "invalid_session_id", True, False),
        (0x0405, "disallowed_sender", True, True),
        (0x0601, "internal_error", True, False),
        (0x0901, "rate_limited", False, False),
        (0x0902, "backpressure", True, False),
        (0x1001, "session_paused", False, True),
        (0x1002, "session_resumed", False, True),
        (0x1003, "session_ended", False, True),
        (0x1004, "session_pending", False, True),
    )
}


class WireError(Exception):
    """A message that is no legal frame; `code` is the name of the control code for it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Frame:
    """One SBRP frame."""

    type: Type
    session: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """The frame as one WebSocket message."""
        if len(self.payload) > MAX_PAYLOAD:
            raise WireError("payload_too_large")
        return HEADER.pack(self.type, len(self.payload), self.session) + self.payload

    def check_size(self) -> None:
        """WIRE-02: the sizes that an endpoint insists on; a relay does not look."""
        size = len(self.payload)
        exact = {Type.HANDSHAKE_INIT: 32, Type.HANDSHAKE_ACCEPT: 128, Type.SIGNAL: 2}.get(self.type, size)
        if size != exact or (self.type == Type.DATA and size < 28) or (self.type == Type.CONTROL and size < 2):
            raise WireError("malformed_frame")


def decode(message: bytes) -> Frame:
    """Read one message, with the checks of WIRE-11 to WIRE-14 in their order."""
    if len(message) < HEADER.size:
        raise WireError("malformed_frame")
    kind, length, session = HEADER.unpack_from(message)
    if length > MAX_PAYLOAD or (kind in (Type.PING, Type.PONG) and length > 8):
        raise WireError("payload_too_large")
    if length != len(message) - HEADER.size:
        raise WireError("malformed_frame")
    try:
        frame_type = Type(kind)
    except ValueError:
        raise WireError("invalid_frame_type") from None
    if frame_type <= Type.SIGNAL and session == 0 or frame_type in (Type.PING, Type.PONG) and session != 0:
        raise WireError("invalid_session_id")
    return Frame(frame_type, session, message[HEADER.size :])


def control_code(frame: Frame) -> Code:
    """The code of a Control frame; an unknown one is terminal (WIRE-05). The text decides nothing (WIRE-06)."""
    frame.check_size()
    value = int.from_bytes(frame.payload[:2], "big")
    return CODES.get(value) or Code(value, f"unknown_0x{value:04x}", True, frame.session != 0)


def control_text(frame: Frame) -> str:
    """The human text of a Control frame."""
    return frame.payload[2:].decode("utf-8", "replace")


def signal(session: int, what: Signal, reason: Reason = Reason.NONE) -> bytes:
    """A Signal frame, encoded."""
    return Frame(Type.SIGNAL, session, bytes((what, reason))).encode()


def relay_refusal(sender: str, paired: int, message: bytes) -> tuple[str, int] | None:
    """What a relay would refuse (WIRE-11 to WIRE-17): control code name and session id, or nothing.

    No endpoint needs this; it serves the known answers and the in-memory relay of the tests.
    """
    try:
        frame = decode(message)
    except WireError as error:
        return error.code, 0
    banned = {
        "client": (Type.HANDSHAKE_ACCEPT, Type.SIGNAL, Type.CONTROL),
        "daemon": (Type.HANDSHAKE_INIT, Type.CONTROL),
    }[sender]
    if frame.type in banned:
        return "disallowed_sender", frame.session
    if frame.type == Type.SIGNAL:
        bad = len(frame.payload) != 2 or frame.payload[0] not in (Signal.READY, Signal.CLOSE)
        return ("malformed_frame", 0) if bad else None
    if frame.session not in (0, paired):
        return "session_not_found", frame.session
    return None
