"""Two hosts: network namespaces of this machine, each with an address of its own, and TCP between them."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from benchmarks.faults import two_hosts
from benchmarks.faults.case import AbsentError
from benchmarks.faults.two_hosts import ADDRESSES
from fanfold.pipeline.cluster.preload import MODULE
from tests.environment import outcome

PORT = 8786
TRAIN = """
import sys, fanfold

def main(store):
    hashes = []
    for reduction in ("graph", "collective"):
        run = fanfold.train(
            store, {"name": "maml", "inner_lr": 0.1}, ways=3, split="alphabets", iterations=6, batch=6,
            model={"name": "conv4-stride", "width": 8}, meta={"chunk": 2, "window": 3},
            evaluation={"every": 6, "validation_tasks": 4, "tasks": 6, "other_tasks": 0},
            record={"tensorboard": False}, path=f"runs/{reduction}",
            cluster={"kind": sys.argv[2], "workers": 2, "reduction": reduction},
        )
        print(run.result["reduction"], run.result["workers"], run.result["parameters_sha256"])

if __name__ == "__main__":
    main(sys.argv[1])
"""


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """The names of two namespaces that reach each other by `ADDRESSES`, and nothing else."""
    try:
        with two_hosts.hosts():
            yield two_hosts.HOSTS
    except AbsentError as error:
        pytest.skip(f"needs {error}, made by `ip netns` as root")


def test_a_graph_and_a_gang_over_two_hosts_compute_the_same(hosts, pictures, tmp_path, environment):
    (tmp_path / "training.py").write_text(TRAIN)

    def on(host: str, *words: str) -> list[str]:
        return [shutil.which("ip") or "ip", "netns", "exec", host, sys.executable, *words]

    scheduler = f"tcp://{ADDRESSES[0]}:{PORT}"
    dask = ("-m", "distributed.cli.dask_worker", scheduler, "--nthreads", "1", "--no-nanny", "--no-dashboard")
    with ExitStack() as stack:
        for host, words in (
            (hosts[0], ("-m", "distributed.cli.dask_scheduler", "--host", ADDRESSES[0], "--no-dashboard")),
            (hosts[0], (*dask, "--host", ADDRESSES[0], "--preload", MODULE)),
            (hosts[1], (*dask, "--host", ADDRESSES[1], "--preload", MODULE)),
        ):
            process = stack.enter_context(
                subprocess.Popen(on(host, *words), cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
            )
            stack.callback(process.terminate)
        ran = outcome(on(hosts[0], "training.py", str(pictures), scheduler), tmp_path, environment)
    assert ran.returncode == 0, ran.stderr
    graph, gang = (line.split() for line in ran.stdout.splitlines() if line.startswith(("graph ", "collective ")))
    assert (graph[:2], gang[:2]) == (["graph", "2"], ["collective", "2"])
    assert graph[2] == gang[2]
