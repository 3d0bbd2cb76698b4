"""What the device can do: rates of large products of matrices, bandwidth of a copy, the cost of a launch."""

from collections.abc import Iterator

import torch

from benchmarks.gpu.options import Options, Row, attempt
from benchmarks.gpu.settings import precision
from benchmarks.gpu.timing import Replayed, seconds_of

LAUNCHES = 200  # in the graph whose time is shared among them


def measure(options: Options) -> Iterator[Row]:
    """The ceilings, each a row with its number in the unit that its name says."""
    side = 256 if options.quick else 8192
    for name, dtype in (("float32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
        what = {"ceiling": f"matrix product, {name}", "unit": "TFLOP/s"}
        yield attempt(options, what, _product, side, name, dtype)
    yield attempt(options, {"ceiling": "copy", "unit": "GB/s"}, _copy)
    yield attempt(options, {"ceiling": "launch in a graph", "unit": "µs"}, _launch)


def _product(side: int, name: str, dtype: torch.dtype, options: Options) -> Row:
    """Operations a second, of random numbers, as noughts go faster."""
    one, other = (torch.randn(side, side, device=options.place).to(dtype) for _ in range(2))
    with precision(name):
        return {"value": 2 * side**3 / seconds_of(lambda: one @ other, options) / 1e12}


def _copy(options: Options) -> Row:
    """Bytes a second, those read and those written."""
    source = torch.randn(1 << (20 if options.quick else 30), device=options.place)  # 4 GiB, far beyond any cache
    target = torch.empty_like(source)
    return {"value": 2 * source.nbytes / seconds_of(lambda: target.copy_(source), options) / 1e9}


def _launch(options: Options) -> Row:
    """Seconds from one launch of a kernel that does next to nothing to that of the next, in a graph of them."""

    def launches(value: torch.Tensor) -> tuple[torch.Tensor]:
        for _ in range(LAUNCHES):
            value = value + 1
        return (value,)

    replayed, value = Replayed(launches), torch.zeros(1, device=options.place)
    return {"value": 1e6 * seconds_of(lambda: replayed(value), options) / LAUNCHES}
