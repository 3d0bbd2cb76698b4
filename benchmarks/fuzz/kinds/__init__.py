"""The kinds of input, by name."""

from collections.abc import Mapping

from benchmarks.fuzz.judging import Kind
from benchmarks.fuzz.kinds import archives, configurations, lists, names, parameters, pictures, runs, stores

KINDS: Mapping[str, Kind] = {
    "YAML": configurations.yaml,
    "configuration": configurations.configuration,
    "flags": configurations.flags,
    "search space": configurations.space,
    "names of files": names.names,
    "store": stores.store,
    "picture": pictures.picture,
    "picture's header": pictures.header,
    "array": pictures.array,
    "Omniglot's archive": archives.omniglot,
    "Omniglot's archive, entries": archives.entries,
    "CIFAR-100's archive": archives.cifar,
    "npz": archives.npz,
    "checkpoint": parameters.checkpoint,
    "checkpoint, facts": parameters.checkpoint_facts,
    "learner": parameters.learner,
    "classifier": parameters.classifier,
    "weights": parameters.weights,
    "split file": lists.split,
    "table of pictures": lists.table,
    "run directory": runs.run,
    "table of results": runs.results,
}
"""Every kind of input."""

SLOW = {"configuration", "flags", "learner", "classifier"}
"""Kinds whose inputs take tens of milliseconds: they come once where others come three times."""

TURNS = tuple(kind for turn in range(3) for kind in KINDS if turn == 0 or kind not in SLOW)
"""The kinds in the order in which they take turns."""
