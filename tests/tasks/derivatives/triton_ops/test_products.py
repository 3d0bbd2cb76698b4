import pytest
import torch

from fanfold.data.errors import FanfoldError
from fanfold.tasks.derivatives.torch_ops import products as unfolded
from tests.tasks.derivatives.triton_ops.agreement import GPU, assert_near, exact

pytest.importorskip("triton")

from fanfold.tasks.derivatives.triton_ops.products import Products

# tasks, images, height, width, channels in, channels out, side, stride, padding
# In the interpreter, blocks and taps take time, whatever their sizes.
SMALL = [
    (2, 2, 7, 5, 16, 16, 3, 1, 1),
    (2, 1, 7, 6, 16, 16, 3, 2, 1),
    (1, 1, 6, 9, 48, 16, 3, 2, 0),
    (1, 1, 6, 6, 64, 16, 3, 1, 0),
    (2, 2, 5, 5, 16, 32, 1, 2, 0),
    (1, 1, 6, 6, 16, 16, 2, 2, 0),
]
LARGE = [
    (32, 5, 14, 14, 64, 64, 3, 1, 1),
    (512, 5, 7, 7, 64, 64, 3, 1, 1),
    (32, 5, 3, 3, 64, 64, 3, 1, 1),
    (8, 300, 14, 14, 64, 64, 3, 1, 1),
    (3, 75, 28, 28, 64, 64, 3, 2, 1),
    (32, 20, 14, 14, 64, 64, 3, 2, 1),
    (5, 5, 7, 7, 64, 128, 3, 2, 0),
]


@pytest.fixture
def pairs(random, parameters):
    """Makes inputs, derivatives by outputs, and filters, twice each; the second filters are shared by all tasks."""

    def make(case):
        tasks, images, height, width, inside, outside, side, stride, padding = case
        down, across = ((part + 2 * padding - side) // stride + 1 for part in (height, width))
        inputs = [random(tasks, images, height, width, inside) for _ in range(2)]
        d_outputs = [random(tasks, images, down, across, outside) for _ in range(2)]
        filters = [parameters(tasks, side, side, inside, outside), parameters(1, side, side, inside, outside)]
        return inputs, d_outputs, filters

    return make


@pytest.mark.parametrize(
    ("case", "count"),
    [
        (SMALL[4], 1),
        *((case, 2) for case in SMALL),
        *(pytest.param(case, count, marks=GPU) for case in LARGE for count in (1, 2)),
    ],
)
def test_products_are_those_of_what_is_unfolded(pairs, poisoned, case, count):
    height, width, _, _, side, stride, padding = case[2:]
    inputs, d_outputs, filters = pairs(case)
    forth, back, by_filters = (
        list(zip(one, other, strict=True))[:count]
        for one, other in ((inputs, filters), (d_outputs, filters), (inputs, d_outputs))
    )
    with poisoned():
        outputs = Products().convolve(forth, stride, padding)
        d_inputs = Products().by_inputs(back, (height, width), stride, padding)
        d_filters = Products().by_filters(by_filters, side, stride, padding)
    assert_near(outputs, unfolded.convolve(exact(forth), stride, padding))
    assert_near(d_inputs, unfolded.by_inputs(exact(back), (height, width), stride, padding))
    tolerance = 1e-5 if case in SMALL else 5e-5  # a float32 sum over 100,000 places has lost as much
    assert_near(d_filters, unfolded.by_filters(exact(by_filters), side, stride, padding), tolerance)


@pytest.mark.parametrize("case", [(2, 3, 7, 7, 16, 32, 1, 1, 0), *(pytest.param(case, marks=GPU) for case in LARGE)])
def test_moments_are_those_of_the_outputs_block_by_block(pairs, poisoned, case):
    inputs, _, filters = pairs(case)
    with poisoned():
        outputs, moments = Products().convolve_with_moments([(inputs[0] + 10, filters[0])], *case[7:])
    places = outputs.flatten(1, 3).double()
    assert moments.places == places.shape[1]
    for number in range(moments.parts.shape[1]):
        of_block = places[:, number * moments.rows : (number + 1) * moments.rows]
        mean, squares = moments.parts[:, number].unbind(1)
        assert_near(mean, of_block.mean(1))
        assert_near(squares, (of_block - of_block.mean(1, keepdim=True)).square().sum(1))


@pytest.mark.parametrize("precision", [pytest.param(precision, marks=GPU) for precision in ("tf32x3", "tf32")])
@pytest.mark.parametrize("case", LARGE[:3])
def test_tensor_cores_are_as_precise_as_is_said(pairs, device, case, precision):
    inputs, d_outputs, filters = pairs(case)
    tolerance = {"tf32x3": 5e-5, "tf32": 3e-3}[precision]
    products, size = Products(precision), case[2:4]
    assert_near(
        products.convolve([(inputs[0], filters[0])], 1, 1),
        unfolded.convolve([(inputs[0].double(), filters[0].double())], 1, 1),
        tolerance,
    )
    assert_near(
        products.by_inputs([(d_outputs[0], filters[0])], size, 1, 1),
        unfolded.by_inputs([(d_outputs[0].double(), filters[0].double())], size, 1, 1),
        tolerance,
    )
    assert_near(
        products.by_filters([(inputs[0], d_outputs[0])], 3, 1, 1),
        unfolded.by_filters([(inputs[0].double(), d_outputs[0].double())], 3, 1, 1),
        tolerance,
    )


@pytest.mark.parametrize("precision", [pytest.param(precision, marks=GPU) for precision in ("ieee", "tf32x3", "tf32")])
def test_products_have_the_same_bits_every_time(pairs, device, precision):
    inputs, d_outputs, filters = pairs(LARGE[0])
    products = Products(precision)

    def compute():
        outputs, moments = products.convolve_with_moments([(inputs[0], filters[0])], 1, 1)
        d_inputs = products.by_inputs([(d_outputs[0], filters[0])], (14, 14), 1, 1)
        return outputs, moments.parts, d_inputs, products.by_filters([(inputs[0], d_outputs[0])], 3, 1, 1)

    assert all(map(torch.equal, compute(), compute()))


def test_other_numbers_of_channels_are_refused(random, device):
    with pytest.raises(FanfoldError, match="8 channels to 16"):
        Products().convolve([(random(1, 1, 4, 4, 8), random(1, 3, 3, 8, 16))], 1, 1)


def test_filters_that_lie_apart_within_a_task_are_refused(random, device):
    with pytest.raises(FanfoldError, match="contiguous"):
        Products().convolve([(random(1, 1, 4, 4, 16), random(1, 3, 3, 16, 16).mT)], 1, 1)
