"""The algorithms by name."""

from dataclasses import is_dataclass
from inspect import isabstract

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithm import Algorithm
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
from fanfold.tasks.fitted import Fitted
from fanfold.tasks.plugins import import_class

ALGORITHMS: dict[str, type[Algorithm]] = {
    "maml": Maml,
    "anil": Anil,
    "maml++": MamlPlusPlus,
    "meta-sgd": MetaSgd,
    "reptile": Reptile,
    "protonet": ProtoNet,
    "proto-maml": ProtoMaml,
    "matching": Matching,
    "nearest-mean": NearestMean,
    "ridge": Ridge,
    "logistic": Logistic,
}

TRAINED = {name: kind for name, kind in ALGORITHMS.items() if not issubclass(kind, Fitted)}
"""Those that are meta-trained."""

RENAMED = {"one_by_one": "vectorizes, its opposite", "gradient_in": "gradient_in_phase"}


def plugin_algorithm(name: str) -> type[Algorithm]:
    """Import an algorithm `package.module:Class` that is not part of Fanfold.

    Raises:
        FanfoldError: There is no such class, or it does not follow the protocol.
    """
    found = import_class("algorithm", name)
    if not isinstance(found, type) or not issubclass(found, Algorithm):
        raise FanfoldError(
            f"Algorithm '{name}' must be a frozen dataclass that subclasses Algorithm: import it from "
            "fanfold.tasks.algorithm, and write it in parentheses after the class's name."
        )
    if not is_dataclass(found) or "__dataclass_fields__" not in vars(found):
        raise FanfoldError(f"Algorithm '{name}' must be a frozen dataclass: decorate it with @dataclass(frozen=True).")
    if old := [f"{before} (now {now})" for before, now in RENAMED.items() if hasattr(found, before)]:
        raise FanfoldError(f"Algorithm '{name}' follows an earlier protocol: rename {', '.join(old)}.")
    if isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise FanfoldError(f"Algorithm '{name}' lacks {missing}: see fanfold.tasks.algorithm.Algorithm.")
    return found
