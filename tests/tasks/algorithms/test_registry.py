from dataclasses import dataclass
from typing import ClassVar

import pytest

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithm import Algorithm
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.algorithms.registry import plugin_algorithm


@dataclass(frozen=True)
class Mine(ProtoNet):
    factor: float = 1.0


class Undecorated(ProtoNet):
    factor: float = 1.0


@dataclass(frozen=True)
class Incomplete(Algorithm):
    def classifier(self, network, parameters, support, labels, steps):
        raise NotImplementedError


@dataclass(frozen=True)
class DuckTyped:
    name: str
    head: ClassVar[bool] = True
    normalizations: ClassVar[tuple[str, ...]] = ("batch",)

    def initialize(self, network):
        raise NotImplementedError

    def meta_gradient(self, network, parameters, iteration, tasks):
        raise NotImplementedError

    def classifier(self, network, parameters, support, labels, steps):
        raise NotImplementedError


@dataclass(frozen=True)
class OneByOne(ProtoNet):
    one_by_one: ClassVar[bool] = True


def not_a_class():
    raise NotImplementedError


def test_an_algorithm_is_found_by_its_name():
    assert plugin_algorithm(f"{__name__}:Mine") is Mine


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DuckTyped", "must be a frozen dataclass that subclasses Algorithm: import it from fanfold.tasks.algorithm"),
        ("not_a_class", "must be a frozen dataclass that subclasses Algorithm"),
        ("Undecorated", r"decorate it with @dataclass\(frozen=True\)"),
        ("Incomplete", "lacks meta_gradient: see fanfold.tasks.algorithm.Algorithm"),
        ("OneByOne", r"earlier protocol: rename one_by_one \(now vectorizes, its opposite\)"),
        ("Absent", "No algorithm '.*:Absent'"),
    ],
)
def test_a_class_outside_the_protocol_is_refused_with_one_line_that_says_how_to_mend_it(name, message):
    with pytest.raises(FanfoldError, match=message) as caught:
        plugin_algorithm(f"{__name__}:{name}")
    assert "\n" not in str(caught.value)
