"""`fanfold.search`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from fanfold.data import extras
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.cluster.joining import hand_over
from fanfold.pipeline.experiment import Experiment
from fanfold.pipeline.search.config import SearchConfig
from fanfold.tasks.algorithm import Algorithm
from fanfold.workflows.face.arguments import (
    AModel,
    AnAlgorithm,
    Asked,
    Data,
    Section,
    ask,
    configured,
    dataset_section,
    some,
    with_plain,
)
from fanfold.workflows.face.clusters import ACluster, opened, settings_of
from fanfold.workflows.face.run import Run, hand_over_and_check
from fanfold.workflows.face.showing import terminal
from fanfold.workflows.face.words import spoken


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Args:
        path: The search's directory, with its report.
        params: The best trial's settings, by dotted keys.
        best: The best trial's run.
        result: The content of the search's `result.json`.
    """

    path: Path
    params: Mapping[str, Any]
    best: Run
    result: Mapping[str, Any]


@spoken
def search(
    data: Data | None = None,
    algorithm: AnAlgorithm | None = None,
    *,
    iterations: int,
    space: Mapping[str, Section] | str | PathLike[str] | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    ways: int | None = None,
    shots: int | None = None,
    queries: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    split: str | None = None,
    model: AModel | None = None,
    cluster: ACluster | None = None,
    path: str | PathLike[str] | None = None,
    task: Section | None = None,
    train: Section | None = None,
    meta: Section | None = None,
    evaluation: Section | None = None,
    search: Section | None = None,
    record: Section | None = None,
    progress: bool = True,
) -> Found:
    """Search for settings: many trainings at once, each a trial on a worker of its own.

    Trials are judged on validation classes; the best one is tested once, at the end. The same call goes on with a
    search that was interrupted. It needs the extra `search`: `pip install 'PATH/OF/THE/CLONE[search]'`.

    Args:
        data: As for `fanfold.train`.
        algorithm: As for `fanfold.train`.
        iterations: Length of a trial in meta-iterations.
        space: What to vary: a mapping of dotted keys, such as
            `{"meta.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "meta.batch": {"choices": [16, 32]}}`, or a YAML file
            of the same; by default the algorithm's own space.
        trials: How many settings are tried; 32 by default.
        minutes: Length of the search; by default no limit.
        ways: As for `fanfold.train`, and so are `shots` to `split`.
        shots: Support pictures of each class.
        queries: Pictures of each class to classify.
        batch: Tasks a meta-iteration.
        lr: Meta rate.
        seed: The seed of all random draws, also of the trials'.
        split: Which classes train, validate and test.
        model: As for `fanfold.train`.
        cluster: As for `fanfold.train`.
        path: The search's directory; by default `runs/search-WHAT`.
        task: As for `fanfold.train`, and so are `train` to `evaluation`.
        train: Fields of training tasks.
        meta: Fields of the outer loop.
        evaluation: Fields of validations and tests.
        search: Further fields of the search, such as `{"sampler": "random", "pruner": "none"}`.
        record: As for `fanfold.train`.
        progress: Whether to show how it goes.

    Raises:
        fanfold.FanfoldError: What is asked doesn't fit together, or no trial has finished.

    >>> found = fanfold.search(
    ...     "pictures", "protonet", iterations=4, space={"meta.lr": {"choices": [0.001, 0.01]}}, trials=2, ways=3,
    ...     batch=2, model={"name": "conv4", "width": 4}, evaluation={"every": 2, "tasks": 20}, cluster=cluster,
    ...     search={"pruner": "none"}, progress=False,
    ... )
    >>> found.params["meta.lr"] in (0.001, 0.01)
    True
    """
    extras.need("search", "fanfold.search")
    from fanfold.pipeline.search.space import Space
    from fanfold.workflows.actions.search import Request, carry_out, default_directory, with_space  # only here: Optuna

    sections = some(
        seed=seed,
        dataset=dataset_section(data, split=split) or None,
        task=with_plain("task", task, ways=ways, shots=shots, queries=queries),
        train=train,
        algorithm="protonet" if algorithm is None else algorithm,
        model=model,
        meta=with_plain("meta", meta, iterations=iterations, batch=batch, lr=lr),
        evaluation=evaluation,
    )
    asked = ask({}, sections, settings_of(cluster))
    base = asked.decided()

    def asked_of(params: Mapping[str, Any]) -> Asked:
        return ask({}, {**_varied(sections, params), "dataset": base.config["dataset"]}, settings_of(cluster))

    config: SearchConfig = configured("search", with_plain("search", search, trials=trials, minutes=minutes))
    shown = terminal(progress)
    request = Request(
        lambda params: asked_of(params).decided(),
        base,
        config,
        Space(()),
        Path(path if path is not None else default_directory(base)),
        configured("record", {} if record is None else record),
        open_terminal=lambda: terminal(progress),
    )
    request = with_space(request, Path(fspath(space)) if isinstance(space, (str, PathLike)) else space)
    with opened(cluster) as computing:
        hand_over_and_check(computing, base.recipe, asked)
        for note in (base.note, *base.told, computing.note):
            if note:
                shown.say(note)
        there = set(asked.digests)

        def plan_of(params: Mapping[str, Any]) -> Experiment:
            """A trial's experiment, whose algorithm the workers have: another one for other parameters."""
            trial = asked_of(params)
            plan = trial.decided()
            hand_over(computing.client, [digest for digest in trial.digests if digest not in there])
            there.update(trial.digests)
            return plan

        result = carry_out(replace(request, plan_of=plan_of), computing, shown.say)
    best = _varied(some(model=model, algorithm=algorithm), result["params"])
    objects = {name: best[name] for name in ("model", "algorithm") if not isinstance(best.get(name), (str, Mapping))}
    return Found(request.directory, result["params"], Run.made(request.best.path, some(**objects)), result)


def _varied(sections: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a call with a trial's parameters; an algorithm that is an object becomes another one.

    Raises:
        FanfoldError: A parameter is one that an object lacks.
    """
    varied = {name: dict(value) if isinstance(value, Mapping) else value for name, value in sections.items()}
    for key, value in params.items():
        section, _, name = key.partition(".")
        held = varied.get(section, {})
        if isinstance(held, Algorithm) and name != "name":
            varied[section] = replace(held, **{name: value})
        elif isinstance(held, (str, Mapping)):
            varied[section] = {**({"name": held} if isinstance(held, str) else held), name: value}
        else:
            raise FanfoldError(f"{section} is an object, which is taken as it is: leave {key} out of the space.")
    return varied
