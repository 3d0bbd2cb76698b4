"""A bad link: a TCP forwarder before a port of this machine, which delays, stalls and resets connections."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

CHUNK = 65_536
QUEUED = 64  # chunks under way in one direction of a connection


class Forwarder:
    """Hands on what comes to its port to another one, and back, as a context manager."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, 0
        self.delay = 0.0  # seconds, each way
        self.resets = 0  # connections that were reset
        self._writers = set[asyncio.StreamWriter]()
        self._loop = asyncio.new_event_loop()
        self._going = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stall(self, seconds: float) -> None:
        """Hand nothing on for some seconds; it is handed on afterwards."""
        self._loop.call_soon_threadsafe(self._going.clear)
        time.sleep(seconds)
        self._loop.call_soon_threadsafe(self._going.set)

    def reset(self) -> None:
        """Reset all connections; both ends can connect anew."""
        self._call(self._reset())

    def _call(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _open(self) -> None:
        self._going.set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        self._server.close()
        await self._reset()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _reset(self) -> None:
        for writer in list(self._writers):
            # With this, closing sends RST: what is under way is lost, as where a router forgets a connection.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            self.resets += 1

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, there_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._hand_on(reader, there_writer), self._hand_on(there_reader, writer))
        finally:
            self._writers -= both
            for one in both:
                one.transport.abort()

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction of a connection, to its end."""
        under_way = asyncio.Queue[tuple[float, bytes]](QUEUED)
        taking = asyncio.create_task(_take(reader, under_way, lambda: self._loop.time() + self.delay))
        with suppress(OSError):
            while True:
                due, chunk = await under_way.get()
                await asyncio.sleep(due - self._loop.time())
                await self._going.wait()
                if not chunk:
                    break
                writer.write(chunk)
                await writer.drain()
            writer.write_eof()
        taking.cancel()


async def _take(
    reader: asyncio.StreamReader, under_way: "asyncio.Queue[tuple[float, bytes]]", due: Callable[[], float]
) -> None:
    """Take what comes; an empty chunk is the end."""
    chunk = b"-"
    while chunk:
        try:
            chunk = await reader.read(CHUNK)
        except OSError:
            chunk = b""
        await under_way.put((due(), chunk))
