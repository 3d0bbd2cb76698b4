import numpy as np
import torch

from fanfold.tasks.batch import as_tasks, gather_distinct, gather_tasks
from fanfold.tasks.episodes import Episodes, EpisodeShape, Stream, draw_episodes


class Numbered:
    """Images whose pixels tell class, drawing and place."""

    drawings = np.full(9, 5)
    size = (3, 3)

    def gather(self, classes, drawings):
        start = np.asarray(classes)[..., None, None] * 20 + np.asarray(drawings)[..., None, None] * 2
        return (start + np.arange(9).reshape(3, 3) // 5).astype(np.uint8)


def test_images_lie_class_by_class_support_apart_from_query():
    shape = EpisodeShape(4, 2, 3)
    episodes = draw_episodes(0, Stream.TRAIN, 0, 6, shape, np.arange(9), Numbered.drawings)
    tasks = gather_tasks(episodes, shape, Numbered(), torch.float64)
    assert len(tasks) == 6
    assert tasks.support.shape == (6, 8, 1, 3, 3)
    assert tasks.query.shape == (6, 12, 1, 3, 3)
    assert tasks.support_labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert tasks.query_labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    for task in range(6):
        for way in range(4):
            for shot in range(2):
                expected = Numbered().gather(episodes.classes[task, way], episodes.drawings[task, way, shot]) / 255
                np.testing.assert_array_equal(tasks.support[task, 2 * way + shot, 0].numpy(), expected)
            for query in range(3):
                expected = Numbered().gather(episodes.classes[task, way], episodes.drawings[task, way, 2 + query]) / 255
                np.testing.assert_array_equal(tasks.query[task, 3 * way + query, 0].numpy(), expected)


def test_all_drawings_of_a_class_are_turned_alike_counter_clockwise():
    shape = EpisodeShape(4, 1, 1, True)
    episodes = Episodes(
        classes=np.array([[0, 1, 2, 3]]),
        rotations=np.array([[0, 1, 2, 3]]),
        reflections=np.zeros((1, 4), np.bool_),
        drawings=np.zeros((1, 4, 2), np.int64),
    )
    tasks = gather_tasks(episodes, shape, Numbered())
    for way in range(4):
        upright = torch.from_numpy(Numbered().gather(way, 0) / 255).float()
        expected = torch.rot90(upright, way)
        torch.testing.assert_close(tasks.support[0, way, 0], expected, rtol=0, atol=1e-7)
        torch.testing.assert_close(tasks.query[0, way, 0], expected, rtol=0, atol=1e-7)


def test_a_mirrored_class_is_mirrored_left_to_right_before_it_is_turned():
    """Eight classes: each of the four turns, upright and mirrored. Mirroring after turning would look otherwise."""
    shape = EpisodeShape(8, 1, 1, True, True)
    turns, mirrored = np.arange(8) // 2, np.arange(8) % 2 == 1
    episodes = Episodes(np.arange(8)[None], turns[None], mirrored[None], np.zeros((1, 8, 2), np.int64))
    tasks = gather_tasks(episodes, shape, Numbered())
    for way in range(8):
        expected = torch.from_numpy(Numbered().gather(way, 0) / 255).float()
        if mirrored[way]:
            expected = expected[:, [2, 1, 0]]
        expected = torch.rot90(expected, int(turns[way]))
        torch.testing.assert_close(tasks.support[0, way, 0], expected, rtol=0, atol=1e-7)
        torch.testing.assert_close(tasks.query[0, way, 0], expected, rtol=0, atol=1e-7)


def test_each_drawing_is_fetched_once_however_many_tasks_have_it():
    """The same images as the tasks', as long as each turn and reflection of a drawing is one of its own."""
    shape = EpisodeShape(4, 1, 2, True, True)
    episodes = draw_episodes(0, Stream.TEST, 0, 300, shape, np.arange(9), Numbered.drawings)
    tasks = gather_tasks(episodes, shape, Numbered(), torch.float64)
    images, places = gather_distinct(episodes, Numbered(), torch.float64)
    again = as_tasks(images[torch.from_numpy(places)], shape)
    for part in ("support", "support_labels", "query", "query_labels"):
        assert torch.equal(getattr(again, part), getattr(tasks, part))
    assert images.shape == (9 * 5 * 4 * 2, 1, 3, 3)
    assert places.shape == (300, 4, 3)
    assert set(places.ravel()) == set(range(len(images)))


def test_embeddings_become_tasks_as_images_do():
    shape = EpisodeShape(2, 1, 2)
    tasks = as_tasks(torch.arange(12).view(2, 2, 3, 1), shape)
    assert tasks.support[..., 0].tolist() == [[0, 3], [6, 9]]
    assert tasks.query[..., 0].tolist() == [[1, 2, 4, 5], [7, 8, 10, 11]]
    assert tasks.support_labels.tolist() == [0, 1]
    assert tasks.query_labels.tolist() == [0, 0, 1, 1]
