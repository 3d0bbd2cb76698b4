"""A run for MLflow: its configuration as parameters, its metrics, and the files of its run directory as artifacts.

MLflow is an extra, of which only the client is needed (`mlflow`). Sending waits for the server; a
`BackgroundRecorder` keeps a slow server from delaying the run.
"""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fanfold.data.advice import as_text, one_line
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.events import Event
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.points import Points

EVERY = 5.0  # seconds between batches of metrics
AT_ONCE = 1000  # metrics that MLflow takes in a batch
PARAMS_AT_ONCE = 100
EXPERIMENT = "fanfold"
FOLDER_TAG = "fanfold.run_directory"
PARENT_TAG = "mlflow.parentRunId"  # MLflow's pages show a run below this one


class MLflow:
    """Sends a run to MLflow. Listens to its events.

    A resumed run goes on with its MLflow run. Iterations that it computes again have the same metrics, which are not
    sent again.

    `uri` is a server (`http://…`), or a file (`sqlite:///mlflow.db`). `parent` is the MLflow run to show this one
    below, as a trial below its search.

    Raises:
        FanfoldError: MLflow can't be reached.
    """

    def __init__(
        self, uri: str, folder: Path, recipe: Recipe, settings: Mapping[str, Any], parent: str | None = None
    ) -> None:
        from mlflow import MlflowClient  # only here: it is an extra

        self._folder, self._points = folder, Points(recipe.meta)
        self._buffered: list[tuple[str, float, int, int]] = []  # name, value, step, milliseconds since 1970
        self._sent_at = time.monotonic()
        try:
            self._client = MlflowClient(tracking_uri=uri)
            self.run, self._known = self._open(settings, parent)  # the known metrics have their last steps
        except Exception as error:
            raise FanfoldError(
                f"MLflow at {uri} can't be written ({one_line(error)}): give `record.mlflow` another address, or leave "
                "it out."
            ) from error

    def __call__(self, event: Event) -> None:
        """Buffer an event's metrics, and send the buffer every few seconds."""
        for step, values in self._points(event):
            for name, value in values.items():
                self._keep(name, value, step)
        if time.monotonic() - self._sent_at >= EVERY:
            self._send()

    def close(self, error: BaseException | None) -> None:
        """Send the rest, the run's files, and the run's state."""
        status = "FINISHED" if error is None else "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        self._send()
        for path in sorted(self._folder.iterdir()):
            if path.is_file():
                self._client.log_artifact(self.run, str(path))
        self._client.set_terminated(self.run, status)

    def _open(self, settings: Mapping[str, Any], parent: str | None) -> tuple[str, dict[str, int]]:
        """Open or make the run: its identifier, and the last step of each of its metrics."""
        from mlflow.entities import Param

        client, folder = self._client, str(self._folder.resolve())
        found = client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT)
        runs = client.search_runs([experiment], f"tags.`{FOLDER_TAG}` = '{folder}'", max_results=1)
        if runs:
            run = runs[0].info.run_id
            client.update_run(run, status="RUNNING")
            known = {
                name: max(metric.step for metric in client.get_metric_history(run, name))
                for name in runs[0].data.metrics
            }
            return run, known
        tags = {FOLDER_TAG: folder} if parent is None else {FOLDER_TAG: folder, PARENT_TAG: parent}
        run = client.create_run(experiment, run_name=as_text(self._folder.name), tags=tags).info.run_id
        params = [Param(key, str(value)) for key, value in settings.items() if value is not None]
        for first in range(0, len(params), PARAMS_AT_ONCE):
            client.log_batch(run, params=params[first : first + PARAMS_AT_ONCE])
        return run, {}

    def _keep(self, name: str, value: float, step: int) -> None:
        name = re.sub(r"[^a-zA-Z0-9_./-]", "_", name)  # MLflow refuses such characters as the plus signs of MAML++
        if step > self._known.get(name, -1):
            self._buffered.append((name, value, step, time.time_ns() // 1_000_000))

    def _send(self) -> None:
        """Send the buffered metrics."""
        from mlflow.entities import Metric

        metrics = [Metric(name, value, milliseconds, step) for name, value, step, milliseconds in self._buffered]
        for first in range(0, len(metrics), AT_ONCE):
            self._client.log_batch(self.run, metrics=metrics[first : first + AT_ONCE])
        self._buffered, self._sent_at = [], time.monotonic()
