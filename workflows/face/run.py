"""A trained run in Python."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, overload

from fanfold.data.errors import FanfoldError
from fanfold.data.labelled import classes_in
from fanfold.data.pictures import Picture
from fanfold.pipeline.classifier import Classifier
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.joining import hand_over
from fanfold.pipeline.configuration import flatten_keys
from fanfold.pipeline.executors.prepare import check_workers
from fanfold.pipeline.export import export_classifier, export_encoder, format_of
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.kept import read_configuration, read_result
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.results import Accuracy
from fanfold.pipeline.told import skipped_in_words
from fanfold.tasks.backbones import PREFIXES, Backbone
from fanfold.workflows.actions.classify import (
    Trained,
    seen_otherwise,
    trained_backbone,
    trained_run,
    trained_shipped,
)
from fanfold.workflows.actions.elsewhere import on_other_data
from fanfold.workflows.actions.evaluate import Evaluation, evaluate, joined_by, on_the_tasks_of
from fanfold.workflows.actions.grid import Grid, GridOfTests, evaluate_grid
from fanfold.workflows.actions.shipped import SHIPPED, why_no_run
from fanfold.workflows.cli.trust import check_leave, package_of
from fanfold.workflows.face.arguments import (
    AModel,
    AnAlgorithm,
    Asked,
    Data,
    ask,
    configured,
    dataset_section,
    fitting,
    own_names,
    some,
)
from fanfold.workflows.face.clusters import ACluster, given_cluster, opened, settings_of
from fanfold.workflows.face.results import TestGrid, TestResult, accuracy_of
from fanfold.workflows.face.words import in_arguments, spoken
from fanfold.workflows.reporting.history import History, read_history
from fanfold.workflows.reporting.run import data_of

Support: TypeAlias = str | PathLike[str] | Mapping[str, Sequence[Picture]]
"""Labelled pictures: a folder with a folder of pictures for each class; or a mapping of classes' names to lists of
pictures: files, PIL images, arrays."""


class Run:
    """A run in its directory: `fanfold.train` gives one, and `fanfold.load` opens one.

    Attributes:
        path: The run directory.

    >>> run = fanfold.train(
    ...     "pictures", ways=3, iterations=4, batch=4, model={"name": "conv4", "width": 4}, evaluation={"tasks": 20},
    ...     cluster=cluster, path="runs/first", progress=False,
    ... )
    >>> run.test(tasks=30).accuracy.tasks
    30
    >>> classifier = run.learn("pictures/alphabet0")  # a folder of class folders
    >>> [found.label for found in classifier.predict(["pictures/alphabet0/class3/0.png"])]
    ['class3']
    """

    def __init__(self, path: Path, objects: Mapping[str, Any], trust: Sequence[str] = ()) -> None:
        self.path = path
        self._directory, self._objects, self._trust = RunDirectory(path), objects, trust
        if not self._directory.config.exists():
            train = f": train one with fanfold.train(…, path={str(path)!r})"
            raise FanfoldError(why_no_run(str(path), "fanfold.learn", train))

    @classmethod
    def made(cls, path: Path, objects: Mapping[str, Any]) -> Self:
        """A run of this process's own: what it names was imported already."""
        found = cls(path, objects)
        packages = map(package_of, own_names(found.config, objects).values())
        found._trust = [package for package in packages if package]
        return found

    @property
    def result(self) -> Mapping[str, Any]:
        """The content of `result.json`; empty where the run hasn't ended."""
        return read_result(self._directory.result) or {}

    @property
    def config(self) -> Mapping[str, Any]:
        """The run's configuration by section, with nothing left open."""
        return read_configuration(self._directory.config)

    @property
    def accuracy(self) -> Accuracy:
        """The accuracy of the test at the run's end.

        Raises:
            fanfold.FanfoldError: The run hasn't ended.
        """
        if not (result := self.result):
            raise FanfoldError(
                f"{self.path} hasn't ended: go on with fanfold.train(path={str(self.path)!r}, resume=True)."
            )
        return accuracy_of(result)

    @property
    def history(self) -> History:
        """The training's course: arrays such as `history.iteration` and `history.accuracy`, of one length."""
        return read_history(self._directory)

    @overload
    def test(
        self,
        tasks: int | None = None,
        *,
        ways: int | None = None,
        shots: int | None = None,
        queries: int | None = None,
        half_width: float | None = None,
        steps: int | None = None,
        flip: bool | None = None,
        seed: int | None = None,
        data: Data | None = None,
        split: str | None = None,
        parameters: Literal["best", "last"] = "best",
        predictions: str | PathLike[str] | None = None,
        ensemble: "Sequence[Run]" = (),
        cluster: ACluster | None = None,
    ) -> TestResult: ...

    @overload
    def test(
        self,
        tasks: int | None = None,
        *,
        ways: int | Sequence[int] | None = None,
        shots: int | Sequence[int] | None = None,
        queries: int | None = None,
        half_width: float | None = None,
        steps: int | None = None,
        flip: bool | None = None,
        seed: int | None = None,
        data: Data | None = None,
        split: str | None = None,
        parameters: Literal["best", "last"] = "best",
        predictions: str | PathLike[str] | None = None,
        ensemble: "Sequence[Run]" = (),
        cluster: ACluster | None = None,
    ) -> TestResult | TestGrid: ...

    @spoken
    def test(
        self,
        tasks: int | None = None,
        *,
        ways: int | Sequence[int] | None = None,
        shots: int | Sequence[int] | None = None,
        queries: int | None = None,
        half_width: float | None = None,
        steps: int | None = None,
        flip: bool | None = None,
        seed: int | None = None,
        data: Data | None = None,
        split: str | None = None,
        parameters: Literal["best", "last"] = "best",
        predictions: str | PathLike[str] | None = None,
        ensemble: "Sequence[Run]" = (),
        cluster: ACluster | None = None,
    ) -> TestResult | TestGrid:
        """Test the run's parameters on tasks from test classes, or on other data.

        Args:
            tasks: How many tasks; by default as many as at the run's end.
            ways: Classes of a task; or several numbers, for a table.
            shots: Support pictures of each class; or several numbers, for a table.
            queries: Pictures of each class to classify.
            half_width: Test on as many more tasks as it takes for half the width of the 95 % interval, in percentage
                points, to be at most this.
            steps: Inner steps, for algorithms that have them.
            flip: Test-time augmentation: whether to take the mean of what the network makes of a picture and of its
                mirror image; by default as in the run.
            seed: The seed of the tasks; by default the run's own, and so the tasks of the run's end.
            data: Other data than the run's, see `fanfold.train`: their pictures are brought to the size and colours of
                the run's.
            split: Which classes test; by default those of the run's split, or all of other data.
            parameters: Those that did `best` on validation classes, or the `last` ones.
            predictions: A CSV file to write, with every prediction; none of a table.
            ensemble: Further runs, to judge the tasks together with this one: all class probabilities are averaged.
            cluster: Where to compute, see `fanfold.train`; by default in this process for algorithms that embed each
                picture once, else on workers of its own.

        Returns:
            The test; or, of several ways or shots, a table of the accuracies of all of them, which is also drawn in the
            run directory.

        Raises:
            fanfold.FanfoldError: There are too few classes or pictures for such tasks, or a file can't be read.
        """
        grid = _grid(ways, shots, self.config["task"])
        one = {} if grid is not None else some(ways=ways, shots=shots)
        asked = self._ask(
            seed=seed,
            task=some(queries=queries, **one),
            evaluation=some(tasks=tasks, half_width=half_width, steps=steps, flip=flip),
            dataset=some(split=None if data is not None else split),
            cluster=settings_of(cluster),
        )
        if grid is not None and predictions is not None:
            raise FanfoldError("predictions and several ways or shots: leave one out.")
        if ensemble and (grid is not None or data is not None):
            raise FanfoldError("ensemble and several ways or shots, or other data: leave one out.")
        notes, home = list[str](), None
        if data is None:
            plan = asked.decided(trains=False)
        else:
            dataset = configured("dataset", dataset_section(data))
            plan, home = on_other_data(asked.configuration, dataset, split, self._directory)
            plan = replace(plan, config={**plan.config, **asked.given})
            notes += plan.told
        file = None if predictions is None else Path(predictions)
        evaluation = Evaluation(plan, self._directory, parameters, file, data is not None, home)
        members = [(one, one._ask()) for one in ensemble]
        members = [(one, replace(own, configuration=on_the_tasks_of(plan, own.configuration))) for one, own in members]
        if members:
            further = [(own.decided(trains=False), one._directory) for one, own in members]
            evaluation = joined_by(evaluation, further)

        def note(line: str) -> None:
            notes.append(in_arguments(line))

        planned = None if grid is None else GridOfTests.of(evaluation, grid)

        def measured(computing: Cluster | None) -> TestResult | TestGrid:
            if planned is None:
                return TestResult.of(evaluate(evaluation, computing, _unsaid, note), notes)
            table = evaluate_grid(planned, computing, _unsaid, note)
            notes.extend(in_arguments(why) for why in planned.left_out)
            return TestGrid.of(table, notes)

        recipes = [one.plan.recipe for one in (evaluation, *evaluation.others)]
        if not any(recipe.algorithm.head for recipe in recipes) and given_cluster(cluster) is None:
            return measured(None)
        with opened(cluster) as computing:
            for recipe, own in zip(recipes, [asked, *(own for _, own in members)], strict=True):
                hand_over_and_check(computing, recipe, own)
            return measured(computing)

    @spoken
    def learn(self, support: Support, *, flip: bool | None = None) -> Classifier:
        """Learn classes of your own from a few labelled pictures of each, to label others by.

        Args:
            support: A folder with a folder of pictures for each class; or a mapping of classes' names to lists of
                pictures: files, PIL images, arrays.
            flip: Test-time augmentation, see `test`.

        Returns:
            The classifier: `predict` labels a folder or a list of pictures, each by itself; `save` keeps it in a file.

        A folder's pictures that can't be read are left out, and a warning counts and names them.

        Raises:
            fanfold.FanfoldError: There are fewer than two classes, or a picture of a list can't be read.
        """
        plan = self._ask(evaluation=some(flip=flip)).decided(trains=False)
        return _classifier(trained_run(plan, self._directory, _warn), support)

    @spoken
    def export(
        self,
        path: str | PathLike[str],
        support: Support | None = None,
    ) -> Path:
        """Write the network to a file for use without Fanfold, with a card beside it. Returns the file's path.

        Args:
            path: The file: `.onnx` (needs the extra `onnx`), or `.pt2` for `torch.export.load`.
            support: Labelled pictures, see `learn`: the file is a classifier of their classes then; without them it
                embeds pictures, by the network as it is before it adapts to any.

        Raises:
            fanfold.FanfoldError: The suffix is another, an extra is missing, or the network can't be exported.
        """
        out = Path(path)
        kind = format_of(out)  # before any work
        trained = trained_run(self._ask().decided(trains=False), self._directory, _warn)
        if support is None:
            encoder = trained.learner if trained.encoder is None else trained.encoder()
            export_encoder(encoder, trained.preprocessing, out, kind, trained.origin)
        else:
            export_classifier(_classifier(trained, support), out, kind)
        return out

    @spoken
    def report(self, tasks: int = 1000, *, cluster: ACluster | None = None) -> Path:
        """Report on the run in pictures: one HTML file that needs no network. Returns its path.

        Args:
            tasks: Test tasks to report on; 0 for the run's course alone.
            cluster: Where to compute, see `fanfold.train`.

        Raises:
            fanfold.FanfoldError: `tasks` is out of its range, or the run's parameters can't be read.
        """
        from fanfold.workflows.actions.report import report_run  # imported here: drawing libraries take long to import
        from fanfold.workflows.reporting.run import read_run

        @contextmanager
        def computing() -> Iterator[tuple[Cluster, Recipe]]:
            asked = self._ask(cluster=settings_of(cluster))
            recipe = asked.decided().recipe
            with opened(cluster) as found:
                hand_over_and_check(found, recipe, asked)
                yield found, recipe

        return report_run(read_run(self.path), tasks, computing)

    def __repr__(self) -> str:
        config, result = flatten_keys(dict(self.config)), self.result
        tasks = f"{config.get('task.ways')}-way {config.get('task.shots')}-shot"
        what = f"{config.get('algorithm.name')}, {tasks}, {data_of(config)}"
        how = f"test accuracy {self.accuracy}" if result else "not ended"
        return f"<fanfold.Run {str(self.path)!r}: {what}, {how}>"

    def _ask(self, **sections: Any) -> Asked:
        """The run's own configuration, with some of it changed.

        Raises:
            FanfoldError: It names a model or an algorithm that may not be imported.
        """
        config = self._directory.with_weights(self.config)
        check_leave(self.path, own_names(config, self._objects), self._trust)
        return ask(config, {**self._objects, **some(**sections)})


