"""What a meta-iteration launches on a GPU, counted without one, stays within its budget."""

import pytest

pytest.importorskip("triton")

from benchmarks.launches import least_bytes, meta_iteration, setting

NODES = 100
OF_THE_FLOOR = 1.5


def test_a_meta_iteration_is_few_launches_and_moves_few_bytes():
    recipe = setting("a")
    nodes = meta_iteration(recipe)
    assert len(nodes) <= NODES, sorted(node.name for node in nodes)
    assert sum(node.name.startswith("triton") for node in nodes) > 60, "the kernels weren't counted"
    floor = least_bytes(recipe)
    assert 520e6 < floor < 560e6
    assert floor < sum(node.bytes for node in nodes) <= OF_THE_FLOOR * floor
