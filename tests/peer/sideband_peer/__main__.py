# SPDX-License-Identifier: Apache-2.0
"""The commands: `client`, `daemon`, `vectors`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from . import vectors
from .api import Failure
from .client import AccountOpener, Client, Opener, Options, QuickConnectOpener
from .crypto import load_identity
from .daemon import Daemon, Dialer, echo_service
from .rpc import MISSING, PeerError


def say(line: dict[str, Any]) -> None:
    """One line of NDJSON."""
    print(json.dumps(line), flush=True)


def opener(args: argparse.Namespace, command: dict[str, Any]) -> Opener:
    """Where sessions come from: a code if there is one, else the account. A command overrides the arguments."""
    api_url = command.get("apiUrl") or args.api_url
    if not api_url:
        raise SystemExit("--api-url or SIDEBAND_API_URL is needed")
    daemon_id, code = command.get("daemonId") or args.daemon_id, command.get("code")
    access_token = command.get("accessToken") or args.access_token
    if not code and not command.get("daemonId"):
        code = args.code
    if code:
        return QuickConnectOpener(api_url, code.rpartition("#qc=")[2])
    if not daemon_id or not access_token:
        raise SystemExit("either a code or a daemon id and an access token are needed")
    return AccountOpener(api_url, daemon_id, access_token)


async def client_call(args: argparse.Namespace) -> int:
    """One call, its result on stdout."""
    client = Client(opener(args, {}), Options(reconnect=args.reconnect))
    client.start()
    try:
        params = json.loads(args.params) if args.params is not None else MISSING
        await client.ready()
        print(json.dumps(await client.rpc.call(args.method, params, args.timeout)))
        return 0
    except PeerError as error:
        print(json.dumps({"error": error.describe()}), file=sys.stderr)
        return 1
    finally:
        await client.close()


async def client_listen(args: argparse.Namespace) -> int:
    """Print events until there were enough."""
    client = Client(opener(args, {}), Options(reconnect=args.reconnect))
    queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    try:
        client.rpc.subscribe(args.pattern, lambda name, data: queue.put_nowait({"name": name, "data": data}))
        client.start()
        await client.ready()
        for command in args.call or ():
            method, _, params = command.partition(" ")
            await client.rpc.call(method, json.loads(params) if params else MISSING, args.timeout)
        seen = 0
        while args.count == 0 or seen < args.count:
            waiting = asyncio.ensure_future(queue.get())
            closed = asyncio.ensure_future(client.closed())
            await asyncio.wait({waiting, closed}, return_when=asyncio.FIRST_COMPLETED)
            closed.cancel()
            if not waiting.done():
                waiting.cancel()
                await client.ready()  # raises what ended it
            say(await waiting)
            seen += 1
        return 0
    except PeerError as error:
        print(json.dumps({"error": error.describe()}), file=sys.stderr)
        return 1
    finally:
        await client.close()


class Script:
    """NDJSON commands in, NDJSON events out: a shim for automated tests. The README lists the commands."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._client: Client | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Until the input ends and the calls that it made have ended."""
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def read() -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be gone
                for line in sys.stdin.buffer:
                    loop.call_soon_threadsafe(lines.put_nowait, line)
                loop.call_soon_threadsafe(lines.put_nowait, b"")

        threading.Thread(target=read, daemon=True).start()
        while line := await lines.get():
            if line.strip():
                await self._line(line)
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._client:
            await self._client.close()
        return 0

    async def _line(self, line: bytes) -> None:
        try:
            command = json.loads(line)
            name = command["cmd"]
        except (ValueError, TypeError, KeyError):
            say({"event": "error", "code": "bad_command", "message": "expected an object with cmd"})
            return
        action = getattr(self, f"do_{name}", None) if isinstance(name, str) and name.isidentifier() else None
        if action is None:
            say({"unsupported": name})
            return
        try:
            await action(command)
        except (PeerError, SystemExit, KeyError, TypeError, ValueError) as error:
            self._error(command, error)

    def _error(self, command: dict[str, Any], error: BaseException) -> None:
        known = error.describe() if isinstance(error, PeerError) else {"code": "bad_command", "message": str(error)}
        say({"event": "error", "cmd": command["cmd"], "id": command.get("id"), **known})

    def _peer(self) -> Client:
        if self._client is None:
            raise PeerError("not_connected", "connect first")
        return self._client

    def _spawn(self, command: dict[str, Any], work: Any) -> None:
        async def run() -> None:
            try:
                say({"event": "result", "id": command.get("id"), "result": await work})
            except (PeerError, TypeError, ValueError) as error:
                self._error(command, error)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def do_connect(self, command: dict[str, Any]) -> None:
        """Make the peer and begin to connect; a second one closes the first but keeps its pins."""
        names = {
            "policy": "policy", "reconnect": "reconnect", "maxRetries": "max_retries", "onDisconnect": "on_disconnect",
            "initialDelay": "initial_delay", "maxDelay": "max_delay", "handshakeTimeout": "handshake_timeout",
        }  # fmt: skip
        options = Options(**{names[key]: value for key, value in command.items() if key in names})
        source = opener(self._args, command)
        if self._client:
            await self._client.close()
            options.pins = self._client.options.pins
        self._client = Client(source, options, say)
        self._client.start()

    async def do_call(self, command: dict[str, Any]) -> None:
        """Call; the answer comes as a result or an error with the same id."""
        timeout = command.get("timeout", 10.0)
        self._spawn(command, self._peer().rpc.call(command["method"], command.get("params", MISSING), timeout))
        await asyncio.sleep(0)  # calls leave in the order of their commands

    async def do_emit(self, command: dict[str, Any]) -> None:
        """Send an event."""
        self._peer().rpc.emit(command["name"], command.get("data", MISSING))

    async def do_subscribe(self, command: dict[str, Any]) -> None:
        """Print matching events."""
        pattern = command["pattern"]
        self._peer().rpc.subscribe(
            pattern, lambda name, data: say({"event": "event", "pattern": pattern, "name": name, "data": data})
        )

    async def do_handle(self, command: dict[str, Any]) -> None:
        """Answer a method with a fixed result, or with the params if there is none."""
        self._peer().rpc.handle(command["method"], lambda params: command.get("result", params))

    async def do_state(self, command: dict[str, Any]) -> None:
        """Print the state."""
        state = self._client.state if self._client else "idle"
        say({"event": "state", "id": command.get("id"), "state": state, "asked": True})

    async def do_wait(self, command: dict[str, Any]) -> None:
        """Print a result once active, an error once closed."""
        self._spawn(command, self._peer().ready())

    async def do_close(self, _: dict[str, Any]) -> None:
        """Close the peer."""
        await self._peer().close()


