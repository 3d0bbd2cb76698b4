"""A meta-batch shared by ranks: chunks, segments, rows."""

import numpy as np
import pytest
import torch

from fanfold.pipeline.executors.segments import Share, pack, segment_size, unpack
from fanfold.pipeline.fold import FAN_IN, ChunkSum, fold_ahead, fold_all

CPU = torch.device("cpu")


@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
@pytest.mark.parametrize(("chunks", "ranks"), [(1, 3), (5, 2), (8, 1), (16, 2), (17, 1), (70, 3), (128, 2)])
def test_sums_cut_into_segments_are_the_sums(chunks, ranks, tensors):
    """Folded ahead, cut up, folded and put together again: the bits of the whole fold."""
    random, size = np.random.default_rng(chunks), 11
    parts = [ChunkSum(random.normal(size=size).astype(np.float32), *random.normal(size=2), 3) for _ in range(chunks)]
    whole, length = fold_all(parts), segment_size(size, ranks)
    if tensors:
        parts = [ChunkSum(torch.tensor(p.gradient), torch.tensor(p.loss), torch.tensor(p.accuracy), 3) for p in parts]
    places = tuple((3 * place, 3 * place + 3) for place in range(chunks))
    shares, sent = [Share(rank, ranks, places) for rank in range(ranks)], []
    for share in shares:
        own = [part for part, owner in zip(parts, share.owners, strict=True) if owner == share.rank]
        assert len(own) == len(share.own)
        ahead, left = fold_ahead(own, share.owners, share.rank)
        assert len(ahead) == left.count(share.rank)
        sent.append(pack(ahead, ranks, length, CPU))
    tasks = [count for _, count in shares[0].left()]
    totals = [fold_all(unpack(torch.cat([rows[rank] for rows in sent]), tasks, length)) for rank in range(ranks)]
    assert torch.cat([total.gradient for total in totals])[:size].numpy().tobytes() == whole.gradient.tobytes()
    for total in totals:
        assert (float(total.loss), float(total.accuracy), total.tasks) == (whole.loss, whole.accuracy, whole.tasks)


def test_what_is_left_to_fold_is_known_beforehand():
    chunks = tuple((place, place + 1) for place in range(2 * FAN_IN))
    assert Share(0, 2, chunks).left() == [(0, FAN_IN), (1, FAN_IN)]
    assert Share(0, 2, ((0, 3), (3, 5))).left() == [(0, 3), (1, 2)]


def test_a_rank_without_chunks_has_no_rows():
    share = Share(0, 3, ((0, 4),))
    assert [share.chunks_of(rank) for rank in range(3)] == [((0, 4),), (), ()]
    assert pack([], 3, 5, CPU).shape == (3, 0, 9)
