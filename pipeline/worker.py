"""What workers compute, and the checks by which a driver foresees their errors.

Their results depend on their arguments alone, never on the worker or on its earlier tasks.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import RLock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanfold.data.embeddings import EmbeddedImages
from fanfold.data.errors import FanfoldError
from fanfold.data.images import Images, open_images
from fanfold.data.splits import Split, split_classes
from fanfold.data.store import open_store
from fanfold.pipeline.checkpoint import Layout
from fanfold.pipeline.embedding import embedded_pictures, open_embeddings
from fanfold.pipeline.fold import ChunkSum
from fanfold.pipeline.optimizer import State, Vector, initial_state
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.algorithm import MetaGradient, Normalization
from fanfold.tasks.augmentation import augmented
from fanfold.tasks.batch import TaskBatch, as_tasks, gather_distinct, gather_tasks
from fanfold.tasks.derivatives.backends import compile_kernels, triton_runs
from fanfold.tasks.device.cuda_graph import Captured
from fanfold.tasks.device.resident import Resident, encode, make_resident
from fanfold.tasks.episodes import (
    Episodes,
    EpisodeShape,
    Stream,
    check_episode_shapes,
    check_rotations,
    draw_episodes,
    large_enough,
)
from fanfold.tasks.flipped import flipped
from fanfold.tasks.models import Model, build_network
from fanfold.tasks.network import (
    Embedded,
    Network,
    as_network,
    batch_statistics,
    embeddable,
    embedded,
    with_statistics,
)
from fanfold.tasks.parameters import count
from fanfold.tasks.plugins import own_faults
from fanfold.tasks.predict import from_logits, predict, query_logits, to_host
from fanfold.tasks.predictions import Predictions
from fanfold.tasks.probe import check_training

POPULATION = 1000  # training images, at least, for batch norm's statistics
GRAPHS = 2  # functions kept captured, each with memory of its own on a GPU

# One thread at a time: a network's module holds the parameters of the current call, and PyTorch's generator belongs to
# the process. A driver of several runs has several threads.
_ONE_AT_A_TIME = RLock()


@dataclass(frozen=True)
class WorkerContext:
    """The worker context: what a worker keeps open for a recipe."""

    images: Images  # what tasks are made of: pictures, or their embeddings by a frozen network
    pictures: Images
    split: Split  # the classes that train, validate, test
    fingerprint: str  # identifies the store's content, see `data.schema.digest`
    network: Network  # on the device
    resident: Resident | None  # the images on the device, where tasks are vectorized and the images fit
    large: Mapping[Stream, NDArray[np.int64]]  # the classes with enough pictures, of each stream

    def classes(self, stream: Stream) -> NDArray[np.int64]:
        """The classes of a stream's tasks: those of its part of the split that have enough pictures for them."""
        return self.large[stream]


def open_context(recipe: Recipe) -> WorkerContext:
    """Open the store and build the network, or take those of an earlier chunk.

    Raises:
        FanfoldError: The store can't be opened or is not the one that the run began with, the tasks can't be drawn
            from it, or the model can't be built.
    """
    with _ONE_AT_A_TIME:
        pictures, split, fingerprint = _data(recipe.store, recipe.split, recipe.fingerprint)
        if recipe.fingerprint not in (None, fingerprint):
            raise FanfoldError(
                f"The store {recipe.store} holds other images than those that this run began with: prepare the same "
                "data set again, or start a new run."
            )
        ways = recipe.train.ways if recipe.algorithm.head else None
        how = recipe.vectorized, recipe.meta.precision
        shape = pictures.channels, *pictures.size
        network = _network(recipe.model, ways, shape, recipe.seed, recipe.device, *how)
        network = replace(network, vectorized=network.vectorized and recipe.algorithm.vectorizes)
        images: Images = pictures
        if embeddable(network):
            images = _embedded(recipe.store, fingerprint, recipe.model, shape, recipe.seed, pictures, recipe.flip)
            network = embedded(network)
        # Pictures that are changed one by one are gathered on the host.
        whole = recipe.vectorized and images is pictures and recipe.augment is None
        resident = _resident(pictures, recipe.device) if whole else None
    parts = {stream: part_of(split, stream) for stream in Stream}
    large = {stream: large_enough(_shape(recipe, stream), part, pictures.counts) for stream, part in parts.items()}
    return WorkerContext(images, pictures, split, fingerprint, network, resident, large)


