"""What a peer can be measured with: ways to convolve, and precisions of products."""

from collections.abc import Callable, Iterator, Sequence

from benchmarks.gpu.options import Options, Row, attempt
from benchmarks.gpu.settings import measured


def by_ways(
    side: str,
    ways: Sequence[str],
    precisions: Sequence[str],
    counts: Sequence[int],
    measure: Callable[..., Row],
    options: Options,
) -> Iterator[Row]:
    """A row for each setting, number of tasks, precision and way to convolve.

    At the first setting and number of tasks all ways are measured, from then on the fastest of each precision.

    Args:
        side: The peer.
        ways: How it can convolve.
        precisions: Of its products.
        counts: Of tasks.
        measure: Of a setting's name, tasks, way, precision and the options: the milliseconds, `ms`, and more.
        options: See `Options`.
    """
    left = dict.fromkeys(precisions, tuple(ways))
    for name in measured(options):
        for tasks in counts:
            for kind in precisions:
                rows = {}
                for way in left[kind]:
                    what = {"setting": name, "tasks": tasks, "side": f"{side} {way} {kind}"}
                    rows[way] = attempt(options, what, measure, name, tasks, way, kind)
                    yield rows[way]
                if of_kind := {way: row["ms"] for way, row in rows.items() if "ms" in row}:
                    left[kind] = (min(of_kind, key=of_kind.__getitem__),)
