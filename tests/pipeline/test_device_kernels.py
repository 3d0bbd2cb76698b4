"""The meta-iteration's kernels, against NumPy's arithmetic on the host."""

import numpy as np
import pytest
import torch

from fanfold.pipeline.fold import ChunkSum
from fanfold.pipeline.optimizer import State, Vectors, advance, rates_at
from fanfold.pipeline.recipe import Meta
from fanfold.tasks.algorithm import MetaGradient

pytest.importorskip("triton")

from fanfold.pipeline import device_kernels

SIZE = device_kernels.BLOCK + 77


@pytest.mark.parametrize(
    "meta",
    [
        Meta(batch=7, lr=3e-3, average=0.99, clip=0.5, weight_decay=0.1),
        Meta(batch=32, lr=0.1, optimizer="sgd"),
    ],
    ids=["adam", "sgd"],
)
def test_a_step_has_the_bits_of_the_hosts(device, meta):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(4, SIZE)).astype(np.float32) ** 2
    own = Vectors(*torch.from_numpy(vectors.copy()).to(device))
    state = State(0, *vectors)
    rates = torch.from_numpy(np.array([rates_at(each, meta) for each in range(3)])).to(device)
    sums = torch.zeros(3, 2, dtype=torch.float64, device=device)
    for iteration in range(3):
        gradient = (10 * random.normal(size=SIZE)).astype(np.float32)
        facts = torch.tensor([iteration + 0.25, 0.5], dtype=torch.float64, device=device)
        total = ChunkSum(torch.from_numpy(gradient).to(device), *facts, meta.batch)
        device_kernels.step(own, total, rates, sums, torch.tensor([iteration], device=device), meta)
        state = advance(state, gradient / np.float32(meta.batch), meta)
        for name in Vectors._fields:
            if (name != "mean" and name != "square") or meta.optimizer == "adam":
                assert getattr(own, name).cpu().numpy().tobytes() == getattr(state, name).tobytes(), name
    assert sums.tolist() == [[0.25, 0.5], [1.25, 0.5], [2.25, 0.5]]


def test_what_a_chunk_showed_is_summed_and_what_is_not_finite_noted(device):
    count = device_kernels.LOOKED_AT + 5
    gradient, losses = torch.ones(count, device=device), torch.tensor([0.5, 1.5, 3.0], device=device)
    accuracies = torch.tensor([0.2, 0.4, 1.0], dtype=torch.float64, device=device)
    broken, overflowed = (torch.full((2, number), 9, dtype=torch.uint8, device=device) for number in (3, 2))
    at = torch.tensor([1], device=device)
    found = MetaGradient(gradient, losses, accuracies)
    sums = device_kernels.facts(found, broken, overflowed, at)
    np.testing.assert_allclose(sums.tolist(), [5.0, 1.6], rtol=1e-15)
    assert sums.tolist() == device_kernels.sums_of(found).tolist()
    assert broken.tolist() == [[9, 9, 9], [0, 0, 0]]
    assert overflowed.tolist() == [[9, 9], [0, 0]]
    gradient[-1], losses[1], losses[2] = -torch.inf, torch.inf, torch.nan
    device_kernels.facts(found, broken, overflowed, at)
    assert broken.tolist()[1] == [0, 1, 1]
    assert overflowed.tolist()[1] == [0, 1]
