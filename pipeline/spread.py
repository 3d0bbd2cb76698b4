"""Pictures labelled by the workers of a Dask cluster, in order, some chunks ahead."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch

from fanfold.data.pictures import Picture
from fanfold.pipeline.classifier import Classifier, Judgement, Over
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.results import in_order

AHEAD = 2  # chunks a thread of a worker


def over_workers(cluster: Cluster) -> Over:
    """Label pictures over a cluster's workers, see `Classifier.predict`.

    Workers read files by their paths, so these must be the same there. The classifier travels to each worker once.
    """

    def over(
        classifier: Classifier, chunks: Iterable[Sequence[Picture]]
    ) -> Iterator[tuple[Sequence[Picture], Judgement]]:
        content = classifier.to_bytes()
        digest = hashlib.sha256(content).hexdigest()
        shipped = cluster.client.scatter(content, broadcast=True, hash=True)
        configurations = classifier.learner.model, classifier.learner.algorithm
        most = AHEAD * max(1, sum(cluster.client.nthreads().values()))

        def call(chunk: Sequence[Picture]) -> tuple[Any, ...]:
            return judge_chunk, digest, shipped, configurations, list(chunk)

        return in_order(cluster.part("labelling"), "label", chunks, call, most)

    return over


def judge_chunk(digest: str, content: bytes, configurations: tuple, pictures: Sequence[Picture]) -> Judgement:  # type: ignore[type-arg]
    """What a worker says of some pictures."""
    torch.set_num_threads(1)  # workers compute side by side
    return _loaded(digest, _Content(content, configurations)).judge(pictures)


class _Content:
    """A classifier's file, which a cache tells apart by its digest alone."""

    def __init__(self, content: bytes, configurations: tuple) -> None:  # type: ignore[type-arg]
        self.content, self.configurations = content, configurations

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content)


@lru_cache(maxsize=2)
def _loaded(_digest: str, content: _Content) -> Classifier:
    model, algorithm = content.configurations
    return Classifier.from_bytes(content.content, "the classifier", model, algorithm)
