"""What a meta-iteration launches on a GPU, counted without one, stays within its budget."""

import pytest

pytest.importorskip("triton")

from benchmarks.launches import least_bytes, meta_iteration, setting

# Nodes, and bytes as a multiple of the least: what a meta-iteration may have in a setting.
BUDGETS = {"a": (100, 1.4), "b": (320, 1.6)}


@pytest.mark.parametrize("name", BUDGETS)
def test_a_meta_iteration_is_few_launches_and_moves_few_bytes(name):
    recipe, (most, of_the_floor) = setting(name), BUDGETS[name]
    nodes = meta_iteration(recipe)
    assert len(nodes) <= most, sorted(node.name for node in nodes)
    assert sum(node.name.startswith("triton") for node in nodes) > 0.9 * len(nodes), "the kernels weren't counted"
    floor = least_bytes(recipe)
    assert floor < sum(node.bytes for node in nodes) <= of_the_floor * floor


def test_the_floor_is_that_of_the_published_setting():
    assert 520e6 < least_bytes(setting("a")) < 560e6