@spoken
def load(
    path: str | PathLike[str],
    *,
    model: AModel | None = None,
    algorithm: AnAlgorithm | None = None,
    trust: Sequence[str] = (),
) -> Run:
    """Open a run directory. It runs no code of others, unless it is trusted.

    Args:
        path: The run directory.
        model: The model, for a run that was trained with a module handed over in Python: the same one, or its class.
        algorithm: The algorithm, for a run that was trained with one of your own that has no importable name.
        trust: Packages that the run's own model and algorithm may be imported from, where these are not given: such as
            `["my_models"]`.

    Raises:
        fanfold.FanfoldError: There is no run, or it needs a model or algorithm that wasn't given or isn't trusted.
    """
    if not isinstance(path, (str, PathLike)):
        raise FanfoldError(f"path must be a run directory, not {path!r:.100}.")
    run = Run(Path(path), some(model=model, algorithm=algorithm), trust)
    run._ask()  # so that what is missing is said now
    return run


@spoken
def learn(
    support: Support,
    run: str | PathLike[str] = f"{SHIPPED}omniglot",
    *,
    algorithm: AnAlgorithm = "nearest-mean",
    weights: str | PathLike[str] = "DEFAULT",
    size: int | None = None,
    flip: bool | None = None,
    trust: Sequence[str] = (),
) -> Classifier:
    """Learn classes of your own without a run of your own: by one that comes with the package.

    Args:
        support: Labelled pictures, see `Run.learn`.
        run: `fanfold:omniglot`, Prototypical Networks trained on Omniglot, for handwriting, signs and symbols; a run
            directory; or a backbone alone: `torchvision/NAME` or `timm/NAME`.
        algorithm: Of a backbone alone: `nearest-mean`, `ridge` or `logistic`.
        weights: Of a backbone alone: a file, or `DEFAULT`, which downloads those of its name.
        size: Height and width of pictures, for a backbone alone; by default its own.
        flip: Test-time augmentation, see `Run.test`; not of what comes with the package, which is for letters.
        trust: Packages that the run's own model and algorithm may be imported from, see `fanfold.load`.

    Returns:
        The classifier, see `Run.learn`.

    Raises:
        fanfold.FanfoldError: There is no such run, there are fewer than two classes, or a picture of a list can't be
            read.

    >>> classifier = fanfold.learn("pictures/alphabet0")
    >>> len(classifier.labels), classifier.predict(["pictures/alphabet0/class1/0.png"]).__next__().label
    (8, 'class1')
    """
    if str(run).startswith(SHIPPED):
        if flip:
            raise FanfoldError(f"flip is nothing for {run}, which is for letters: leave it out.")
        return _classifier(trained_shipped(str(run)), support)
    if str(run).startswith(PREFIXES):
        method = ask({}, {"algorithm": algorithm}).configuration.algorithm
        backbone = Backbone(str(run), str(weights), freeze=True)
        averages = flip is not None and fitting("evaluation.flip", flip, bool)
        return _classifier(trained_backbone(backbone, method, size, flip=averages), support)
    return load(run, trust=trust).learn(support, flip=flip)


