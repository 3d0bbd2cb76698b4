"""The trials of a search, each recorded as a run of its own."""

from collections.abc import Callable

from fanfold.data.errors import RunError
from fanfold.pipeline.events import Event
from fanfold.pipeline.recording.recorder import Recorder
from fanfold.pipeline.search.events import LegEnded, SearchEvent, TrialBegan, TrialEnded


class TrialRecords:
    """Hands what happens in each trial to a recorder of runs. Listens to a search's events.

    What a worker saw in a leg comes with the leg: a point stands in the record once its trial was judged.

    Args:
        open_record: Makes a trial's recorder, when it begins or goes on.
    """

    def __init__(self, open_record: Callable[[TrialBegan], Recorder[Event]]) -> None:
        self._open = open_record
        self._records: dict[int, Recorder[Event]] = {}

    def __call__(self, event: SearchEvent) -> None:
        """Record an event."""
        match event:
            case TrialBegan():
                record = self._records[event.number] = self._open(event)
                record(event.started)
            case LegEnded():
                for what in event.events:
                    self._records[event.number](what)
            case TrialEnded() if event.number in self._records:  # one may fail before it begins
                error = None if event.reason is None else RunError(event.reason)
                self._records.pop(event.number).close(error)

    def close(self, error: BaseException | None) -> None:
        """Leave the records of the trials that are under way, for the search to go on with."""
        for record in self._records.values():
            record.close(error or KeyboardInterrupt())  # they were stopped: they have neither ended nor failed
