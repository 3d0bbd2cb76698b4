"""What is carried to a GPU's machine that reaches no package registry is all that it lacks."""

import re
from importlib.metadata import PackageNotFoundError, requires

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.environment import ROOT

PYTHON = default_environment() | {"python_version": "3.12", "python_full_version": "3.12.3"}


def listed():
    """What is carried, by name; and the names of what is there."""
    lines = (ROOT / "benchmarks" / "gpu_wheels.txt").read_text().splitlines()
    carried = [Requirement(line.partition("#")[0]) for line in lines if not line.startswith("#")]
    there = re.findall(r"(?m)^#   (.+)$", "\n".join(lines))
    return {canonicalize_name(each.name): each for each in carried}, set(" ".join(there).split())


def declared(requirement):
    """What a package asks for there, as the one that is installed here says."""
    try:
        every = [Requirement(each) for each in requires(requirement.name) or []]
    except PackageNotFoundError:  # an extra's, which need not be here
        return []
    extras = requirement.extras or {""}
    return [
        each for each in every if not each.marker or any(each.marker.evaluate(PYTHON | {"extra": e}) for e in extras)
    ]


def test_every_need_of_a_run_is_there_or_carried_in_a_version_that_serves():
    carried, there = listed()
    left, needed = [Requirement("fanfold[search]"), *carried.values()], set()
    while left:
        by = left.pop()
        for each in declared(by):
            name = canonicalize_name(each.name)
            assert name in carried or name in there, f"{by.name} needs {each}"
            if name in carried:
                (pinned,) = carried[name].specifier
                assert each.specifier.contains(pinned.version), f"{by.name} needs {each}, not {carried[name]}"
                if name not in needed:
                    left.append(each)
            needed.add(name)
    assert there - needed == set()
    assert set(carried) - needed == {"higher"}


def test_versions_are_those_that_were_tested():
    tested = set((ROOT / "constraints.txt").read_text().lower().replace("_", "-").splitlines())
    assert [str(each) for each in listed()[0].values() if str(each).lower().replace("_", "-") not in tested] == []
