import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.data.errors import FanfoldError
from fanfold.data.images import CachedImages, WholeImages
from fanfold.data.store import Store, open_store, write_store
from fanfold.tasks.batch import gather_tasks
from fanfold.tasks.device.resident import encode, make_resident
from fanfold.tasks.episodes import EpisodeShape, Stream, draw_episodes
from tests.data.conftest import NoiseSource

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
    ),
]
SQUARE, WIDE = NoiseSource(20, 5, (7, 7), varying=True), NoiseSource(20, 5, (6, 8), varying=True, channels=3)
CLASSES = np.arange(2, 20)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[NoiseSource, Store]:
    """Of classes that don't all have as many drawings: square images, and wide ones."""
    folder = tmp_path_factory.mktemp("resident")
    for source in (SQUARE, WIDE):
        write_store(folder / f"{source.size}.zarr", source, progress=False)
    return {source: open_store(folder / f"{source.size}.zarr") for source in (SQUARE, WIDE)}


@pytest.fixture(scope="module")
def square(stores: dict[NoiseSource, Store]) -> WholeImages:
    return WholeImages(stores[SQUARE])


@pytest.fixture(scope="module")
def wide(stores: dict[NoiseSource, Store]) -> WholeImages:
    return WholeImages(stores[WIDE])


def assert_same_bits(images, shape, device, dtype=torch.float32, first=0, count=5):
    episodes = draw_episodes(0, Stream.TRAIN, first, first + count, shape, CLASSES, images.counts)
    resident = make_resident(images, device, dtype)
    found = resident.tasks(torch.from_numpy(encode(episodes, resident.first)).to(device), shape).to("cpu")
    expected = gather_tasks(episodes, shape, images, dtype)
    assert found.ways == expected.ways
    for part in ("support", "support_labels", "query", "query_labels"):
        one, other = getattr(found, part), getattr(expected, part)
        assert one.dtype == other.dtype
        assert torch.equal(one, other), part


@pytest.mark.parametrize("device", DEVICES)
@settings(deadline=None, max_examples=40)
@given(
    shape=st.builds(
        EpisodeShape,
        ways=st.integers(2, 18),
        shots=st.integers(1, 2),
        queries=st.integers(1, 2),
        rotations=st.booleans(),
        reflections=st.booleans(),
    ),
    first=st.integers(0, 10**6),
    count=st.integers(1, 6),
)
def test_tasks_have_the_bits_of_those_gathered_on_the_host(square, device, shape, first, count):
    assert_same_bits(square, shape, device, first=first, count=count)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_shade_has_the_bits_of_the_host(square, device, dtype):
    assert len(np.unique(square.pixels)) == 256
    assert_same_bits(square, EpisodeShape(18, 2, 2, True, True), device, dtype, count=20)


@pytest.mark.parametrize("device", DEVICES)
def test_images_that_are_not_square_are_mirrored_but_not_turned(wide, device):
    assert_same_bits(wide, EpisodeShape(5, 1, 2, reflections=True), device)
    turned, resident = EpisodeShape(5, 1, 2, rotations=True), make_resident(wide, device)
    episodes = draw_episodes(0, Stream.TRAIN, 0, 5, turned, CLASSES, wide.counts)
    sent = torch.from_numpy(encode(episodes, resident.first)).to(device)
    with pytest.raises(FanfoldError, match=r"6 × 8 pixels.* can't be rotated"):
        resident.tasks(sent, turned)
    with pytest.raises(FanfoldError, match=r"6 × 8 pixels.* can't be rotated"):
        gather_tasks(episodes, turned, wide)


def test_a_code_says_picture_and_orientation(square):
    shape = EpisodeShape(4, 1, 2, True, True)
    episodes = draw_episodes(0, Stream.TRAIN, 0, 100, shape, CLASSES, square.counts)
    found = encode(episodes, square.first)
    assert found.dtype == np.int32
    image, orientation = np.divmod(found, 8)
    of_class = np.searchsorted(square.first, image, "right") - 1
    np.testing.assert_array_equal(image - square.first[of_class], episodes.pictures)
    for part, of_classes in (
        (of_class, episodes.classes),
        (orientation % 4, episodes.rotations),
        (orientation >= 4, episodes.reflections),
    ):
        np.testing.assert_array_equal(part, np.repeat(of_classes[..., None], 3, 2))


def test_what_lies_not_whole_in_memory_or_does_not_fit_stays_on_the_host(stores, square):
    assert make_resident(CachedImages(stores[SQUARE], 0), "cpu") is None
    assert make_resident(square, "cpu", memory_limit=square.pixels.nbytes - 1) is None
    assert make_resident(square, "cpu", memory_limit=square.pixels.nbytes) is not None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_replays_tasks_of_other_codes(square):
    shape = EpisodeShape(5, 1, 2, True, True)
    resident = make_resident(square, "cuda")
    batches = [draw_episodes(0, Stream.TRAIN, first, first + 8, shape, CLASSES, square.counts) for first in (0, 8, 16)]
    sent = [torch.from_numpy(encode(episodes, resident.first)).cuda() for episodes in batches]
    here = sent[0].clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        resident.tasks(here, shape)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        tasks = resident.tasks(here, shape)
    for codes_, episodes in zip(sent, batches, strict=True):
        here.copy_(codes_)
        graph.replay()
        expected = gather_tasks(episodes, shape, square)
        assert torch.equal(tasks.support.cpu(), expected.support)
        assert torch.equal(tasks.query.cpu(), expected.query)