async def client_script(args: argparse.Namespace) -> int:
    """Commands on stdin."""
    return await Script(args).run()


async def daemon(args: argparse.Namespace) -> int:
    """The echo daemon."""
    for value, name in ((args.api_url, "--api-url"), (args.relay_url, "--relay-url"), (args.api_key, "--api-key")):
        if not value:
            raise SystemExit(f"{name} or its variable is needed")
    dialer = Dialer(args.api_url, args.relay_url, args.api_key, args.daemon_id, not args.no_resume)
    server = Daemon(dialer, load_identity(args.identity), echo_service, say)
    task = asyncio.ensure_future(server.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        say({"event": "closed"})
    except Failure as failure:
        say({"event": "fatal", "code": failure.code, "status": failure.status, "message": str(failure)})
        return 1
    return 0


def run_vectors(folder: Path) -> int:
    """Check the known answers in a folder."""
    passed, failed = vectors.check(folder)
    for label, count in passed.items():
        print(f"{label}: {count} passed")
    for line in failed:
        print(f"FAILED {line}")
    print(f"{sum(passed.values())} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


def main() -> int:
    """Parse the arguments and run a command."""
    env = os.environ.get
    parser = argparse.ArgumentParser(prog="sideband_peer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    both = argparse.ArgumentParser(add_help=False)
    both.add_argument("--api-url", default=env("SIDEBAND_API_URL"))
    both.add_argument("--daemon-id", default=env("SIDEBAND_DAEMON_ID"))
    client = commands.add_parser("client", parents=[both])
    client.add_argument("--access-token", default=env("SIDEBAND_ACCESS_TOKEN"))
    client.add_argument("--code", default=env("SIDEBAND_QUICK_CONNECT"))
    client.add_argument("--reconnect", choices=("never", "on-error"), default="on-error")
    client.add_argument("--timeout", type=float, default=10.0, help="seconds for a call")
    actions = client.add_subparsers(dest="action", required=True)
    call = actions.add_parser("call")
    call.add_argument("method")
    call.add_argument("params", nargs="?")
    listen = actions.add_parser("listen")
    listen.add_argument("pattern")
    listen.add_argument("--count", type=int, default=0, help="stop after so many; 0: never")
    listen.add_argument("--call", action="append", metavar="'METHOD [JSON]'", help="call this once connected")
    actions.add_parser("script")
    serve = commands.add_parser("daemon", parents=[both])
    serve.add_argument("--relay-url", default=env("SIDEBAND_RELAY_URL"))
    serve.add_argument("--api-key", default=env("SIDEBAND_API_KEY"))
    serve.add_argument("--identity", type=Path)
    serve.add_argument("--no-resume", action="store_true")
    known = commands.add_parser("vectors")
    known.add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.command == "vectors":
        return run_vectors(args.folder)
    if args.command == "daemon":
        return asyncio.run(daemon(args))
    runners = {"call": client_call, "listen": client_listen, "script": client_script}
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(runners[args.action](args))
    return 130


if __name__ == "__main__":
    sys.exit(main())
