"""The driver's side of the page for a search: its trials, sent to the scheduler in small messages."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from distributed import Client

from fanfold.pipeline.dashboard.wire import Wire
from fanfold.pipeline.events import Noticed
from fanfold.pipeline.messages import TrialTold
from fanfold.pipeline.search.events import SearchEvent, TrialEnded, TrialReached
from fanfold.pipeline.search.progress import short_names, shown


class SearchTeller:
    """Sends a search's events to the page. Listens to them."""

    def __init__(self, client: Client, name: str, config: Mapping[str, Any], trials: int) -> None:
        self.wire = Wire(client)
        self._search = uuid4().hex[:8]
        self.wire.begin(self._search, "search", name, trials, config=config)

    def __call__(self, event: SearchEvent) -> None:
        """Send an event."""
        match event:
            case TrialReached():
                self.wire.send({**self._trial(event), "state": "running", "iterations": event.iterations})
            case TrialEnded():
                self.wire.send({**self._trial(event), "state": event.state, "reason": event.reason})
            case Noticed():
                self.wire.send({"kind": "said", "run": self._search, "text": event.text})

    def close(self, error: BaseException | None) -> None:
        """Send the end of the search."""
        self.wire.end(self._search, error)

    def _trial(self, event: TrialReached | TrialEnded) -> TrialTold:
        names = short_names(event.params)
        return {
            "kind": "trial",
            "run": self._search,
            "number": event.number,
            "params": {names[key]: shown(value) for key, value in event.params.items()},
            "state": "running",
            "iteration": event.iteration,
            "accuracy": None if event.accuracy is None else float(event.accuracy),
        }
