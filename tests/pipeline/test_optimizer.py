from dataclasses import replace

import numpy as np
import pytest
import torch

from data.errors import FanfoldError
from pipeline.optimizer import adam, initial_state
from pipeline.recipe import Meta


def test_adam_is_that_of_pytorch():
    random = np.random.default_rng(0)
    start = random.normal(size=40).astype(np.float32)
    theirs = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.Adam([theirs], lr=3e-3)
    ours = initial_state(start.copy())
    for _ in range(50):
        gradient = random.normal(size=40).astype(np.float32)
        theirs.grad = torch.tensor(gradient)
        optimizer.step()
        parameters, mean, square = adam(ours, gradient, 3e-3)
        ours = replace(ours, iteration=ours.iteration + 1, parameters=parameters, mean=mean, square=square)
    assert ours.parameters.dtype == ours.mean.dtype == ours.square.dtype == np.float32
    np.testing.assert_allclose(ours.parameters, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert abs(ours.parameters - start).max() > 0.01


def test_the_cosine_schedule_ends_at_nought():
    meta = Meta(lr=0.1, schedule="cosine", iterations=100)
    rates = [meta.lr_at(n) for n in range(101)]
    assert rates[0] == 0.1
    assert rates[50] == pytest.approx(0.05)
    assert rates[100] == pytest.approx(0)
    assert rates == sorted(rates, reverse=True)
    assert Meta(lr=0.1).lr_at(5000) == 0.1


def test_chunks_cover_the_meta_batch_with_a_shorter_last_one():
    assert Meta(batch=10, chunk=4).chunks() == [(0, 4), (4, 8), (8, 10)]
    assert Meta(batch=4, chunk=8).chunks() == [(0, 4)]
    assert Meta(chunk=4).chunks(6) == [(0, 4), (4, 6)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0},
        {"chunk": 0},
        {"window": 0},
        {"iterations": None},
        {"iterations": 0},
        {"minutes": 0},
        {"lr": 0},
        {"schedule": "cosine", "iterations": None, "minutes": 1},
    ],
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(FanfoldError):
        Meta(**wrong)