def _grid(ways: Any, shots: Any, task: Mapping[str, Any]) -> Grid | None:
    """The grid of several ways or shots; None for one of each."""
    if not any(isinstance(one, Iterable) and not isinstance(one, str) for one in (ways, shots)):
        return None
    given = {"ways": ways, "shots": shots}
    numbers = {name: task[name] if one is None else one for name, one in given.items()}
    every = {name: list(one) if isinstance(one, Iterable) else [one] for name, one in numbers.items()}
    if empty := next((name for name, one in every.items() if not one), None):
        raise FanfoldError(f"{empty} is empty: give one number or more.")
    return Grid.of(*([fitting(f"task.{name}", number, int) for number in one] for name, one in every.items()))


def _classifier(trained: Trained, support: Support) -> Classifier:
    if isinstance(support, Mapping):
        return trained.learn(support)
    if not isinstance(support, (str, PathLike)):
        raise FanfoldError(f"support must be a folder, or a mapping of names to pictures, not {support!r:.100}.")
    classes, skipped = classes_in(Path(support))[0], list[str]()
    for line in seen_otherwise(classes, trained.preprocessing):
        _warn(line)
    found = trained.learn(classes, lambda error: skipped.append(str(error)))
    if skipped:
        _warn(skipped_in_words(skipped))
    return found


def hand_over_and_check(cluster: Cluster, recipe: Recipe, asked: Asked) -> None:
    """Hand a run's objects to the workers, and check those that others started.

    Raises:
        FanfoldError: A worker can't compute the run; it is named.
    """
    hand_over(cluster.client, asked.digests)
    check_workers(cluster, recipe)


def _warn(line: str) -> None:
    """Warn of what puts the caller's answers in doubt."""
    warnings.warn(in_arguments(line), stacklevel=5)  # at the call of the face's function, see `spoken`


def _unsaid(line: str) -> None:
    """Show nothing: the caller gets it all."""
