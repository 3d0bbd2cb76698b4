"""Clusters as runs by gangs have them."""

from dataclasses import replace

from fanfold.pipeline.events import ReductionPicked


def in_gangs(cluster, patience=60.0, **settings):
    """The cluster as a run that asks for gangs has it."""
    return replace(cluster, reduction="collective", patience=patience, **settings)


def of_share(*places):
    """The setting of a cluster whose run prefers the workers at some places."""
    return {"chosen": lambda workers: [workers[place] for place in places if place < len(workers)]}


def nothing_to_tell(event):
    """A listener to whom nothing but the choice of a reduction may be told."""
    assert event in (ReductionPicked("graph", None), ReductionPicked("collective", None))