def part_of(split: Split, stream: Stream) -> NDArray[np.int64]:
    """The classes of the part of a split that a stream draws from."""
    return {Stream.VALIDATION: split.validation, Stream.TEST: split.test}.get(stream, split.train)


def check_context(recipe: Recipe) -> None:
    """Raise FanfoldError where a recipe can't be computed here, see `open_context`; on the CPU, whatever its device."""
    open_context(replace(recipe, device="cpu"))


def check_recipe(recipe: Recipe, streams: Sequence[Stream] = (Stream.VALIDATION, Stream.TEST, Stream.TRAIN)) -> Recipe:
    """Check a recipe before anything is started, and bind it to its store.

    The streams are those that tasks will be drawn from; training takes its counts from the tested tasks.

    Raises:
        FanfoldError: See `open_context`; or the algorithm can't train the network.
    """
    opened = open_context(recipe)
    shapes = {stream: _shape(recipe, stream) for stream in streams}
    check_episode_shapes(shapes, {stream: part_of(opened.split, stream) for stream in streams}, opened.images.counts)
    for shape in shapes.values():
        check_rotations(shape, opened.images.size)
    if opened.images is not opened.pictures:
        _check_unaugmented(recipe)
    elif Stream.TRAIN in streams:
        size, channels = opened.images.size, opened.images.channels
        with _ONE_AT_A_TIME:
            check_training(recipe.algorithm, opened.network, recipe.train.ways, size, channels)
    return replace(recipe, fingerprint=opened.fingerprint)


def _check_unaugmented(recipe: Recipe) -> None:
    """Raise FanfoldError where pictures would have to be embedded anew in every task."""
    asked = [
        f"`{section}.{name}=false`"
        for section, shape in (("train", recipe.train), ("task", recipe.task))
        for name in ("rotations", "reflections")
        if getattr(shape, name)
    ]
    if recipe.augment is not None:
        asked.append("`train.augment=null`")
    if asked:
        raise FanfoldError(
            f"A frozen model embeds every picture once, so pictures can't be augmented: add {', '.join(asked)}."
        )


def initialize(recipe: Recipe) -> State:
    """The state before the first iteration, drawn from the seed on the CPU: the same everywhere."""
    network = open_context(replace(recipe, device="cpu")).network
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return initial_state(to_vector(recipe.algorithm.initialize(network)))


def layout(recipe: Recipe) -> Layout:
    """The names and shapes of the parameters, see `pipeline.checkpoint.Layout`."""
    network = open_context(replace(recipe, device="cpu")).network
    shapes = recipe.algorithm.shapes(network)
    found = {("." if name in network.shapes else ":") + name: tuple(shape) for name, shape in shapes.items()}
    more = len(initialize(recipe).parameters) - count(shapes)
    if more < 0:  # an algorithm of one's own that learns something else than the network's parameters
        return {":parameters": (more + count(shapes),)}
    return {**found, **({":more": (more,)} if more else {})} or {":parameters": (0,)}


def prepare(recipe: Recipe, _: int) -> str | None:
    """Compile the kernels that the recipe's chunks need, once a machine; returns why they can't be kept on disk."""
    return compile_kernels() if needs_kernels(recipe) else None


def needs_kernels(recipe: Recipe) -> bool:
    """Whether the recipe's chunks are computed by kernels that are compiled before."""
    return recipe.device == "cpu" and open_context(recipe).network.one_task_stack is not None


