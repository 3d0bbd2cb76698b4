import torch
from hypothesis import given
from hypothesis import strategies as st

from fanfold.tasks.algorithms.support_rotation import by_class, rotations_on, support_masks
from tests.tasks.reference import make_tasks


def test_the_paper_has_the_first_drawings_for_support():
    assert support_masks(2, 5, every=False).tolist() == [[True, True, False, False, False]]


def test_every_drawing_takes_its_turn_with_its_neighbours():
    found = [[place for place, chosen in enumerate(row) if chosen] for row in support_masks(2, 4, every=True).tolist()]
    assert found == [[0, 1], [1, 2], [2, 3], [0, 3]]


@given(st.integers(1, 5), st.integers(1, 5))
def test_each_drawing_is_support_as_often_as_any_other(shots, queries):
    found = support_masks(shots, shots + queries, every=True)
    assert found.shape == (shots + queries, shots + queries)
    assert found.sum(1).eq(shots).all()
    assert found.sum(0).eq(shots).all()
    assert torch.equal(found[:1], support_masks(shots, shots + queries, every=False))


@given(st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_on_a_device_they_name_the_drawings(shots, queries, every):
    found = rotations_on(torch.device("cpu"), shots, shots + queries, every=every)
    expected = support_masks(shots, shots + queries, every=every)
    assert torch.equal(found.is_support, expected)
    for row, support, asked in zip(expected, found.support, found.queries, strict=True):
        assert support.tolist() == row.nonzero()[:, 0].tolist()
        assert asked.tolist() == (~row).nonzero()[:, 0].tolist()


def test_images_of_a_class_lie_together_support_first():
    tasks = make_tasks(2, shots=2, queries=3)
    images = by_class(tasks, tasks.support[1], tasks.query[1])
    assert images.shape == (3, 5, 1, 16, 16)
    for way in range(3):
        for shot in range(2):
            assert torch.equal(images[way, shot], tasks.support[1, 2 * way + shot])
        for query in range(3):
            assert torch.equal(images[way, 2 + query], tasks.query[1, 3 * way + query])
