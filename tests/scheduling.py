"""Which process tests what: `pytest -p tests.scheduling --dist loadfile --no-loadscope-reorder`, as in the Makefile."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class FromBothEnds(LoadFileScheduling):
    """Files for processes: one takes them from the first on, the next one from the last on.

    So one starts the clusters that the tests of `pipeline` share, and the other those of `workflows`.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self.nodes.index(node) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FromBothEnds:
    """Called by pytest-xdist."""
    return FromBothEnds(config, log)
