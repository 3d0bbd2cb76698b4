"""Pictures labelled by the workers of a Dask cluster, in order, some chunks ahead."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from uuid import uuid4

import torch
from distributed import Future

from fanfold.data.pictures import Picture
from fanfold.pipeline.classifier import Classifier, Judgement, Over
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.results import gathered

AHEAD = 2  # chunks a thread of a worker


def over_workers(cluster: Cluster) -> Over:
    """Label pictures over a cluster's workers, see `Classifier.predict`.

    Workers read files by their paths, so these must be the same there. The classifier travels to each worker once.
    """
    part = cluster.part("labelling")

    def over(
        classifier: Classifier, chunks: Iterable[Sequence[Picture]]
    ) -> Iterator[tuple[Sequence[Picture], Judgement]]:
        return _spread(classifier, chunks, part)

    return over


def _spread(
    classifier: Classifier, chunks: Iterable[Sequence[Picture]], cluster: Cluster
) -> Iterator[tuple[Sequence[Picture], Judgement]]:
    """The chunks with what the workers judge of them, in their order."""
    client, run = cluster.client, uuid4().hex[:8]
    content = classifier.to_bytes()
    digest = hashlib.sha256(content).hexdigest()
    shipped = client.scatter(content, broadcast=True, hash=True)
    configurations = classifier.learner.model, classifier.learner.algorithm
    waiting = deque[tuple[Sequence[Picture], "Future[Judgement]"]]()
    most = AHEAD * max(1, sum(client.nthreads().values()))
    for place, chunk in enumerate(chunks):
        with cluster.labelled():
            future = client.submit(
                judge_chunk, digest, shipped, configurations, list(chunk), key=(f"label-{run}", place), pure=False
            )
        waiting.append((chunk, future))
        if len(waiting) >= most:
            yield _taken(cluster, waiting)
    while waiting:
        yield _taken(cluster, waiting)


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


def _taken(
    cluster: Cluster, waiting: deque[tuple[Sequence[Picture], "Future[Judgement]"]]
) -> tuple[Sequence[Picture], Judgement]:
    chunk, future = waiting.popleft()
    return chunk, gathered(cluster, [future])[0]
