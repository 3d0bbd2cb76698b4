"""Label pictures by what a run learns from a few labelled ones."""

import csv
import heapq
import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import BinaryIO

import torch

from fanfold.data.advice import as_text, counted
from fanfold.data.errors import FanfoldError
from fanfold.data.labelled import UNKNOWN, classes_in, count_pictures, pictures_in
from fanfold.data.pictures import Picture, PictureError, Preprocessing, decode, is_coloured
from fanfold.data.splits import split_classes
from fanfold.data.store import open_store
from fanfold.pipeline import worker
from fanfold.pipeline.calibration import Calibration
from fanfold.pipeline.checkpoint import Checkpoint, newest_checkpoint
from fanfold.pipeline.classifier import Classifier, Over, Prediction, Skip
from fanfold.pipeline.constant import is_constant
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.experiment import Experiment
from fanfold.pipeline.files import write_bytes, writing
from fanfold.pipeline.fitting import fit, own_parameters
from fanfold.pipeline.labelling import calibrated, learner_of, open_preprocessing
from fanfold.pipeline.learner_file import read_learner
from fanfold.pipeline.learning import learn
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.told import NAMED, constant_in_words, grey_in_words
from fanfold.pipeline.training import named
from fanfold.tasks.algorithm import Algorithm
from fanfold.tasks.algorithms.nearest_mean import NearestMean
from fanfold.tasks.backbones import NOT_ANY, Backbone, preprocess
from fanfold.tasks.fitted import Fitted
from fanfold.tasks.learner import Learner
from fanfold.tasks.models import Model
from fanfold.workflows.actions.refit import is_of_another
from fanfold.workflows.actions.shipped import SHIPPED
from fanfold.workflows.reporting.label_sheet import MOST, draw_sheet

Say = Callable[[str], None]  # shows a line
Suited = Callable[[int, int], tuple[Learner, Calibration | None]]  # see `fanfold.pipeline.learning.learn`

_LITTLE = 1.5  # times as often right as guessing is, at most: little better


@dataclass(frozen=True)
class Labelling:
    """A labelling that was asked for."""

    query: Path  # a folder of pictures to label, or one picture
    out: Path  # the CSV file
    unknown: float | None = None  # the share of pictures that may be called unknown by mistake
    sheet: Path | None = None  # a PNG with each picture beside its label


@dataclass(frozen=True)
class Trained:
    """A trained run, ready to learn from a support set."""

    learner: Learner
    preprocessing: Preprocessing
    suited: Suited | None  # None where there are no classes to validate on
    origin: str  # what it was trained on, in words
    encoder: Callable[[], Learner] | None = None  # its network by itself, for a learner that adapts it to a support set

    def learn(self, support: Mapping[str, Sequence[Picture]], skip: Skip | None = None) -> Classifier:
        """Learn the classes of a support set, see `fanfold.pipeline.learning.learn`."""
        return learn(self.learner, self.preprocessing, support, self.suited, skip, self.origin)


def trained_run(plan: Experiment, directory: RunDirectory, say: Say) -> Trained:
    """A run's best parameters; where another method on embeddings is asked for, that one on the run's network.

    Raises:
        FanfoldError: The run can't be read, or an algorithm is asked for that has to be trained, and is another one.
    """
    refitted = is_of_another(plan, directory, "label")
    found, note = newest_checkpoint(directory.last, *([] if refitted else [partial(named, plan.recipe)]))
    if note is not None:
        say(note)
    parameters = _refitted(plan, found) if refitted else None
    learner = learner_of(plan.recipe, found, parameters)
    suited, encoder = partial(calibrated, plan.recipe, learner), partial(_encoder_of, plan.recipe, found)
    origin, preprocessing = _origin(plan.recipe, found.best_iteration), open_preprocessing(plan.recipe)
    return Trained(learner, preprocessing, suited, origin, None if learner.embeds else encoder)


def _origin(recipe: Recipe, iterations: int | None) -> str:
    """What a run was trained on, in words."""
    store, train = open_store(recipe.store), recipe.train
    classes = split_classes(store, recipe.split).train
    data = f"{store.title}, split {recipe.split}: {len(classes):,} of its {len(store.names):,} classes"
    tasks = f"{counted(recipe.meta.batch, 'task')}, {train.ways}-way {train.shots}-shot"
    return f"{data}, in {counted(iterations, 'iteration')} of {tasks}" if iterations else data


def _refitted(plan: Experiment, found: Checkpoint) -> Vector:
    """The parameters of a plan's method on embeddings, fitted to those of a run's network."""
    recipe = replace(plan.recipe, device="cpu")
    theta, tasks = own_parameters(recipe, found, found.best), plan.evaluation.validation_tasks
    return fit(LocalExecutor(recipe), recipe, theta, tasks).parameters


