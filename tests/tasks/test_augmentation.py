"""Augmented pictures: the same whoever computes them, by torchvision's functions, and as far as is asked for."""

import pytest
import torch
from torchvision.transforms.v2 import functional

from fanfold.data.errors import FanfoldError
from fanfold.tasks.augmentation import augmented, draw
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.episodes import check_augment

ALL = "flip,crop,colour"


def tasks_of(count, channels=3):
    generator = torch.Generator().manual_seed(0)
    support, query = (torch.rand(count, 4, channels, 12, 10, generator=generator) for _ in range(2))
    labels = torch.tensor([0, 0, 1, 1])
    return TaskBatch(support, labels, query, labels, 2)


def test_a_tasks_pictures_depend_on_its_number_alone():
    whole, tasks = augmented(tasks_of(5), ALL, 7, 100), tasks_of(5)
    part = TaskBatch(tasks.support[2:4], tasks.support_labels, tasks.query[2:4], tasks.query_labels, 2)
    found = augmented(part, ALL, 7, 102)
    assert torch.equal(found.support, whole.support[2:4])
    assert torch.equal(found.query, whole.query[2:4])
    assert not torch.equal(augmented(part, ALL, 8, 102).query, found.query)
    for pictures, before in ((whole.support, tasks.support), (whole.query, tasks.query)):
        assert pictures.shape == before.shape
        assert not any(torch.equal(one, other) for one, other in zip(pictures[0], before[0], strict=True))
        assert 0 <= pictures.min() <= pictures.max() <= 1


def test_nothing_changes_that_is_not_asked_for():
    tasks = tasks_of(1)
    assert augmented(tasks, None, 0, 0) is tasks
    flipped = augmented(tasks, "flip", 0, 0)
    numbers = draw(0, 0, 1, 8)[0]
    before, after = torch.cat([tasks.support, tasks.query], 1)[0], torch.cat([flipped.support, flipped.query], 1)[0]
    assert 0 < sum(numbers[:, 0] < 0.5) < 8
    for one, other, number in zip(before, after, numbers[:, 0], strict=True):
        assert torch.equal(other, one.flip(-1) if number < 0.5 else one)


def test_colours_and_crops_are_torchvisions():
    tasks = tasks_of(1)
    numbers = draw(0, 0, 1, 8)[0, 0]
    picture, (brightness, contrast, saturation) = tasks.support[0, 0], 0.6 + 0.8 * numbers[5:]
    wanted = functional.adjust_contrast(functional.adjust_brightness(picture, brightness), contrast)
    wanted = functional.adjust_saturation(wanted, saturation)
    torch.testing.assert_close(augmented(tasks, "colour", 0, 0).support[0, 0], wanted)
    cropped = augmented(tasks, "crop", 0, 0).support[0, 0]
    height, width = 12, 10
    area, ratio = (0.35 + 0.65 * numbers[1]) * 120, (3 / 4) * (16 / 9) ** numbers[2]
    across, down = min(width, round((area * ratio) ** 0.5)), min(height, round((area / ratio) ** 0.5))
    corner = int(numbers[3] * (height - down + 1)), int(numbers[4] * (width - across + 1))
    wanted = functional.resized_crop(picture, *corner, down, across, [height, width], antialias=True)
    torch.testing.assert_close(cropped, wanted)


def test_grey_pictures_stay_grey():
    assert augmented(tasks_of(1, channels=1), ALL, 0, 0).query.shape == (1, 4, 1, 12, 10)


@pytest.mark.parametrize("augment", ["flip,flip", "turn", "", "none", "flip, crop"])
def test_other_words_are_refused(augment):
    with pytest.raises(FanfoldError, match=r"`train.augment` must be some of flip, crop, colour"):
        check_augment(augment)
