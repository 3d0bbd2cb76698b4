"""What the ranks of a gang exchange, over gloo in one thread a rank."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
from torch.distributed import FileStore, ProcessGroupGloo

from fanfold.pipeline.executors.communicator import Communicator, DisbandedError

RANKS = 3


def group(path, rank, ranks=RANKS):
    return ProcessGroupGloo(FileStore(path, ranks), rank, ranks, timedelta(seconds=30))


def of_rank(path, rank):
    """What every method gives on a rank."""
    communicator = Communicator(group(path, rank), rank, RANKS, lambda: True)
    tensor = torch.full((2, 3), float(rank + 1))
    communicator.broadcast(tensor)
    gathered = communicator.gather(torch.tensor([rank, 10 * rank]))
    rows = torch.arange(RANKS * rank * 2).view(RANKS, rank, 2).float() + 100 * rank  # rank 0 has none, rank 2 two
    found = torch.empty(sum(range(RANKS)), 2)
    communicator.exchange(rows, found, list(range(RANKS)))
    segments = torch.empty(2 * RANKS)
    communicator.gather_into(segments, torch.tensor([rank, rank + 0.5]))
    return rank, tensor.tolist(), gathered.tolist(), found.tolist(), segments.tolist()


def test_every_rank_finds_what_the_others_sent(tmp_path):
    with ThreadPoolExecutor(RANKS) as threads:
        found = list(threads.map(of_rank, [str(tmp_path / "store")] * RANKS, range(RANKS)))
    sent = [torch.arange(RANKS * rank * 2).view(RANKS, rank, 2).float() + 100 * rank for rank in range(RANKS)]
    for rank, tensor, gathered, rows, segments in found:
        assert tensor == [[1.0] * 3] * 2
        assert gathered == [[0, 0], [1, 10], [2, 20]]
        assert rows == torch.cat([of[rank] for of in sent]).tolist()
        assert segments == [0, 0.5, 1, 1.5, 2, 2.5]


def test_nobody_waits_for_a_window_that_is_not_wanted(tmp_path):
    communicator = Communicator(group(str(tmp_path / "store"), 0, 1), 0, 1, lambda: False)
    with pytest.raises(DisbandedError, match="no longer wanted"):
        communicator.check()
