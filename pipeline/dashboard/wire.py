"""The driver's messages to the scheduler: sent in order, without keeping the run waiting."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from distributed import Client

from fanfold.data.advice import one_line
from fanfold.pipeline.messages import TOPIC, AnyMessage, Ended, Work

FAREWELL = 5  # seconds to wait for the last message


class Wire:
    """Sends messages in order, from Dask's thread."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._order = asyncio.Lock()
        self._lost: Exception | None = None  # the error of a lost message

    def send(self, message: AnyMessage) -> None:
        """Queue a message; raise the error of an earlier one that was lost."""
        if self._lost is not None:
            raise self._lost
        self._client.loop.add_callback(self._send, message)  # type: ignore[union-attr]

    def begin(
        self,
        run: str,
        what: Work,
        name: str,
        iterations: int | None,
        *,
        iteration: int = 0,
        config: Mapping[str, Any] = {},
        batch: int = 0,
        chunk: int = 0,
    ) -> None:
        """Send that a run, a search or other work begins or goes on, see `Started`."""
        self.send(
            {
                "kind": "started",
                "run": run,
                "what": what,
                "name": name,
                "client": self._client.id,
                "config": {key: str(value) for key, value in config.items()},
                "iteration": iteration,
                "iterations": iterations,
                "batch": batch,
                "chunk": chunk,
            }
        )

    def end(self, run: str, error: BaseException | None) -> None:
        """Send the end of a run or search, and wait briefly until it and all messages before it have arrived."""
        ended: Ended = {"kind": "ended", "run": run, "state": "ended", "reason": None}
        if isinstance(error, KeyboardInterrupt):
            ended["state"] = "stopped"
        elif error is not None:
            ended |= {"state": "failed", "reason": one_line(error)}
        with suppress(Exception):  # the run may have ended because the scheduler is gone
            self._client.sync(self._send, ended, callback_timeout=FAREWELL)

    async def _send(self, message: AnyMessage) -> None:
        async with self._order:  # Dask would send two messages at once over two connections
            try:
                await self._client.scheduler.log_event(topic=TOPIC, msg=message)  # type: ignore[union-attr]
            except Exception as error:  # in Dask's thread, where nobody else would catch it
                self._lost = error
