# SPDX-License-Identifier: Apache-2.0
"""The known answers, checked against this implementation."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from . import api, crypto, rpc, sbp, wire

Case = dict[str, Any]
unhex = bytes.fromhex


def same(got: Any, wanted: Any) -> None:
    """Fail unless both are equal."""
    if got != wanted:
        raise AssertionError(f"got {got!r}, wanted {wanted!r}")


def _code_of(action: Callable[[], Any]) -> Any:
    """The code of the error that an action raises, or `ok`."""
    try:
        action()
    except (wire.WireError, crypto.CryptoError, sbp.SbpError) as error:
        return error.code
    return "ok"


def frame(case: Case) -> None:
    """An SBRP frame, both ways."""
    same(wire.Type[case["type"].upper()], case["type_byte"])
    want = wire.Frame(wire.Type(case["type_byte"]), int(case["session_id"], 16), unhex(case["payload"]))
    same(want.encode().hex(), case["encoded"])
    same(wire.decode(unhex(case["encoded"])), want)
    want.check_size()


def control(case: tuple[str, Case]) -> None:
    """A row of the table of control codes."""
    name, row = case
    scope = "S" if wire.CODES[int(row["code"], 16)].scoped else "0"
    code = wire.CODES[int(row["code"], 16)]
    same((code.name, code.terminal, scope), (name, row["terminal"], row["session_scope"]))


def largest(case: Case) -> None:
    """The largest frame."""
    seed = unhex(case["stream_seed"])
    payload = b"".join(hashlib.sha256(seed + i.to_bytes(4, "big")).digest() for i in range(2048))
    encoded = wire.Frame(wire.Type.DATA, int(case["session_id"], 16), payload).encode()
    same((len(encoded), hashlib.sha256(encoded).hexdigest()), (case["encoded_len"], case["encoded_sha256"]))
    same(wire.decode(encoded).payload, payload)


def invalid(case: Case) -> None:
    """A message that a relay refuses."""
    got = wire.relay_refusal(case["sender"], int(case["sender_session"], 16), unhex(case["bytes"]))
    want = case["expect"]
    same(got, (want["code"], int(want["session_id"], 16)))
    same(want["closes"], next(code.terminal for code in wire.CODES.values() if code.name == want["code"]))


def handshake(case: Case) -> None:
    """A key exchange from fixed keys, on both sides."""
    identity = Ed25519PrivateKey.from_private_bytes(unhex(case["identity_seed"]))
    own = X25519PrivateKey.from_private_bytes(unhex(case["client_ephemeral_private"]))
    theirs = X25519PrivateKey.from_private_bytes(unhex(case["daemon_ephemeral_private"]))
    client = crypto.ClientHandshake(case["daemon_id"], own)
    same(client.init_payload.hex(), case["init_payload"])
    accept, daemon_keys = crypto.accept_handshake(case["daemon_id"], identity, client.init_payload, theirs)
    same(accept.hex(), case["accept_payload"])
    public, keys = client.finish(accept)
    same(keys, daemon_keys)
    same((public.hex(), crypto.fingerprint(public)), (case["identity_public"], case["fingerprint"]))
    digest = crypto.signed_digest(case["daemon_id"], client.init_payload, accept[32:64])
    names = ("signature_payload", "transcript_hash", "shared_secret", "client_to_daemon_key", "daemon_to_client_key")
    values = (digest, keys.transcript, keys.shared, keys.client_to_daemon, keys.daemon_to_client)
    same([value.hex() for value in values], [case[name] for name in names])


def handshake_rejected(case: Case) -> None:
    """An Accept that a client refuses."""

    def finish() -> None:
        payload = unhex(case["accept_payload"])
        wire.Frame(wire.Type.HANDSHAKE_ACCEPT, 1, payload).check_size()
        own = X25519PrivateKey.from_private_bytes(unhex(case["client_ephemeral_private"]))
        identity, _ = crypto.ClientHandshake(case["daemon_id"], own).finish(payload)
        pins = {case["daemon_id"]: unhex(case["pinned_identity"])}
        crypto.trust("pinned-only", pins, case["daemon_id"], identity)

    same(_code_of(finish), case["expect"])


def _channels(case: Case) -> tuple[crypto.Channel, crypto.Channel]:
    """Sender and receiver of a direction."""
    key, other = unhex(case["key"]), bytes(32)
    direction = {"client_to_daemon": 1, "daemon_to_client": 2}[case["direction"]]
    return crypto.Channel(key, other, direction), crypto.Channel(other, key, 3 - direction)


def data(case: Case) -> None:
    """A sealed payload, both ways."""
    sender, receiver = _channels(case)
    sender.next_sequence = int(case["seq"])
    if sender.next_sequence < crypto.LAST_SEQUENCE:
        same(sender.seal(unhex(case["plaintext"])).hex(), case["payload"])
    same(receiver.open(unhex(case["payload"])).hex(), case["plaintext"])


def data_rejected(case: Case) -> None:
    """A payload that must not open."""

    def opened() -> None:
        wire.Frame(wire.Type.DATA, 1, unhex(case["payload"])).check_size()
        _channels(case)[1].open(unhex(case["payload"]))

    same(_code_of(opened), case["expect"])


def replay(case: Case) -> None:
    """A replay window."""
    window, got = crypto.ReplayWindow(case["window"]), []
    for sequence in map(int, case["seqs"]):
        got.append(window.fresh(sequence))
        if got[-1]:
            window.mark(sequence)
    same(got, case["accepted"])


def sbp_frame(case: Case) -> None:
    """An SBP frame, both ways."""
    kind = ("control", "message", "ack", "error").index(case["kind"])
    want = sbp.Frame(kind, unhex(case["frame_id"]), case["timestamp"])
    want.op = ("handshake", "ping", "pong", "close").index(case.get("op", "handshake"))
    want.subject, want.code, want.message = case.get("subject", ""), case.get("code", 0), case.get("message", "")
    want.data = unhex(case.get("data") or case.get("ack_frame_id") or case.get("details") or "")
    same(want.encode().hex(), case["encoded"])
    same(sbp.decode(unhex(case["encoded"])), want)


def sbp_invalid(case: Case) -> None:
    """A broken SBP frame."""
    same(_code_of(lambda: sbp.decode(unhex(case["bytes"]))), case["expect"])


def subject(case: Case) -> None:
    """A subject."""
    code = _code_of(lambda: sbp.subject_class(case["subject"]))
    same(sbp.subject_class(case["subject"]) if code == "ok" else code, case["expect"])


def sbp_handshake(case: Case) -> None:
    """An introduction."""
    same(_code_of(lambda: sbp.check_handshake(case["json"].encode())), case["expect"])


def envelope(case: Case) -> None:
    """An envelope that parses and prints again; a member that nobody knows is not kept."""
    want = json.loads(case["json"])
    if case["name"] == "unknown member is ignored":
        del want["zz"]
    same(json.loads(rpc.parse(case["json"].encode()).encode()), want)


def reaction(case: Case) -> None:
    """What a receiver without handlers does with an envelope."""
    seen: list[str] = []

    class Outlet:
        """Takes note of what would be sent."""

        def submit(self, kind: str, raw: bytes, sent: Callable[[], None]) -> None:
            """See rpc.Outlet."""
            answer = sbp.decode(raw)
            body = rpc.parse(answer.data) if answer.kind == sbp.MESSAGE else None
            seen.append(f"rpc_error_{body.code}" if body else f"error_frame_{answer.code}")
            sent()

    raw = case["json"].encode()
    rpc.RpcPeer(Outlet()).receive(sbp.Frame(sbp.MESSAGE, subject=case["channel"], data=raw))
    same(seen or ["dropped"], [case["expect"]])


def pattern(case: Case) -> None:
    """A pattern and a name."""
    same((rpc.valid_pattern(case["pattern"]), rpc.valid_name(case["event"])), (True, True))
    same(rpc.matches(case["pattern"], case["event"]), case["matches"])


def patterns(case: tuple[str, list[str]]) -> None:
    """Lists of patterns and names to refuse or to take."""
    check, want = {
        "patterns": (rpc.valid_pattern, False),
        "names": (rpc.valid_name, False),
        "valid_names": (rpc.valid_name, True),
    }[case[0]]
    same([text for text in case[1] if check(text) is not want], [])


def delay(case: Case) -> None:
    """A retry delay."""
    seconds = api.backoff(case["attempt"], case["initial_ms"] / 1000, case["max_ms"] / 1000)
    same(round(seconds * 1000), case["base_ms"])


def session(case: Case) -> None:
    """A session id in a token."""
    same(f"{api.session_id({'sid': case['sid']}):016x}", case["session_id"])


CHECKS: dict[str, dict[str, Callable[[Any], None] | None]] = {
    "sbrp_frames": {"cases": frame, "control_codes": control},
    "sbrp_largest": {"cases": largest},
    "sbrp_invalid": {"cases": invalid},
    "sbrp_handshake": {"cases": handshake, "rejected": handshake_rejected},
    "sbrp_data": {"cases": data, "rejected": data_rejected},
    "sbrp_replay": {"cases": replay},
    "sbp_frames": {"cases": sbp_frame, "invalid": sbp_invalid, "subjects": subject, "handshakes": sbp_handshake},
    "rpc_envelopes": {"cases": envelope, "reactions": reaction},
    "event_patterns": {"cases": pattern, "invalid": patterns},
    "backoff": {"cases": delay},
    # Tokens are verified by relays only; an endpoint reads their session ids.
    "tokens": {"session_ids": session, "cases": None, "jwks": None, "issuer": None, "region": None, "now": None},
}


def check(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Walk a folder: counts of what passed per list, and what failed. A file or list unknown to us fails."""
    passed: dict[str, int] = {}
    failed = [f"{name}.json: missing" for name in CHECKS if not (folder / f"{name}.json").exists()]
    for path in sorted(folder.glob("*.json")):
        for member, cases in json.loads(path.read_text()).items():
            if member in ("about", "seed"):
                continue
            label = f"{path.stem}.{member}"
            if member not in CHECKS.get(path.stem, {}):
                failed.append(f"{label}: unknown")
            test = CHECKS.get(path.stem, {}).get(member)
            for case in (cases.items() if isinstance(cases, dict) else cases) if test else ():
                try:
                    test(case)  # type: ignore[misc]
                    passed[label] = passed.get(label, 0) + 1
                except Exception as error:
                    name = case.get("name", case) if isinstance(case, dict) else case[0]
                    failed.append(f"{label}: {name}: {type(error).__name__} {error}")
    return passed, failed
