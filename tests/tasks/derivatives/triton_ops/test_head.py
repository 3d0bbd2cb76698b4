"""Linear layers, losses, and sums of vectors by kernels, as by PyTorch's operations in float64."""

import pytest
import torch

from fanfold.tasks.derivatives.torch_ops import cross_entropy, linear, vectors
from tests.tasks.derivatives.triton_ops.agreement import GPU, assert_near, exact

pytest.importorskip("triton")

from fanfold.tasks.derivatives.triton_ops import cross_entropy as fused_loss
from fanfold.tasks.derivatives.triton_ops import linear as fused_linear
from fanfold.tasks.derivatives.triton_ops import vectors as fused_vectors

# tasks, images, inputs, outputs
SMALL = [(2, 5, 64, 5), (1, 19, 70, 20)]
LARGE = [(32, 5, 64, 5), (32, 100, 64, 20), (4, 75, 1600, 64)]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("case", [*SMALL, *(pytest.param(case, marks=GPU) for case in LARGE)])
def test_linear_layers_are_those_of_pytorchs_operations(random, parameters, poisoned, case, relu):
    tasks, images, depth, ways = case
    inputs, inputs_t = random(tasks, images, depth), random(tasks, images, depth)
    weight, bias = parameters(1, ways, depth), parameters(1, ways)
    weight_t, bias_t = parameters(tasks, ways, depth), parameters(tasks, ways)
    d, d_t = random(tasks, images, ways), random(tasks, images, ways)
    into = [parameters(tasks, ways, depth), parameters(tasks, ways)]
    with poisoned():
        outputs, gate = fused_linear.forward(inputs, weight, bias, relu)
        d_inputs, by_parameters = fused_linear.backward(inputs, weight, gate, d)
        outputs_t = fused_linear.tangent(inputs, weight, gate, inputs_t, weight_t, bias_t)
        of_tangent = d, inputs_t, weight_t, d_t, False
        d_inputs_t, written = fused_linear.backward_tangent(inputs, weight, gate, *of_tangent, into)
    assert all(one is other for one, other in zip(written, into, strict=True))

    there, directions = exact((inputs, weight)), exact((inputs_t, weight_t, bias_t))
    expected, expected_gate = linear.forward(*there, bias.double(), relu)
    assert_near(outputs, expected)
    known = None if gate is None else gate > 0
    assert gate is None or torch.equal(known, expected_gate)
    assert_near((d_inputs, tuple(by_parameters)), linear.backward(*there, known, d.double()))
    assert_near(outputs_t, linear.tangent(*there, known, *directions))
    of_tangent = exact((d, inputs_t, weight_t, d_t))
    assert_near((d_inputs_t, tuple(written)), linear.backward_tangent(*there, known, *of_tangent, False))


@pytest.mark.parametrize("case", [(2, 5, 5), (1, 37, 20), *(pytest.param((32, 100, 20), marks=GPU) for _ in "a")])
def test_losses_are_those_of_pytorchs_operations(random, device, poisoned, case):
    tasks, images, ways = case
    logits, logits_t = 5 * random(tasks, images, ways), random(tasks, images, ways)
    labels = torch.arange(images, device=device) % ways
    logits[0, 0, :2] = 200.0  # neither overflows, nor is a tie won by the second
    with poisoned():
        loss = fused_loss.forward(logits, fused_loss.targets(labels, ways, logits))
        d_logits_t = fused_loss.d_logits_t(loss, logits_t)
    expected = cross_entropy.forward(logits.double(), cross_entropy.targets(labels, ways, logits.double()))
    assert_near(fused_loss.d_logits(loss), cross_entropy.d_logits(expected))
    assert_near(d_logits_t, cross_entropy.d_logits_t(expected, logits_t.double()))
    losses, accuracies = fused_loss.losses_and_accuracies(loss)
    exact_losses, exact_accuracies = cross_entropy.losses_and_accuracies(expected)
    assert_near(losses, exact_losses)
    torch.testing.assert_close(accuracies, exact_accuracies, rtol=1e-14, atol=0)


def test_a_logit_that_is_not_a_number_shows_in_its_task_alone(random, device):
    logits = random(2, 5, 5)
    logits[1, 3, 2] = torch.nan
    losses, _ = fused_loss.losses_and_accuracies(fused_loss.forward(logits, torch.arange(5, device=device)))
    assert losses.isnan().tolist() == [False, True]


@pytest.mark.parametrize("tasks", [1, 11, pytest.param(512, marks=GPU)])
def test_vectors_are_summed_as_by_pytorchs_operations(random, device, poisoned, tasks):
    directions, along = random(tasks, 272), random(tasks, 272)
    directions[:, 200:208] = torch.nan  # where no parameter lies
    order = torch.randperm(264, generator=torch.Generator().manual_seed(0)).to(device)
    there = torch.cat([order[:200], order.new_full((8,), 264), order[200:]])
    back = torch.empty_like(order).scatter_(0, order, (there < 264).nonzero()[:, 0])
    for moved in (None, along):
        with poisoned():
            found = fused_vectors.total(directions, moved, 0.4, there, back)
        assert_near(found, vectors.total(directions.double(), exact(moved), 0.4, there, back))