def _encoder_of(recipe: Recipe, found: Checkpoint) -> Learner:
    """The network of a run before it adapts to a task, with batch norm's statistics of training pictures."""
    method = NearestMean()
    recipe = replace(recipe, algorithm=method, steps=None)
    network = worker.open_context(recipe).network
    theta = network.unflatten(torch.from_numpy(own_parameters(recipe, found, found.best)))
    return learner_of(recipe, found, method.parameters(network, theta, None, {}).numpy())


def trained_shipped(name: str) -> Trained:
    """A run that is shipped in the package; its name is `fanfold:NAME`.

    Raises:
        FanfoldError: There is no such run.
    """
    place = files("fanfold") / "workflows" / "weights"
    known = sorted(entry.name.removesuffix(".safetensors") for entry in place.iterdir() if ".safetensors" in entry.name)
    wanted = name.removeprefix(SHIPPED)
    if wanted not in known:
        raise FanfoldError(f"No run '{name}' is shipped: there is {', '.join(SHIPPED + one for one in known)}.")
    with as_file(place / f"{wanted}.safetensors") as path:
        kept = read_learner(path)
    return Trained(kept.learner, kept.preprocessing, kept.suited, wanted)


def trained_backbone(model: Model, algorithm: Algorithm, size: int | None, *, flip: bool = False) -> Trained:
    """A network of torchvision or timm with its weights alone, without any run.

    Pictures are in colour, of the network's own size or another one. With `flip`, embeddings are averaged over mirror
    images, see `tasks.flipped`.

    Raises:
        FanfoldError: There is no such network, its weights can't be read, or the algorithm needs a run.
    """
    if not isinstance(algorithm, Fitted):
        raise FanfoldError(
            f"{algorithm.name} has to be trained, so a backbone alone can't label by it: leave `algorithm.name` out, "
            "or name ridge or logistic."
        )
    if not isinstance(model, Backbone) or model.weights == NOT_ANY:
        raise FanfoldError("A backbone alone needs weights: give `model.weights`, a file or DEFAULT.")
    model = replace(model, freeze=True)
    preprocessing = Preprocessing(size=size or preprocess(model).size)
    shape = preprocessing.size, preprocessing.size
    empty = Learner(algorithm, model.resolved(), shape, preprocessing.channels, None, torch.zeros(0), {}, flip=flip)
    learner = replace(empty, parameters=algorithm.initialize(empty.network(None)))
    return Trained(learner, preprocessing, None, f"the weights of {model.name}")


def learn_from(trained: Trained, support: Path, say: Say) -> Classifier:
    """What a run learns from a folder of class folders; `say` shows how far it can be trusted.

    Raises:
        FanfoldError: The folder can't be read, or has too few classes.
    """
    classes, others = classes_in(support)
    for line in seen_otherwise(classes, trained.preprocessing):
        say(line)
    skipped = list[str]()
    found = trained.learn(classes, lambda error: skipped.append(str(error)))
    counts = found.numbers.bincount().tolist()
    each = f"{counts[0]} each" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)} each"
    left_out = _left_out(len(skipped), skipped, others)
    say(f"learnt {len(counts)} classes from {counted(sum(counts), 'picture')} ({each}){left_out}")
    if found.learner.flip:
        say("each picture is seen with its mirror image, and the mean taken: `evaluation.flip=true`")
    for line in trust(found):
        say(line)
    return found


def seen_otherwise(classes: Mapping[str, Sequence[Path]], preprocessing: Preprocessing) -> list[str]:
    """What of labelled pictures a run doesn't see, or misses: colour; and those in which there is nothing to see."""
    read, coloured, constant, constant_class = 0, 0, list[str](), False
    for paths in classes.values():
        before = len(constant)
        for path in paths:
            with suppress(PictureError, OSError, ValueError, SyntaxError):  # it is counted where it is read
                picture = decode(path, 64)
                coloured += is_coloured(picture)
                read += 1
                if is_constant(picture):
                    constant.append(str(path))
        constant_class |= len(constant) - before == len(paths)
    lines = list[str]()
    if coloured and preprocessing.channels == 1:
        lines.append(f"the run is of grey pictures: the colour of {counted(coloured, 'labelled picture')} is left out")
    if read and not coloured and preprocessing.channels == 3:
        lines.append("the run is of pictures in colour: no labelled picture has any, so labels may be worse")
    of_such = "such pictures are labelled, too" if constant_class else "nothing can be learnt from such"
    alone = f"{constant_in_words(len(constant), constant, 'labelled picture')}: {of_such}"
    return [*lines, *([alone] if constant else [])]