def adapt(recipe: Recipe, state: State, first: int, last: int) -> ChunkSum:
    """Draw the tasks in places `first` to `last` of the state's meta-batch, and sum their meta-gradients."""
    offset = state.iteration * recipe.meta.batch
    with in_context(recipe, Stream.TRAIN, offset + first) as opened:
        parameters, numbers = to_tensor(state.parameters, recipe), (offset + first, offset + last)
        phase = recipe.algorithm.phase(state.iteration)
        if opened.resident is None or phase is None:
            tasks = _tasks(recipe, opened, Stream.TRAIN, *numbers)
            result = recipe.algorithm.meta_gradient(opened.network, parameters, state.iteration, tasks)
        else:
            moving = to_tensor(np.array(recipe.algorithm.numbers(state.iteration), np.float32), recipe)
            compute = _captured_gradient(recipe, phase)
            result = MetaGradient(*compute(parameters, moving, _codes(recipe, opened, Stream.TRAIN, *numbers)))
    finite = torch.isfinite(result.losses)
    if not torch.isfinite(result.gradient).all() and finite.all():
        finite = torch.zeros_like(finite)  # the sum does not tell whose gradient overflowed
    loss, accuracy = _sums(result)
    return ChunkSum(
        gradient=to_vector(result.gradient),
        loss=loss,
        accuracy=accuracy,
        tasks=last - first,
        broken=tuple(offset + first + int(place) for place in (~finite).nonzero()),
    )


def statistics(recipe: Recipe, parameters: Vector) -> dict[str, NDArray[np.float32]]:
    """Batch norm's statistics of at least 1,000 training images, for `test` with the `population` normalization."""
    with in_context(recipe, Stream.POPULATION, 0) as opened:
        tasks = _tasks(recipe, opened, Stream.POPULATION, 0, population_tasks(recipe))
        images = torch.cat([tasks.support.flatten(0, 1), tasks.query.flatten(0, 1)])
        theta = opened.network.own(to_tensor(parameters, recipe))
        found = batch_statistics(opened.network, theta, images)
    return {name: to_vector(value) for name, value in found.items()}


def embedded_before(recipe: Recipe) -> bool:
    """Whether tasks are made of embeddings by a frozen network, in the place of pictures."""
    return isinstance(open_context(replace(recipe, device="cpu")).images, EmbeddedImages)


def embed(recipe: Recipe, first: int, last: int) -> NDArray[np.float32]:
    """The embeddings of a store's pictures `first` to `last` (exclusive), `[n, d]`, by a frozen network's body."""
    with in_context(recipe, Stream.POPULATION, 0) as opened:
        shape = opened.pictures.channels, *opened.pictures.size
        body = _network(recipe.model, None, shape, recipe.seed, recipe.device, False, "float32")
        # Runs of any precision read these embeddings.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        return embedded_pictures(body, opened.pictures, first, last, flip=recipe.flip)


def test(
    recipe: Recipe,
    normalization: Normalization,
    stream: Stream,
    parameters: Vector,
    population: Mapping[str, NDArray[np.float32]] | None,
    first: int,
    last: int,
) -> Predictions:
    """Predictions for the queries of tasks `first` to `last` (exclusive) of the validation or test stream.

    The `population` normalization needs the population's `statistics`.
    """
    with in_context(recipe, stream, first) as opened:
        meta = to_tensor(parameters, recipe)
        captured = opened.resident is not None and not recipe.flip
        if captured and recipe.algorithm.defines_logits and normalization == "batch":
            compute = _captured_predictions(recipe)
            labels, confidences, losses = compute(meta, _codes(recipe, opened, stream, first, last))
            return to_host(labels, confidences, losses, recipe.task.ways)
        network, tasks = tasks_to_judge(recipe, opened, stream, meta, population, first, last)
        return predict(recipe.algorithm, network, meta, tasks, recipe.steps, normalization)


def drawn(recipe: Recipe, stream: Stream, first: int, last: int) -> Episodes:
    """Some tasks by number: their classes and drawings."""
    return _episodes(recipe, open_context(replace(recipe, device="cpu")), stream, first, last)


