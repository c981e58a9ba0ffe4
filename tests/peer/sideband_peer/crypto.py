# SPDX-License-Identifier: Apache-2.0
"""Key exchange, sealed data, replay window, identity and trust (CRY-01 to CRY-13, TRU-01 to TRU-07).

Python cannot wipe memory it does not own; dropping every reference to a key is the nearest to CRY-12.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

CLIENT_TO_DAEMON = 1
DAEMON_TO_CLIENT = 2
LAST_SEQUENCE = 2**64 - 1
WINDOW = 1024
NONCE = struct.Struct(">IQ")


class CryptoError(Exception):
    """A failure with its endpoint code: handshake_failed, identity_key_changed, decrypt_failed, sequence_error."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code


def fingerprint(identity: bytes) -> str:
    """CRY-13: the printable form of an identity key."""
    return "SHA256:" + hashlib.sha256(identity).digest().hex(":").upper()


class ReplayWindow:
    """The sequences seen lately: a bit mask under the highest one (CRY-06, CRY-07)."""

    def __init__(self, size: int = WINDOW) -> None:
        self._size = size
        self._highest = -1
        self._mask = 0

    def fresh(self, sequence: int) -> bool:
        """Whether this sequence may still be accepted; changes nothing."""
        behind = self._highest - sequence
        return behind < 0 or (behind < self._size and not self._mask >> behind & 1)

    def mark(self, sequence: int) -> None:
        """Record a sequence whose message has opened (CRY-08)."""
        ahead = sequence - self._highest
        if ahead <= 0:
            self._mask |= 1 << -ahead
            return
        shifted = self._mask << ahead if ahead < self._size else 0
        self._mask = (shifted | 1) & ((1 << self._size) - 1)
        self._highest = sequence


class Channel:
    """Both directions of one session's sealed traffic."""

    def __init__(self, send_key: bytes, receive_key: bytes, send_direction: int) -> None:
        self._seal = ChaCha20Poly1305(send_key)
        self._open = ChaCha20Poly1305(receive_key)
        self._direction = send_direction
        self._window = ReplayWindow()
        self.next_sequence = 0

    def seal(self, plain: bytes) -> bytes:
        """The payload of the next Data frame; the last sequence is never used (CRY-05)."""
        if self.next_sequence >= LAST_SEQUENCE:
            raise CryptoError("sequence_error", "no sequences left")
        nonce = NONCE.pack(self._direction, self.next_sequence)
        self.next_sequence += 1
        return nonce + self._seal.encrypt(nonce, plain, None)

    def open(self, payload: bytes) -> bytes:
        """The plaintext of a Data payload, checked in the order of CRY-06."""
        nonce = payload[: NONCE.size]
        direction, sequence = NONCE.unpack(nonce)
        if direction != CLIENT_TO_DAEMON + DAEMON_TO_CLIENT - self._direction:
            raise CryptoError("decrypt_failed", "the nonce names another direction")
        if not self._window.fresh(sequence):
            raise CryptoError("sequence_error", f"sequence {sequence} was seen before or is too old")
        try:
            plain = self._open.decrypt(nonce, payload[NONCE.size :], None)
        except InvalidTag:
            raise CryptoError("decrypt_failed", "the message does not open") from None
        self._window.mark(sequence)
        return plain


@dataclass(frozen=True)
class Keys:
    """What a key exchange yields, and the values on the way to it."""

    transcript: bytes
    shared: bytes
    client_to_daemon: bytes
    daemon_to_client: bytes

    def channel(self, side: str) -> Channel:
        """The sealed channel as seen by the `client` or the `daemon`."""
        if side == "client":
            return Channel(self.client_to_daemon, self.daemon_to_client, CLIENT_TO_DAEMON)
        return Channel(self.daemon_to_client, self.client_to_daemon, DAEMON_TO_CLIENT)


def signed_digest(daemon_id: str, client_public: bytes, daemon_public: bytes) -> bytes:
    """What the daemon's identity signs."""
    return hashlib.sha256(b"sbrp-v1-handshake" + daemon_id.encode() + client_public + daemon_public).digest()


def derive(
    own: X25519PrivateKey, other: bytes, daemon_id: str, client_public: bytes, daemon_public: bytes, signature: bytes
) -> Keys:
    """X25519, then HKDF under the transcript; a low-order point is handshake_failed (CRY-03)."""
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise CryptoError("handshake_failed", "low-order ephemeral key") from None
    transcript = hashlib.sha256(
        b"sbrp-v1-transcript" + daemon_id.encode() + client_public + daemon_public + signature
    ).digest()
    keys = HKDF(SHA256(), 64, salt=transcript, info=b"sbrp-session-keys").derive(shared)
    return Keys(transcript, shared, keys[:32], keys[32:])


class ClientHandshake:
    """The client's half of one key exchange."""

    def __init__(self, daemon_id: str, private: X25519PrivateKey | None = None) -> None:
        self._daemon_id = daemon_id
        self._private = private or X25519PrivateKey.generate()
        self.init_payload = self._private.public_key().public_bytes_raw()

    def finish(self, accept: bytes) -> tuple[bytes, Keys]:
        """Verify an Accept payload of 128 bytes: the identity key that it shows, and the keys.

        The signature comes first (CRY-02); whether the identity is trusted is for the caller to ask.
        """
        identity, daemon_public, signature = accept[:32], accept[32:64], accept[64:]
        digest = signed_digest(self._daemon_id, self.init_payload, daemon_public)
        try:
            Ed25519PublicKey.from_public_bytes(identity).verify(signature, digest)
        except (InvalidSignature, ValueError):
            raise CryptoError("handshake_failed", "bad signature") from None
        keys = derive(self._private, daemon_public, self._daemon_id, self.init_payload, daemon_public, signature)
        return identity, keys


def accept_handshake(
    daemon_id: str, identity: Ed25519PrivateKey, init: bytes, private: X25519PrivateKey | None = None
) -> tuple[bytes, Keys]:
    """The daemon's half: the Accept payload and the keys."""
    private = private or X25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    signature = identity.sign(signed_digest(daemon_id, init, public))
    keys = derive(private, init, daemon_id, init, public, signature)
    return identity.public_key().public_bytes_raw() + public + signature, keys


def trust(policy: str, pins: dict[str, bytes], daemon_id: str, identity: bytes) -> str:
    """Apply `auto` or `pinned-only` to a verified identity: `pinned`, `known` or `repinned`, or CryptoError."""
    known = pins.get(daemon_id)
    if known == identity:
        return "known"
    if policy == "pinned-only":
        if known is None:
            raise CryptoError("handshake_failed", "no pinned identity")
        raise CryptoError("identity_key_changed", f"expected {fingerprint(known)}, received {fingerprint(identity)}")
    pins[daemon_id] = identity
    return "pinned" if known is None else "repinned"


def load_identity(path: Path | None) -> Ed25519PrivateKey:
    """The daemon's identity: from a file of 64 hex digits, made once with mode 0600; without a path a new one."""
    if path is None:
        return Ed25519PrivateKey.generate()
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(key.private_bytes_raw().hex() + "\n")
        return key
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
    except ValueError as error:
        raise ValueError(f"damaged identity file {path}: {error}") from None
