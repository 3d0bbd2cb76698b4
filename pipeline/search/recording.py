"""Recording the trials of a search, each as a run."""

from collections.abc import Callable

from fanfold.data.errors import RunError
from fanfold.pipeline.events import Event
from fanfold.pipeline.recording.recorder import Recorder
from fanfold.pipeline.search.events import SearchEvent, SegmentEnded, TrialBegan, TrialEnded


class TrialRecords:
    """Hands each trial's events to a recorder of its own. Listens to a search's events.

    The events of a segment come at its end, so points are recorded after the segment's validation.
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
            case SegmentEnded():
                for of_segment in event.events:
                    self._records[event.number](of_segment)
            case TrialEnded() if event.number in self._records:  # a trial may fail before it begins
                error = None if event.reason is None else RunError(event.reason)
                self._records.pop(event.number).close(error)

    def close(self, error: BaseException | None) -> None:
        """Close the records of running trials as interrupted; the search may go on with them."""
        for record in self._records.values():
            record.close(error or KeyboardInterrupt())
