"""The driver's messages to the scheduler: sent in order, without keeping the run waiting."""

import asyncio
from contextlib import suppress

from distributed import Client

from fanfold.data.advice import one_line
from fanfold.pipeline.messages import TOPIC, AnyMessage, Ended

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
