"""Measure MAML's exact meta-gradient in Fanfold, in other libraries, and in a plain autograd loop: tasks a second.

All sides have the same network, tasks and initialization, and are checked to give the same gradient. Peers have all
cores; Fanfold runs as `train` does, over local clusters of 1, 2, … workers. All sides alternate in one run.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil
from dask.system import CPU_COUNT

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.experiment import resolve_dataset
from fanfold.pipeline.files import write_bytes, write_json
from fanfold.pipeline.recipe import Recipe
from fanfold.workflows.benchmark.cluster import check_folder, check_measurement, measure_pipeline
from fanfold.workflows.benchmark.peers import PEERS
from fanfold.workflows.benchmark.peers.agreement import CHECKED, FANFOLD, REFERENCE, check_agreement, differences
from fanfold.workflows.benchmark.peers.process import Peer, open_peers
from fanfold.workflows.benchmark.peers.report import columns, markdown, summarize
from fanfold.workflows.benchmark.peers.settings import SETTINGS
from fanfold.workflows.cli.cluster import open_cluster
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.flags import say
from fanfold.workflows.cli.result import environment

SECTIONS = ("dataset", "meta", "cluster")
BUSY = 0.5  # load average above which the machine is busy


@dataclass(frozen=True)
class PeersConfig:
    """The settings of the suite.

    Args:
        suite: The suite's name.
        rounds: Rounds; each measures every side once.
        seconds: Least seconds of each measurement.
        out: The files of the result, OUT.json and OUT.md; by default none.
    """

    suite: Literal["peers"] = "peers"
    rounds: int = 5
    seconds: float = 5
    out: str | None = None


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    parser = build_parser("workflows.benchmark", __doc__ or "", argv, SECTIONS)
    parser.add_argument("--seed", type=int, default=0, help="the seed of all random draws")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), help=f"which of {', '.join(SETTINGS)}")
    parser.add_argument(
        "--peers", nargs="+", default=list(PEERS), help=f"which of {', '.join(PEERS)}; {REFERENCE} is always measured"
    )
    parser.add_class_arguments(PeersConfig)
    options = parse(parser, argv)
    check_options(options)
    dataset, note = resolve_dataset(options.dataset)
    if note:
        say(note)
    recipes = {
        name: worker.check_recipe(SETTINGS[name].recipe(dataset, options.seed, options.meta))
        for name in options.settings
    }
    load = psutil.getloadavg()[0]
    if load > BUSY:
        print(f"the machine is busy (load average {load:.1f}), which slows peers of several threads most", flush=True)
    counts = worker_counts(options.cluster.workers or CPU_COUNT)
    libraries = {name: library for name, library in PEERS.items() if name in (REFERENCE, *options.peers)}
    # Peers start first: Dask changes this process's environment, which peers would inherit.
    with open_peers(libraries) as (peers, absent), open_clusters(options.cluster, counts) as clusters:
        for peer in peers:
            print(f"{peer.name} {peer.version}, PyTorch threads: {peer.threads}")
        for name, reason in absent.items():
            print(f"{name} is absent: {reason}")
        result: dict[str, Any] = {
            "suite": options.suite,
            "workers": counts,
            "peers": {peer.name: {"version": peer.version, "threads": peer.threads} for peer in peers},
            "absent": absent,
            "dataset": {"name": dataset.name, "split": dataset.split},
            "seed": options.seed,
            "meta": asdict(options.meta),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "load_average_before": round(load, 2),
            "settings": {},
            "environment": environment(),
        }
        for name, recipe in recipes.items():
            print(f"\n({name}) {SETTINGS[name]}", flush=True)
            measured = measure(recipe, peers, clusters, options.rounds, options.seconds)
            result["settings"][name] = {"setting": str(SETTINGS[name]), **asdict(SETTINGS[name]), **measured}
            if options.out:  # after each setting: an interrupted run keeps what it measured
                write_json(Path(options.out).with_suffix(".json"), result)
                write_bytes(Path(options.out).with_suffix(".md"), markdown(result).encode())


def check_options(options: Any) -> None:
    """Raise FanfoldError for wrong options, before anything starts."""
    check_measurement(options.rounds, options.seconds)
    for flag, known in (("settings", SETTINGS), ("peers", PEERS)):
        unknown = [name for name in getattr(options, flag) if name not in known]
        if unknown:
            raise FanfoldError(f"--{flag} can't be {', '.join(unknown)}: there are {', '.join(known)}.")
    if options.cluster.kind not in ("auto", "cpu"):
        raise FanfoldError("The suite `peers` measures CPU workers of this machine: give --cluster.kind cpu.")
    check_folder(options.out)


def worker_counts(most: int) -> list[int]:
    """1, 2, 4, … workers, and the largest possible number."""
    return sorted({most, *(2**power for power in range(most.bit_length()))})


@contextlib.contextmanager
def open_clusters(config: ClusterConfig, counts: Sequence[int]) -> Iterator[dict[int, Cluster]]:
    """A local cluster for each number of workers, all running at once; those that aren't measured are idle."""
    with contextlib.ExitStack() as stack:
        yield {
            workers: stack.enter_context(open_cluster(replace(config, kind="cpu", workers=workers)))
            for workers in counts
        }


