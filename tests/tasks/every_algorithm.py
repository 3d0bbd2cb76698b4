"""Every algorithm, in each of its forms."""

import pytest

from fanfold.tasks.algorithms.anil import Anil
from fanfold.tasks.algorithms.logistic import Logistic
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.matching import Matching
from fanfold.tasks.algorithms.meta_sgd import MetaSgd
from fanfold.tasks.algorithms.nearest_mean import NearestMean
from fanfold.tasks.algorithms.proto_maml import ProtoMaml
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.algorithms.reptile import Reptile
from fanfold.tasks.algorithms.ridge import Ridge

INNER = {"inner_lr": 0.1, "inner_steps": 2}
GRADIENT_LEARNERS = {
    "maml": Maml(**INNER),
    "maml first order": Maml(**INNER, first_order=True),
    "anil": Anil(**INNER),
    "maml++": MamlPlusPlus(**INNER, multi_step=10),
    "maml++ plain": MamlPlusPlus(**INNER, learn_rates=False, norm_per_step=False, multi_step=0, first_order=10),
    "meta-sgd": MetaSgd(**INNER),
    "reptile": Reptile(inner_steps=3, inner_lr=0.01, inner_batch=3, test_batch=3),
    "reptile sgd": Reptile(**INNER, inner_batch=6, test_batch=6, inner_optimizer="sgd"),
}
WITHOUT_HEAD = {  # gradient learners too, whose head begins at the prototypes
    "proto-maml": ProtoMaml(**INNER),
    "proto-maml first order": ProtoMaml(**INNER, first_order=True),
}
METRIC_LEARNERS = {
    "protonet": ProtoNet(),
    "protonet every turn": ProtoNet(every_turn=True),
    "matching": Matching(),
    "matching every turn": Matching(every_turn=True),
    "matching euclidean": Matching(similarity="euclidean"),
    "matching context": Matching(full_context=True),
}
FITTED = {"nearest-mean": NearestMean(), "ridge": Ridge(), "logistic": Logistic()}  # without meta-training
EVERY = GRADIENT_LEARNERS | WITHOUT_HEAD | METRIC_LEARNERS


def each(algorithms):
    return pytest.mark.parametrize("algorithm", algorithms.values(), ids=algorithms.keys())
