"""Waiting for the cluster, without waiting for ever."""

import time
from concurrent.futures import CancelledError
from typing import Any

from distributed import Future, KilledWorker, wait

from data.errors import RunError
from pipeline.cluster import Cluster

WITHOUT_WORKERS = 120.0  # seconds that a cluster may be without any worker before a run gives up
LOOK = 5.0  # seconds between looks at the workers


def wait_for(cluster: Cluster, futures: "list[Future[Any]]") -> list[Any]:
    """The futures' results.

    Raises:
        RunError: No worker has been there for a while, or the scheduler is gone.
        Exception: What a task raised.
    """
    seen = time.monotonic()
    while True:
        try:
            wait(futures, timeout=LOOK)
            results: list[Any] = cluster.client.gather(futures)
            return results
        except TimeoutError:
            if cluster.workers:
                seen = time.monotonic()
            elif time.monotonic() - seen > WITHOUT_WORKERS:
                raise RunError(
                    f"No worker has been there for {WITHOUT_WORKERS:.0f} s: start workers, and go on with --resume."
                ) from None
        except KilledWorker as error:
            raise RunError(
                f"Workers died again and again over task {error.task}: see their logs (out of memory?), and go on "
                "with --resume."
            ) from error
        except (CancelledError, OSError) as error:
            raise RunError(f"The scheduler is gone ({error}): start it again, and go on with --resume.") from error
