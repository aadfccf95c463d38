"""The server: its socket, its signals and its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from birdsearch.errors import BirdsearchError
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.service.app import create_app
from birdsearch.search.service.connections import ConnectionLimits, protocol
from birdsearch.search.service.options import ServeOptions

__all__ = ["Server", "listen", "serve"]

# Seconds that running requests get when the service is stopped.
_GRACE_S = 10
# Seconds that they get once no client waits for them.
_LAST_S = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, so that a port that is taken is known before anything is loaded.

    Args:
        host: Name or address of this machine.
        port: Port; 0 takes a free one.

    Raises:
        BirdsearchError: The address cannot be had.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise BirdsearchError(f"{host}: not an address of this machine ({error.strerror})") from error
    opened = socket.socket(family, kind, number)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError as error:
        opened.close()
        raise BirdsearchError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another --port (0 takes a free one)"
        ) from error
    return opened


class Server(uvicorn.Server):
    """Serves a catalog until it is asked to stop.

    Args:
        app: The app.
        bound: The socket to listen on; closed at the end.
        limits: What connections may take.
        on_listening: Called with the URL once requests are answered.
    """

    def __init__(
        self,
        app: FastAPI,
        bound: socket.socket,
        limits: ConnectionLimits,
        on_listening: Callable[[str], None],
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=cast(Any, protocol(limits)),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=limits.idle_s,
                timeout_graceful_shutdown=_GRACE_S,
                h11_max_incomplete_event_size=limits.header_bytes,
            )
        )
        self._app = app
        self._bound = bound
        self._on_listening = on_listening

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._bound.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def serve_until_stopped(self) -> None:
        """Answer requests until SIGINT, SIGTERM or `stop`; running requests are finished."""
        try:
            self.run(sockets=[self._bound])
        finally:
            self._bound.close()

    def stop(self) -> None:
        """Stop soon; may be called by any thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self._on_listening(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End streams first: they would be waited for."""
        self._app.state.service.stop()
        await super().shutdown(sockets)
        if self.force_exit:
            # NOTE: uvicorn waits for nothing now, not even for the app; but the catalog is to be closed.
            await self._hang_up()
            await self.lifespan.shutdown()

    async def _hang_up(self) -> None:
        """End the requests that are left, as if their clients had gone."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_LAST_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take signals as a wish to stop, and no more.

        NOTE: uvicorn raises them once more at the end; but a service that was asked to stop and did has not failed.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        # Who types Ctrl-C twice does not want to wait for running requests.
        self.force_exit = self.should_exit and signum == signal.SIGINT
        self.should_exit = True


def serve(options: ServeOptions, on_listening: Callable[[str], None]) -> None:
    """Serve a catalog until the process is asked to stop.

    Args:
        options: What is served and how.
        on_listening: Called with the URL once requests are answered.

    Raises:
        BirdsearchError: The catalog cannot be opened, or the address cannot be had.
    """
    CatalogStore.open(options.catalog).close()
    bound = listen(options.host, options.port)
    limits = ConnectionLimits(at_once=4 * options.max_requests)
    Server(create_app(options), bound, limits, on_listening).serve_until_stopped()
