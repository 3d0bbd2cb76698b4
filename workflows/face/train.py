"""`fanfold.train`."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.recording.kept import read_configuration
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.workflows.actions.train import Training, carry_out, new_directory
from fanfold.workflows.cli.trust import check_leave
from fanfold.workflows.face.arguments import (
    AModel,
    AnAlgorithm,
    Data,
    Section,
    ask,
    configured,
    dataset_section,
    own_names,
    read_base,
    some,
    with_plain,
)
from fanfold.workflows.face.clusters import ACluster, given_cluster, opened, settings_of
from fanfold.workflows.face.run import Run, hand_over_and_check
from fanfold.workflows.face.showing import terminal
from fanfold.workflows.face.words import spoken

MINUTES = 10  # of a training whose length nobody says


@spoken
def train(
    data: Data | None = None,
    algorithm: AnAlgorithm | None = None,
    *,
    ways: int | None = None,
    shots: int | None = None,
    queries: int | None = None,
    minutes: float | None = None,
    iterations: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    split: str | None = None,
    model: AModel | None = None,
    cluster: ACluster | None = None,
    path: str | PathLike[str] | None = None,
    resume: bool = False,
    trust: Sequence[str] = (),
    config: str | PathLike[str] | None = None,
    task: Section | None = None,
    train: Section | None = None,
    meta: Section | None = None,
    evaluation: Section | None = None,
    record: Section | None = None,
    report: bool = False,
    progress: bool = True,
) -> Run:
    """Meta-train over workers, keep the parameters that do best on validation classes, and test them.

    Args:
        data: A store, or the path of one; a folder of class folders; or the name of a data set: `omniglot`, `glyphs`,
            or `auto`, the default, for whichever of these there is.
        algorithm: `protonet` (the default), `matching`, `maml`, `anil`, `maml++`, `meta-sgd`, `proto-maml` or
            `reptile`; a mapping with hyperparameters, such as `{"name": "maml", "inner_lr": 0.4}`; your own as
            `package.module:Class`; or an object, of a class of your own, too.
        ways: Classes of a task; 5 by default.
        shots: Support pictures of each class; 1 by default.
        queries: Pictures of each class to classify; 1 by default.
        minutes: Length of the training; 10 by default, where `iterations` doesn't say it.
        iterations: Length of the training in meta-iterations; with `minutes`, whichever comes first.
        batch: Tasks a meta-iteration; 32 by default.
        lr: Meta rate; 0.001 by default.
        seed: The seed of all random draws; 0 by default.
        split: Which classes train, validate and test; by default the data set's own.
        model: `conv4` (the default), `conv4-stride`, `article`, `resnet12`, `torchvision/NAME` or `timm/NAME`; a
            mapping with settings; your own as `package.module:Class`; or a `torch.nn.Module`, or its class, built as
            `Class(ways=…)`.
        cluster: Where to compute: a number of workers on this machine; an address (`tcp://…`), `cpu` or `cuda`; a
            `dask.distributed.Client` or cluster; `fanfold.cluster(…)`; or settings. By default workers of its own, one
            a GPU or core, which end with the call.
        path: The run directory; by default `runs/WHAT-WHEN`.
        resume: Whether to go on with the run in `path`, whose settings hold where an argument says nothing.
        trust: Packages that a resumed run's own model and algorithm may be imported from, where these are not given.
        config: A YAML file with settings, or the name of a configuration that comes with Fanfold, such as
            `omniglot/protonet-5way1shot`; they hold where an argument says nothing.
        task: Further fields of test tasks, such as `{"rotations": True}`.
        train: Fields of training tasks where they differ: `{"ways": 20, "queries": 5, "rotations": False}`.
        meta: Further fields of the outer loop, such as `{"optimizer": "sgd", "chunk": 4}`.
        evaluation: Fields of validations and tests, such as `{"every": 200, "tasks": 600}`.
        record: Further records, such as `{"tensorboard": False, "mlflow": "sqlite:///mlflow.db"}`.
        report: Whether to report on the run in pictures at its end, as `Run.report` does.
        progress: Whether to show how it goes.

    Returns:
        The run: `print(run)`, `run.test()`, `run.report()`.

    Raises:
        fanfold.FanfoldError: What is asked doesn't fit together, or the training fails; the message says how to mend
            it.

    >>> run = fanfold.train(
    ...     "pictures", "protonet", ways=3, iterations=4, batch=4, model={"name": "conv4", "width": 4},
    ...     evaluation={"tasks": 20}, cluster=cluster, path="runs/first", progress=False,
    ... )
    >>> run.result["iterations"]
    4
    """
    directory = None if path is None else RunDirectory(Path(path))
    if resume and config is not None:
        raise FanfoldError("config and resume: give one, as a resumed run has its own configuration.")
    base = _of_run(directory) if resume else read_base(config)
    if given_cluster(cluster) is None and not resume and base.get("cluster"):
        cluster = base["cluster"]
    if resume:
        check_leave(path, own_names(base, some(model=model, algorithm=algorithm)), trust)
    length = _length(base, with_plain("meta", meta, minutes=minutes, iterations=iterations))
    dataset = dataset_section(data, split=split)
    asked = ask(
        base,
        some(
            seed=seed,
            dataset=dataset or None,
            task=with_plain("task", task, ways=ways, shots=shots, queries=queries),
            train=train,
            algorithm=algorithm if algorithm is not None or base.get("algorithm") else "protonet",
            model=model,
            meta={**length, **with_plain("meta", meta, minutes=minutes, iterations=iterations, batch=batch, lr=lr)},
            evaluation=evaluation,
        ),
        settings_of(cluster),
    )
    recording = configured("record", {**base.get("record", {}), **with_plain("record", record)})
    if directory is not None and not resume:
        directory.check_free()  # before data is prepared
    shown = terminal(progress)
    plan = asked.decided()
    directory = directory or new_directory(asked.kept("algorithm").name.replace(":", "-"), plan.recipe.task)
    training = Training(plan, directory, resume, recording, report)
    with opened(cluster) as computing:
        hand_over_and_check(computing, plan.recipe, asked)
        for note in (plan.note, *plan.told, computing.note):
            if note:
                shown.say(note)
        shown.say(f"dashboard: {computing.dashboard}")
        carry_out(training, computing, shown, shown.say)
    return Run.made(directory.path, some(model=model, algorithm=algorithm))


def _length(base: Section, meta: Section) -> Section:
    """The fields `iterations` and `minutes` where neither a file nor the call says all of it."""
    said = {**base.get("meta", {}), **meta}
    if "iterations" in said:
        return {}
    return {"iterations": None} if "minutes" in said else {"iterations": None, "minutes": MINUTES}


def _of_run(directory: RunDirectory | None) -> Section:
    """The configuration of the run to resume.

    Raises:
        FanfoldError: None is named, or there is none.
    """
    if directory is None:
        raise FanfoldError("resume=True needs path: the directory of the run to go on with.")
    if not directory.config.exists():
        raise FanfoldError(f"{directory.path} holds no run to resume: leave resume out to start one there.")
    return directory.with_weights(read_configuration(directory.config))
