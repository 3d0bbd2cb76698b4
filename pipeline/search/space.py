"""Search spaces: configuration keys, and the values that each may take."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from fanfold.pipeline.search.params import Value


@dataclass(frozen=True)
class Dimension:
    """A configuration key, and the values that it may take.

    With `when`, it counts only where other dimensions, by their keys, have one of these values; elsewhere a trial takes
    the configuration's value.
    """

    key: str  # such as `algorithm.inner_lr`
    values: BaseDistribution
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def counts(self, params: Mapping[str, Value]) -> bool:
        """Whether it counts, given the values of the dimensions before it."""
        return all(key in params and params[key] in wanted for key, wanted in self.when.items())

    @property
    def probes(self) -> tuple[Value, ...]:
        """Values to check: every choice, or both ends of a range."""
        match self.values:
            case CategoricalDistribution(choices=choices):
                return tuple(choices)
            case IntDistribution(low=low, high=high) | FloatDistribution(low=low, high=high):
                return (low, high)
        raise TypeError(self.values)

    @property
    def grid(self) -> tuple[Value, ...] | None:
        """All its values; None where they can't be counted."""
        match self.values:
            case CategoricalDistribution(choices=choices):
                return tuple(choices)
            case IntDistribution(low=low, high=high, step=step):
                return tuple(range(low, high + 1, step))
            case FloatDistribution(low=low, high=high, step=float(step)):
                return tuple(low + place * step for place in range(round((high - low) / step) + 1))
        return None


@dataclass(frozen=True)
class Space:
    """Dimensions, each after those of its conditions."""

    dimensions: tuple[Dimension, ...]

    def points(self) -> int | None:
        """The number of different trials; None where a range has no steps."""
        if any(dimension.grid is None for dimension in self.dimensions):
            return None
        # Only dimensions of conditions have to be enumerated; the others multiply.
        conditions = {key for dimension in self.dimensions for key in dimension.when}
        return sum(
            prod(
                len(dimension.grid or ())
                for dimension in self.dimensions
                if dimension.key not in conditions and dimension.counts(params)
            )
            for params in self._combinations(conditions)
        )

    def _combinations(self, keys: set[str]) -> Iterator[dict[str, Value]]:
        """All combinations of the values of some dimensions."""
        found: list[dict[str, Value]] = [{}]
        for dimension in self.dimensions:
            if dimension.key in keys:
                found = [
                    {**params, **more}
                    for params in found
                    for more in (
                        [{dimension.key: value} for value in dimension.grid or ()] if dimension.counts(params) else [{}]
                    )
                ]
        yield from found