def measure(
    recipe: Recipe, peers: Sequence[Peer], clusters: Mapping[int, Cluster], rounds: int, seconds: float
) -> dict[str, Any]:
    """Measure and print a setting's differences, rates and ratios.

    Raises:
        RunError: Gradients differ, or a peer fails.
    """
    found = differences(recipe, peers)
    compared = [FANFOLD, *(peer.name for peer in peers)]
    print(columns("", compared, note=f"(difference from {REFERENCE}'s gradient of {CHECKED} tasks in float64)"))
    for dtype, of_sides in found.items():
        print(columns(dtype, compared, [f"{of_sides[side]:.1e}" for side in compared]), flush=True)
    check_agreement(found["float64"])

    small = small_enough(recipe, max(clusters))
    sides = {
        f"{FANFOLD} {workers}": partial(measure_pipeline, cluster, paced(cluster, small, seconds), seconds)
        for workers, cluster in clusters.items()
    }
    sides |= {peer.name: partial(peer.rate, recipe, seconds) for peer in peers}
    print(columns("round", list(sides), note=f"(tasks/s; {FANFOLD} N: over N workers)"), flush=True)
    rates = []
    for number in range(rounds):
        rates.append({side: measured() for side, measured in sides.items()})
        print(columns(f"{number + 1:5}", list(sides), [f"{rate:.1f}" for rate in rates[-1].values()]), flush=True)
    summary = summarize(rates, [peer.name for peer in peers])
    print(columns("median", list(sides), [f"{rate:.1f}" for rate in summary["tasks_per_second"].values()]))
    ratios = [f"{ratio:.3f}" for ratio in summary["ratios"].values()]
    print(columns("ratio", list(sides), ratios, f"to {summary['fastest_peer']}, the fastest peer"), flush=True)
    return {"differences": found, **summary}


def small_enough(recipe: Recipe, workers: int) -> Recipe:
    """The recipe with chunks so small that every worker gets one, if a meta-batch has enough tasks."""
    meta = recipe.meta
    return replace(recipe, meta=replace(meta, chunk=min(meta.chunk, max(1, meta.batch // workers))))


def paced(cluster: Cluster, recipe: Recipe, seconds: float) -> Recipe:
    """The recipe with windows that fit into the seconds; this also warms up the workers."""
    by_one = replace(recipe, meta=replace(recipe.meta, window=1))
    measure_pipeline(cluster, by_one, seconds / 10)
    fitting = int(seconds * measure_pipeline(cluster, by_one, seconds / 2) / recipe.meta.batch)
    return replace(recipe, meta=replace(recipe.meta, window=min(recipe.meta.longest_graph, max(1, fitting))))
