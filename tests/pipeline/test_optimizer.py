from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.optimizer import Rates, Vectors, advance, initial_state, moved, rates_at
from fanfold.pipeline.recipe import Meta


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
        ours = advance(ours, gradient, Meta(lr=3e-3))
    assert ours.parameters.dtype == ours.mean.dtype == ours.square.dtype == np.float32
    np.testing.assert_allclose(ours.parameters, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert abs(ours.parameters - start).max() > 0.01


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_clipping_and_weight_decay_are_those_of_pytorch(optimizer):
    random = np.random.default_rng(0)
    start = random.normal(size=40).astype(np.float32)
    theirs = torch.tensor(start, requires_grad=True)
    rule = optimizer([theirs], lr=3e-3, weight_decay=2.0)
    meta = Meta(lr=3e-3, optimizer="sgd" if optimizer is torch.optim.SGD else "adam", clip=0.5, weight_decay=2.0)
    ours = initial_state(start.copy())
    for _ in range(50):
        gradient = random.normal(size=40).astype(np.float32)
        theirs.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_value_([theirs], 0.5)
        rule.step()
        ours = advance(ours, gradient, meta)
    assert ours.parameters.dtype == np.float32
    np.testing.assert_allclose(ours.parameters, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_the_cosine_schedule_ends_at_nought():
    meta = Meta(lr=0.1, schedule="cosine", iterations=100)
    rates = [meta.lr_at(n) for n in range(101)]
    assert rates[0] == 0.1
    assert rates[50] == pytest.approx(0.05)
    assert rates[100] == pytest.approx(0)
    assert rates == sorted(rates, reverse=True)
    assert Meta(lr=0.1).lr_at(5000) == 0.1


def test_the_linear_schedule_ends_at_nought():
    meta = Meta(lr=0.1, schedule="linear", iterations=100)
    assert [meta.lr_at(n) for n in (0, 25, 50, 100, 200)] == pytest.approx([0.1, 0.075, 0.05, 0, 0])


@given(st.sampled_from(["cosine", "linear"]), st.floats(1e-6, 10), st.integers(1, 10**6), st.data())
def test_a_schedule_never_rises_nor_falls_below_nought(schedule, lr, iterations, data):
    meta = Meta(lr=lr, schedule=schedule, iterations=iterations)
    iteration = data.draw(st.integers(0, 2 * iterations))
    now, then = meta.lr_at(iteration), meta.lr_at(iteration + 1)
    assert 0 <= then <= now <= lr
    assert meta.lr_at(0) == lr
    half = Meta(lr=lr, schedule=schedule, iterations=2 * iterations).lr_at(iterations)
    assert half == pytest.approx(lr / 2)


def vectors(count, size=6):
    random = np.random.default_rng(1)
    return [random.normal(size=size).astype(np.float32) for _ in range(count)]


def test_a_plain_step_goes_against_the_gradient_and_leaves_the_moments():
    start, gradient = vectors(2)
    state = replace(initial_state(start), mean=start + 1, square=start + 2)
    kept = start.copy()
    after = advance(state, gradient, Meta(lr=0.25, optimizer="sgd"))
    assert after.parameters.tolist() == [a - np.float32(0.25) * b for a, b in zip(kept, gradient, strict=True)]
    assert after.parameters.dtype == np.float32
    assert after.mean.tobytes() == (kept + 1).tobytes()
    assert after.square.tobytes() == (kept + 2).tobytes()
    assert after.iteration == 1
    assert state.parameters.tobytes() == kept.tobytes()


@given(
    st.sampled_from(["adam", "sgd"]),
    st.sampled_from([0.0, 0.9]),
    st.sampled_from([None, 0.3]),
    st.sampled_from([0.0, 0.7]),
    st.integers(0, 10**5),
    st.integers(0, 2**32 - 1),
)
def test_a_devices_tensors_become_bit_for_bit_what_arrays_do(optimizer, average, clip, decay, iteration, seed):
    random = np.random.default_rng(seed)
    parameters, mean, averaged, gradient = (random.normal(size=37).astype(np.float32) for _ in range(4))
    meta = Meta(lr=0.01, optimizer=optimizer, average=average, clip=clip, weight_decay=decay)
    now, rates = Vectors(parameters, mean, mean * mean, averaged), rates_at(iteration, meta)
    expected = moved(now, gradient, rates, meta)
    on_device = Vectors(*map(torch.from_numpy, now))
    found = moved(on_device, torch.from_numpy(gradient), Rates(*map(torch.tensor, rates)), meta)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert one.numpy().tobytes() == other.tobytes()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_without_an_average_it_is_the_very_parameters(optimizer):
    state = initial_state(vectors(1)[0])
    assert state.average is state.parameters
    for gradient in vectors(3):
        state = advance(state, gradient, Meta(lr=0.1, optimizer=optimizer))
        assert state.average is state.parameters


def test_the_average_is_the_one_worked_out_by_hand():
    """Decay 0.5, but 1/10, 2/11, 3/12, … at first, up to the eighth iteration, whose 8/17 are still less."""
    start, gradient = vectors(2)
    state, expected = initial_state(start), start.astype(np.float64)
    decays = [1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5]
    for decay in decays:
        state = advance(state, gradient, Meta(lr=0.1, optimizer="sgd", average=0.5))
        expected = decay * expected + (1 - decay) * state.parameters
        np.testing.assert_allclose(state.average, expected, rtol=1e-5, atol=1e-6)
        assert state.average.dtype == np.float32
    assert abs(state.average - state.parameters).max() > 0.01


@given(st.floats(0.01, 0.9999), st.integers(0, 10**6), st.integers(0, 2**32 - 1))
def test_the_average_lies_between_what_it_was_and_the_parameters(decay, iteration, seed):
    random = np.random.default_rng(seed)
    before, parameters = (random.normal(size=4).astype(np.float32) for _ in range(2))
    at_rest = Vectors(parameters, before, before, before)
    meta = Meta(lr=0.1, optimizer="sgd", average=decay)
    found = moved(at_rest, np.zeros(4, np.float32), rates_at(iteration, meta), meta).average
    low, high = np.minimum(before, parameters), np.maximum(before, parameters)
    assert (found >= low - 1e-5).all()
    assert (found <= high + 1e-5).all()
    assert (abs(found - before) >= (1 - decay) * abs(parameters - before) - 1e-5).all()


def test_a_running_average_of_what_stays_is_that():
    state = initial_state(vectors(1)[0])
    for _ in range(20):
        state = advance(state, np.zeros(6, np.float32), Meta(lr=0.1, optimizer="sgd", average=0.9))
    np.testing.assert_allclose(state.average, state.parameters, rtol=1e-6)


def test_chunks_cover_the_meta_batch_with_a_shorter_last_one():
    assert Meta(batch=10, chunk=4).chunks() == [(0, 4), (4, 8), (8, 10)]
    assert Meta(batch=4, chunk=8).chunks() == [(0, 4)]
    assert Meta(chunk=4).chunks(6) == [(0, 4), (4, 6)]
    assert Meta(chunk=4).chunks(6, 5) == [(0, 5), (5, 6)]


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
        {"schedule": "linear", "iterations": None, "minutes": 1},
        {"average": -0.1},
        {"average": 1},
        {"clip": 0},
        {"clip": float("nan")},
        {"weight_decay": -0.1},
        {"weight_decay": float("inf")},
        {"weight_decay": 20, "lr": 0.05},
    ],
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(FanfoldError):
        Meta(**wrong)
