# SPDX-License-Identifier: Apache-2.0
"""All I/O: the control plane over HTTP, the relay over WebSocket. No other module opens a connection."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import io
import json
import random
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from . import wire

TIMEOUT = 15.0  # CLI-07
PING_EVERY = 45.0  # CLI-13
SILENCE = 90.0
MAX_ANSWER = 1 << 20


class Failure(Exception):
    """Why an attempt or a connection failed: a code, whether it is final, and what is known beside."""

    def __init__(
        self, code: str, detail: str = "", *, fatal: bool = False, status: int = 0, retry_after: float = 0.0
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code, self.detail, self.fatal = code, detail, fatal
        self.status, self.retry_after = status, retry_after


class Link(Protocol):
    """One open connection to a relay, by whole messages."""

    def send(self, message: bytes) -> None:
        """Queue a message; never waits, never fails."""

    async def receive(self, until: float | None) -> bytes:
        """The next message. LinkClosed when there are no more; TimeoutError at loop time `until`."""

    async def close(self, code: int = 1000) -> None:
        """Send what is queued, then close; idempotent and prompt."""


class LinkClosed(Exception):
    """The connection is gone; `code` is the other side's close code, 1006 without one."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(f"{code} {detail}".strip())
        self.code = code


def retry_after(value: str | None) -> float:
    """CLI-06: seconds or a date, at most 120 s; 0 if there is none."""
    if not value:
        return 0.0
    with contextlib.suppress(ValueError):
        return float(min(max(int(value), 0), 120))
    try:
        return min(max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0), 120.0)
    except (ValueError, OverflowError):
        return 0.0


def backoff(attempt: int, initial: float = 1.0, longest: float = 30.0) -> float:
    """The delay before retry `attempt`, before jitter."""
    return min(initial * 2.0 ** min(attempt, 64), longest)


def client_delay(attempt: int, initial: float, longest: float) -> float:
    """CLI-04."""
    return backoff(attempt, initial, longest) * random.uniform(0.8, 1.2)


def token_claims(token: str) -> dict[str, Any]:
    """The claims of a token that the relay, not we, will verify; Failure if they cannot be read."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        if isinstance(claims, dict):
            return claims
    except (ValueError, IndexError):
        pass
    raise Failure("unreadable_answer", "the token cannot be read")


def session_id(claims: dict[str, Any]) -> int:
    """The `sid` claim as a number."""
    try:
        raw = base64.b64decode(claims["sid"] + "=", altchars=b"-_", validate=True)
    except (KeyError, TypeError, ValueError):
        raw = b""
    if len(raw) != 8 or not any(raw):
        raise Failure("unreadable_answer", "the token holds no session id")
    return int.from_bytes(raw, "big")


class _Received:
    """An answer that has arrived in full, as HTTPResponse wants to see it."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, _mode: str) -> io.BytesIO:
        """The bytes as a file."""
        return io.BytesIO(self._raw)


