import numpy as np
import pytest
import torch

from fanfold.tasks.batch import as_tasks, gather_distinct, gather_tasks
from fanfold.tasks.episodes import Episodes, EpisodeShape, Stream, draw_episodes
from fanfold.tasks.pixels import oriented


class Numbered:
    """Images whose pixels tell class, drawing and place."""

    counts = np.full(9, 5)
    size = (3, 3)
    channels = 1
    handwriting = True

    def gather(self, classes, pictures):
        start = (np.asarray(classes) * 20 + np.asarray(pictures) * 2)[..., None, None, None]
        return (start + np.arange(9).reshape(3, 3) // 5 + np.arange(self.channels)[:, None, None]).astype(np.uint8)

    def rows(self, classes, pictures):
        found = self.gather(classes, pictures)
        return found.reshape(-1, self.channels, *self.size), np.arange(np.size(classes)).reshape(np.shape(classes))


class Coloured(Numbered):
    channels = 3
    handwriting = False


def test_images_lie_class_by_class_support_apart_from_query():
    shape = EpisodeShape(4, 2, 3)
    episodes = draw_episodes(0, Stream.TRAIN, 0, 6, shape, np.arange(9), Numbered.counts)
    tasks = gather_tasks(episodes, shape, Numbered(), torch.float64)
    assert len(tasks) == 6
    assert tasks.support.shape == (6, 8, 1, 3, 3)
    assert tasks.query.shape == (6, 12, 1, 3, 3)
    assert tasks.support_labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert tasks.query_labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    for task in range(6):
        for way in range(4):
            for shot in range(2):
                expected = Numbered().gather(episodes.classes[task, way], episodes.pictures[task, way, shot])[0] / 255
                np.testing.assert_array_equal(tasks.support[task, 2 * way + shot, 0].numpy(), expected)
            for query in range(3):
                expected = (
                    Numbered().gather(episodes.classes[task, way], episodes.pictures[task, way, 2 + query])[0] / 255
                )
                np.testing.assert_array_equal(tasks.query[task, 3 * way + query, 0].numpy(), expected)


def test_all_drawings_of_a_class_are_turned_alike_counter_clockwise():
    shape = EpisodeShape(4, 1, 1, True)
    episodes = Episodes(
        classes=np.array([[0, 1, 2, 3]]),
        rotations=np.array([[0, 1, 2, 3]]),
        reflections=np.zeros((1, 4), np.bool_),
        pictures=np.zeros((1, 4, 2), np.int64),
    )
    tasks = gather_tasks(episodes, shape, Numbered())
    for way in range(4):
        upright = torch.from_numpy(Numbered().gather(way, 0)[0] / 255).float()
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
        expected = torch.from_numpy(Numbered().gather(way, 0)[0] / 255).float()
        if mirrored[way]:
            expected = expected[:, [2, 1, 0]]
        expected = torch.rot90(expected, int(turns[way]))
        torch.testing.assert_close(tasks.support[0, way, 0], expected, rtol=0, atol=1e-7)
        torch.testing.assert_close(tasks.query[0, way, 0], expected, rtol=0, atol=1e-7)


def test_each_drawing_is_fetched_once_however_many_tasks_have_it():
    """The same images as the tasks', as long as each turn and reflection of a drawing is one of its own."""
    shape = EpisodeShape(4, 1, 2, True, True)
    episodes = draw_episodes(0, Stream.TEST, 0, 300, shape, np.arange(9), Numbered.counts)
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


def test_coloured_images_keep_their_channels_when_turned():
    shape = EpisodeShape(4, 1, 2, True, True)
    episodes = draw_episodes(0, Stream.TRAIN, 0, 6, shape, np.arange(9), Numbered.counts)
    grey, coloured = (gather_tasks(episodes, shape, images(), torch.float64) for images in (Numbered, Coloured))
    assert coloured.query.shape == (6, 8, 3, 3, 3)
    for channel in range(3):
        torch.testing.assert_close(coloured.query[:, :, channel], grey.query[:, :, 0] + channel / 255)


def test_handwriting_is_shown_dark_on_white_and_pictures_as_they_are():
    shape = EpisodeShape(4, 1, 2)
    episodes = draw_episodes(0, Stream.TRAIN, 0, 2, shape, np.arange(9), Numbered.counts)
    ink, picture = (gather_tasks(episodes, shape, images()) for images in (Numbered, Coloured))
    assert [part.shape for part in ink.by_class()] == [(2, 4, 1, 3, 3), (2, 4, 2, 3, 3)]
    np.testing.assert_allclose(ink.by_class()[0][1, 2, 0], 1 - ink.support[1, 2, 0].numpy())
    shown = picture.by_class()[1]
    assert shown.shape == (2, 4, 2, 3, 3, 3)
    np.testing.assert_allclose(shown[1, 2, 1], picture.query[1, 5].movedim(0, -1).numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_value_is_divided_as_pytorch_divides(dtype):
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    found = oriented(pixels, np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int64), np.dtype(str(dtype)[6:]))
    assert torch.equal(torch.from_numpy(found).flatten(), torch.arange(256, dtype=torch.uint8).to(dtype).div(255))