def tasks_of(recipe: Recipe, stream: Stream, first: int, last: int) -> tuple[Episodes, TaskBatch]:
    """Some tasks by number, on the host: their classes and pictures, and their images."""
    opened = open_context(replace(recipe, device="cpu"))
    episodes = _episodes(recipe, opened, stream, first, last)
    return episodes, gather_tasks(episodes, _shape(recipe, stream), opened.pictures)


@contextmanager
def in_context(recipe: Recipe, stream: Stream, first: int) -> Iterator[WorkerContext]:
    """The worker context, with the same generators, threads and kernels for tasks from `first` on."""
    # The device's generators alone: a GPU that is asked for its generator gets a CUDA context.
    devices = [torch.cuda.current_device()] if recipe.device == "cuda" else []
    # Numbers that are not finite are reported at the end; NumPy need not warn of them.
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices), np.errstate(all="ignore"):
        # Here, not where the worker starts: PyTorch's number of threads belongs to the calling thread.
        torch.set_num_threads(recipe.meta.threads)
        # Before the generators are seeded: building a network, and trying its kernels, moves a GPU's generator.
        opened = open_context(recipe)
        if opened.network.one_task_stack is not None:
            compile_kernels()
        # For networks that draw, as dropout does.
        torch.manual_seed(int(np.random.SeedSequence([recipe.seed, stream, first]).generate_state(1, np.uint64)[0]))
        # The same kernels every time, and products of the configured precision. A stack has products of its own for
        # that, and small ones beside them, of covariances and heads, which are too few to be worth fewer bits.
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        fast = recipe.meta.precision == "tf32" and opened.network.stack is None
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = fast
        opened.network.train(stream is Stream.TRAIN)
        with own_faults():
            yield opened


# The fingerprint is an argument, so that a store that was prepared anew is opened anew.
@lru_cache(maxsize=4)
def _data(store: str, split: str, expected: str | None) -> tuple[Images, Split, str]:
    opened = open_store(store)
    return open_images(opened), split_classes(opened, split), opened.digest


@lru_cache(maxsize=4)
def _network(
    model: Model, ways: int | None, shape: tuple[int, int, int], seed: int, device: str, together: bool, precision: str
) -> Network:
    # A network that loses its head is built with two ways: its embedding doesn't depend on them.
    channels, *size = shape
    module = build_network(model, ways or 2, (size[0], size[1]), seed, channels).to(device)
    return as_network(module, (size[0], size[1]), ways, channels=channels, vectorized=together, precision=precision)


@lru_cache(maxsize=4)
def _embedded(
    store: str, fingerprint: str, model: Model, shape: tuple[int, int, int], seed: int, images: Images, flip: bool
) -> EmbeddedImages:
    opened = open_store(store)
    assert opened.digest == fingerprint, "the images of the store would be others"
    return open_embeddings(
        opened, images, model, _network(model, None, shape, seed, "cpu", False, "float32"), flip=flip
    )


@lru_cache(maxsize=4)
def _resident(images: Images, device: str) -> Resident | None:
    return make_resident(images, device)