async def _post(url: str, headers: dict[str, str], body: bytes) -> tuple[int, str | None, bytes]:
    """One HTTP POST: status, Retry-After, body. Redirects are answers like any other."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(
        parts.hostname, port, ssl=ssl.create_default_context() if secure else None, limit=MAX_ANSWER
    )
    try:
        lines = [f"POST {parts.path} HTTP/1.1", f"host: {parts.netloc}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body)
        await writer.drain()
        raw = b""
        while len(raw) <= MAX_ANSWER and (chunk := await reader.read(65_536)):
            raw += chunk
    finally:
        writer.close()
    response = http.client.HTTPResponse(_Received(raw))  # type: ignore[arg-type]
    response.begin()
    return response.status, response.getheader("retry-after"), response.read()


async def call(
    base: str, procedure: str, token: str | None, body: Any, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """One procedure of the control plane; Failure `api_error` with the status, 0 if no answer came.

    Fatal are the statuses of CLI-05 and DMN-01 but for a 409 in Quick Connect mode, which the caller knows.
    """
    sent = {"content-type": "application/json", "accept": "application/json", **(headers or {})}
    if token:
        sent["authorization"] = f"Bearer {token}"
    url = f"{base.rstrip('/')}/api/trpc/{procedure}"
    try:
        async with asyncio.timeout(TIMEOUT):
            status, after, raw = await _post(url, sent, json.dumps(body).encode())
    except (OSError, TimeoutError, http.client.HTTPException) as error:
        raise Failure("api_error", f"{procedure}: {error or type(error).__name__}") from None
    try:
        answer = json.loads(raw)
        if status == 200:
            data = answer["result"]["data"]
            if not isinstance(data, dict):
                raise ValueError("no object")
            return data
        message = str(answer["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = "unreadable answer"
    fatal = 300 <= status < 500 and status not in (409, 429)
    raise Failure("api_error", message, fatal=fatal, status=status, retry_after=retry_after(after))


def text_members(data: dict[str, Any], *names: str) -> tuple[str, ...]:
    """Members of an answer that must be text; an unreadable answer otherwise."""
    if not all(isinstance(data.get(name), str) for name in names):
        raise Failure("unreadable_answer", "a member is missing")
    return tuple(data[name] for name in names)


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Redirects are not followed: they end the attempt."""
        return exc


async def dial(url: str, token: str) -> Link:
    """Open the WebSocket; Failure `upgrade_refused` with the status, 0 if no answer came."""
    try:
        connection = await _Connect(
            url,
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
            max_size=wire.MAX_MESSAGE,
            open_timeout=TIMEOUT,
            close_timeout=1,
            ping_interval=None,
            proxy=None,
        )
    except InvalidStatus as refused:
        status = refused.response.status_code
        fatal = 300 <= status < 500 and status not in (401, 409, 429)
        after = retry_after(refused.response.headers.get("retry-after"))
        raise Failure("upgrade_refused", f"status {status}", fatal=fatal, status=status, retry_after=after) from None
    except InvalidURI as error:
        raise Failure("upgrade_refused", str(error), fatal=True) from None
    except TimeoutError:
        raise Failure("dial_timeout", "no answer to the upgrade") from None
    except (OSError, InvalidHandshake, EOFError) as error:
        raise Failure("upgrade_refused", str(error)) from None
    return RelayLink(connection)


class RelayLink:
    """A Link over a WebSocket: pings every 45 s, gives up after 90 s of silence (CLI-13, DMN-13)."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._writer = self._loop.create_task(self._write())
        self._heard = self._loop.time()
        self._ping_at = self._heard + PING_EVERY

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await self._queue.get()
                try:
                    await self._connection.send(message)
                finally:
                    self._queue.task_done()

    def send(self, message: bytes) -> None:
        """See Link."""
        if not self._writer.done():
            self._queue.put_nowait(message)

    async def receive(self, until: float | None) -> bytes:
        """See Link."""
        while True:
            now = self._loop.time()
            if now >= self._heard + SILENCE:
                await self.close()
                raise LinkClosed(1006, "the relay fell silent")
            if now >= self._ping_at:
                self.send(wire.Frame(wire.Type.PING, 0, random.randbytes(8)).encode())
                self._ping_at = now + PING_EVERY
            if until is not None and now >= until:
                raise TimeoutError
            wake = min(self._ping_at, self._heard + SILENCE, until if until is not None else self._ping_at)
            try:
                async with asyncio.timeout_at(wake):
                    message = await self._connection.recv()
            except TimeoutError:
                continue
            except ConnectionClosed as closed:
                sent = closed.sent.code if closed.sent else 1006
                raise LinkClosed(closed.rcvd.code if closed.rcvd else sent) from None
            self._heard = self._loop.time()
            if isinstance(message, str):  # WIRE-03
                await self.close(1003)
                raise LinkClosed(1003, "a text message")
            return message

    async def close(self, code: int = 1000) -> None:
        """See Link."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                if not self._writer.done():
                    await self._queue.join()
        self._writer.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._connection.close(code)
