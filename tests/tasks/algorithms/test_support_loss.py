from dataclasses import replace

import pytest

from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.meta_sgd import MetaSgd
from fanfold.tasks.algorithms.support_loss import KEPT, SupportLoss, order_of
from fanfold.tasks.models import Article, Conv4, Conv4Stride
from tests.tasks.reference import Small, make_network, make_tasks, nudged, start

ALGORITHMS = [
    Maml(inner_lr=0.1, inner_steps=3),
    MamlPlusPlus(inner_steps=3, multi_step=10),
    MetaSgd(inner_lr=0.1, inner_steps=3),
]
MODELS = [Conv4(width=4), Conv4Stride(width=4), Article(width=3, hidden=5), Small()]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.name)
def test_both_exact_ways_agree_and_so_does_pytorchs_own(algorithm, model):
    network, parameters = start(algorithm, model)
    parameters, tasks = nudged(parameters), make_tasks(2)
    found = {
        how: replace(algorithm, differentiation=how).meta_gradient(network, parameters, 2, tasks).gradient
        for how in ("reverse", "mixed")
    }
    plain = replace(network, stack=None)
    expected = replace(algorithm, differentiation="reverse").meta_gradient(plain, parameters, 2, tasks).gradient
    for gradient in found.values():
        assert (gradient - expected).norm() / expected.norm() < 1e-10


def test_auto_decides_by_images_and_steps():
    assert order_of("auto", 5, KEPT // 5) == "reverse"
    assert order_of("auto", 5, KEPT // 5 + 1) == "mixed"
    assert order_of("reverse", 5, 10**6) == "reverse"
    assert order_of("mixed", 5, 1) == "mixed"


@pytest.mark.parametrize("model", [Conv4(width=4), Small()], ids=lambda model: model.name)
def test_the_gradient_of_first_order_leads_nowhere(model):
    network, parameters = make_network(model)
    tasks = make_tasks(1)
    theta = network.unflatten(parameters.clone().requires_grad_())
    loss = SupportLoss(network, tasks.support[0], tasks.support_labels)
    assert not any(part.requires_grad for part in loss.gradient(theta, "first").values())
    assert all(part.requires_grad for part in loss.gradient(theta, "mixed").values())