@lru_cache(maxsize=GRAPHS)
def _captured_gradient(recipe: Recipe, phase: Hashable) -> Captured:
    """Parameters `[P]`, an iteration's numbers and tasks' codes to a meta-gradient, in a phase of the algorithm."""
    opened = open_context(recipe)
    resident, network, algorithm = opened.resident, opened.network, recipe.algorithm
    assert resident is not None

    def gradient(parameters: Tensor, numbers: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tasks = resident.tasks(codes, recipe.train)
        found = algorithm.gradient_in_phase(phase, numbers, network, parameters, tasks)
        return found.gradient, found.losses, found.accuracies

    return Captured(gradient, resident.pixels.device)


@lru_cache(maxsize=GRAPHS)
def _captured_predictions(recipe: Recipe) -> Captured:
    """From parameters `[P]` and tasks' codes to predictions on the device, see `tasks.predict.from_logits`."""
    opened = open_context(recipe)
    resident, network, algorithm = opened.resident, opened.network, recipe.algorithm
    assert resident is not None

    def predictions(parameters: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tasks = resident.tasks(codes, recipe.task)
        logits = query_logits(algorithm, network, parameters, tasks, recipe.steps, "batch")
        return from_logits(logits, tasks.query_labels)

    return Captured(predictions, resident.pixels.device)


def _sums(found: MetaGradient) -> list[float]:
    """The sums of losses and accuracies: the bits of a `DeviceLoop`'s."""
    if triton_runs(found.gradient.device):
        from fanfold.pipeline.device_kernels import sums_of  # only here: elsewhere there may be no Triton

        sums: list[float] = sums_of(found).tolist()
        return sums
    return [float(part.double().sum()) for part in (found.losses, found.accuracies)]


def _shape(recipe: Recipe, stream: Stream) -> EpisodeShape:
    return recipe.train if stream in (Stream.TRAIN, Stream.POPULATION) else recipe.task


def _tasks(recipe: Recipe, opened: WorkerContext, stream: Stream, first: int, last: int) -> TaskBatch:
    if opened.resident is not None:
        return opened.resident.tasks(_codes(recipe, opened, stream, first, last), _shape(recipe, stream))
    episodes = _episodes(recipe, opened, stream, first, last)
    tasks = gather_tasks(episodes, _shape(recipe, stream), opened.images)
    if stream is Stream.TRAIN and opened.images is opened.pictures:
        tasks = augmented(tasks, recipe.augment, recipe.seed, first)
    return tasks.to(recipe.device)


def _codes(recipe: Recipe, opened: WorkerContext, stream: Stream, first: int, last: int) -> Tensor:
    """Tasks as codes, on the device of the images."""
    assert opened.resident is not None
    drawn = encode(_episodes(recipe, opened, stream, first, last), opened.resident.first)
    return torch.from_numpy(drawn).to(opened.resident.pixels.device)


def _episodes(recipe: Recipe, opened: WorkerContext, stream: Stream, first: int, last: int) -> Episodes:
    shape, counts = _shape(recipe, stream), opened.images.counts
    return draw_episodes(recipe.seed, stream, first, last, shape, opened.classes(stream), counts)


def population_tasks(recipe: Recipe) -> int:
    """The tasks whose images stand for those of training."""
    shape = recipe.train
    return -(-POPULATION // (shape.ways * (shape.shots + shape.queries)))


def tasks_to_judge(
    recipe: Recipe,
    opened: WorkerContext,
    stream: Stream,
    meta: Tensor,
    population: Mapping[str, NDArray[np.float32]] | None,
    first: int,
    last: int,
) -> tuple[Network, TaskBatch]:
    """Some tasks, and the network to judge them by; with the population's statistics, of embeddings."""
    network = opened.network
    if recipe.flip and opened.images is opened.pictures:
        network = flipped(network)
    if population is None:
        return network, _tasks(recipe, opened, stream, first, last)
    fixed = with_statistics(network, {name: to_tensor(value, recipe) for name, value in population.items()})
    return Embedded(**vars(network)), _embedded_tasks(recipe, opened, fixed, meta, stream, first, last)


def _embedded_tasks(
    recipe: Recipe, opened: WorkerContext, network: Network, meta: Tensor, stream: Stream, first: int, last: int
) -> TaskBatch:
    """Tasks with embeddings in place of images. Each image is embedded once, however many tasks have it."""
    images, places = gather_distinct(_episodes(recipe, opened, stream, first, last), opened.images)
    theta = network.own(meta)
    with torch.no_grad():
        parts = [network(theta, part.to(recipe.device)) for part in images.split(POPULATION)]
    return as_tasks(torch.cat(parts)[torch.from_numpy(places).to(recipe.device)], _shape(recipe, stream))


def to_tensor(vector: Vector, recipe: Recipe) -> Tensor:
    # A copy: the arrays that a worker receives are read-only, and lie in the message.
    return torch.tensor(np.asarray(vector), device=recipe.device)


def to_vector(tensor: Tensor) -> Vector:
    vector: Vector = tensor.detach().to("cpu", torch.float32).numpy()
    return vector