def classify(
    asked: Labelling,
    classifier: Classifier,
    say: Say,
    over: Over | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Label all pictures of a folder, or a picture, and write the CSV file and the sheet.

    Pictures that can't be read are counted. A line is written as its picture is labelled; none is held in memory but
    for those of the sheet. `progress` is told how many pictures are done. Returns the number of those that were
    labelled.

    Raises:
        FanfoldError: There is no such folder or picture, no picture can be read, or a file can't be written.
    """
    if asked.unknown is not None:
        classifier = classifier.with_unknown(asked.unknown)
        say(_of_unknown(classifier, asked.unknown))
    _, others = count_pictures(asked.query)
    labelled, skipped, constant, grey = 0, 0, 0, 0
    reasons, of_one_colour, greys = list[str](), list[str](), list[str]()  # the first ones

    def skip(error: PictureError) -> None:
        nonlocal skipped
        skipped += 1
        reasons.extend([str(error)] if not reasons else [])

    def found() -> Iterator[Prediction]:
        nonlocal labelled, constant, grey
        for one in classifier.predict(pictures_in(asked.query), over=over, skip=skip):
            write(one)
            labelled += 1
            if one.constant:
                constant += 1
                of_one_colour.extend([str(one.path)] if constant <= NAMED else [])
            if one.grey:
                grey += 1
                greys.extend([str(one.path)] if grey == 1 else [])
            progress(labelled + skipped)
            yield one

    with writing(asked.out) as file:
        write = csv_writer(file, classifier.labels)
        least = list[Prediction]()
        if asked.sheet is None:
            deque(found(), maxlen=0)  # takes all, keeps none
        else:
            least = heapq.nsmallest(MOST, found(), key=lambda one: one.confidence)
        if not labelled:
            one = "" if asked.query.is_file() else f"{asked.query}: no picture in it can be read, the first because: "
            raise FanfoldError(f"{one}{reasons[0]}")
    say(f"labelled {counted(labelled, 'picture')} in {asked.out}{_left_out(skipped, reasons, others)}")
    if constant:
        say(f"{constant_in_words(constant, of_one_colour)}: {UNKNOWN}, as nothing tells the class of such")
    if grey:
        say(grey_in_words(grey, labelled, greys))
    if asked.sheet is not None:
        write_bytes(asked.sheet, draw_sheet(least, classifier.preprocessing))
        drawn = "drawn" if labelled == len(least) else f"the {len(least)} least certain drawn"
        say(f"{drawn} in {asked.sheet}, least certain first")
    return labelled


def csv_writer(file: BinaryIO, labels: Sequence[str]) -> Callable[[Prediction], None]:
    """What writes predictions as lines of CSV: path, label and confidence, and each class's probability."""
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "confidence", *labels])

    def write(one: Prediction) -> None:
        shares = [f"{one.probabilities[label]:.6f}" for label in labels]
        writer.writerow(["" if one.path is None else as_text(one.path), one.label, f"{one.confidence:.6f}", *shares])

    return write


def trust(classifier: Classifier) -> list[str]:
    """How far a classifier can be trusted, in lines."""
    lines = []
    if classifier.right is not None:
        right, asked = classifier.right
        share = f"{right} of {asked} support pictures ({100 * right / asked:.0f} %)"
        alone = int((classifier.numbers.bincount() == 1).sum())
        each = "is the only one of its class" if alone == 1 else "are the only ones of their classes"
        others = f"; {alone} {each}, which can't be left out" if alone else ""
        lines.append(f"leave-one-out: {share} are found by the others{others}")
        if right * len(classifier.labels) <= _LITTLE * asked:
            lines.append(
                f"that is little better than guessing ({100 / len(classifier.labels):.0f} %): label more pictures of "
                "each class, or take a run that was trained on pictures like these"
            )
    else:
        lines.append("leave-one-out: every class has one picture, so none can be left out")
    if classifier.calibration is not None:
        lines.append(f"accuracy {classifier.calibration}")
    return lines


def _of_unknown(classifier: Classifier, rate: float) -> str:
    calibration, threshold = classifier.calibration, classifier.threshold
    assert isinstance(calibration, Calibration)
    assert threshold is not None
    what = "the confidence" if calibration.by == "confidence" else "the likeness to the nearest class"
    bound = f"{UNKNOWN} below a score ({what}) of {threshold:.3f}"
    known = f"{bound}: by mistake {100 * rate:g} % of pictures of known classes"
    if calibration.auroc is None:
        return f"{known}; too few classes validate to measure how many others"
    caught = 100 * calibration.caught(threshold)
    return f"{known}, and {caught:.0f} % of those of others (AUROC {calibration.auroc:.3f}, on validation classes)"


def _left_out(skipped: int, reasons: Sequence[str], others: int) -> str:
    parts = [f"{counted(skipped, 'picture')} can't be read, such as {reasons[0]}"] if skipped else []
    parts += [f"{counted(others, 'file')} of other kinds passed over"] if others else []
    return f" ({'; '.join(parts)})" if parts else ""
