"""The driver's line to the scheduler: messages go out one after the other, and never keep a run waiting."""

import asyncio
from contextlib import suppress

from distributed import Client

from fanfold.data.advice import one_line
from fanfold.pipeline.messages import TOPIC, AnyMessage, Ended

FAREWELL = 5  # seconds that the last message may take


class Wire:
    """Sends messages in order, from Dask's own thread.

    Args:
        client: The driver's connection to the scheduler.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._turn = asyncio.Lock()
        self._lost: Exception | None = None  # why a message was lost, if one was

    def send(self, message: AnyMessage) -> None:
        """Send a message, by and by; raise what became of one before, if it was lost."""
        if self._lost is not None:
            raise self._lost
        self._client.loop.add_callback(self._send, message)  # type: ignore[union-attr]

    def end(self, run: str, error: BaseException | None) -> None:
        """Send how a run or search ended, and wait a little until that and all before it are there."""
        ended: Ended = {"kind": "ended", "run": run, "state": "ended", "reason": None}
        if isinstance(error, KeyboardInterrupt):
            ended["state"] = "stopped"
        elif error is not None:
            ended |= {"state": "failed", "reason": one_line(error)}
        with suppress(Exception):  # the scheduler may be what the run failed of
            self._client.sync(self._send, ended, callback_timeout=FAREWELL)

    async def _send(self, message: AnyMessage) -> None:
        async with self._turn:  # Dask would send two at once over two connections
            try:
                await self._client.scheduler.log_event(topic=TOPIC, msg=message)  # type: ignore[union-attr]
            except Exception as error:  # in Dask's thread, where nobody would catch it
                self._lost = error
