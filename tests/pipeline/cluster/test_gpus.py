"""Which GPUs there are, and what is said of them: on any machine."""

import pytest

from fanfold.pipeline.cluster.gpus import (
    Device,
    Gpus,
    Hardware,
    Inventory,
    choose,
    common,
    find_gpus,
    in_words,
    probe_device,
    visible,
)

TWO = Inventory(("GPU-84fd49f2-48ad", "GPU-84d6ac2d-159b"), ("MIG-41b3359c-e721", "MIG-65b79fff-6d3c"), (12, 8))


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (None, (0, 1)),
        ("0,1", (0, 1)),
        ("1, 0", (1, 0)),
        ("1", (1,)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("1,-1,0", (1,)),  # the list ends where it makes no sense
        ("0,2,1", (0,)),
        ("0,0", ()),  # and is worth nothing with one twice
        ("GPU-84d6ac2d-159b", (1,)),
        ("GPU-84d6,GPU-84fd", (1, 0)),  # UUIDs may be cut short
        ("GPU-84", ()),  # but not so short
        ("GPU-84d6ac2d-159b,GPU-84d6", ()),
        ("GPU-84fd,1", (0,)),  # a list is of one kind
        ("1,GPU-84fd", (1,)),
        ("MIG-65b79fff-6d3c,MIG-41b", ("MIG-65b79fff-6d3c", "MIG-41b3359c-e721")),
        ("MIG-0", ()),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(asked, shown):
    assert visible(TWO, asked) == shown


@pytest.mark.parametrize(
    ("cuda", "problem"),
    [
        ("12.8", None),
        ("12.9", None),  # a driver runs what was built for later ones of its major version
        ("11.8", None),
        ("13.2", "there is a GPU, but PyTorch 2.15 needs a driver for CUDA 13.2, and this one is for 12.8"),
        (None, "there is a GPU, but PyTorch 2.15 is built without CUDA"),
    ],
)
def test_a_gpu_that_pytorch_can_not_use_is_told_from_none(cuda, problem):
    assert choose(TWO, "1", "2.15", cuda) == Gpus((1,), problem)


def test_no_gpu_and_hidden_ones_are_said():
    assert choose(Inventory(), None, "2.15", None) == Gpus((), "no GPU found")
    hidden = "no GPU found (CUDA_VISIBLE_DEVICES='-1' shows none of 2)"
    assert choose(TWO, "-1", "2.15", "12.8") == Gpus((), hidden)


def test_a_worker_that_is_shown_no_gpu_has_none(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpus().names == ()
    assert probe_device().problem is None


HERE, THERE = "tcp://10.0.0.1:", "tcp://10.0.0.2:"


def card(uuid, name="NVIDIA H200", seen=1):
    return Device(name, uuid, seen)


def test_workers_with_a_gpu_each_compute_there():
    found = {HERE + "1": card("a"), THERE + "1": card("b")}
    assert common(found) == Hardware("cuda", ("NVIDIA H200", "NVIDIA H200"))


def test_a_gpu_that_several_workers_share_counts_once():
    assert common({HERE + "1": card("a"), HERE + "2": card("a")}) == Hardware("cuda", ("NVIDIA H200",))


def test_workers_without_a_gpu_compute_on_the_cpu_and_nothing_is_said():
    assert common({HERE + "1": Device(), HERE + "2": Device()}) == Hardware()


def test_in_a_mixed_cluster_it_is_said_who_has_no_gpu():
    found = {HERE + str(port): Device() for port in range(4)} | {THERE + "1": card("a"), THERE + "2": card("b")}
    lacking = f"{HERE}0, {HERE}1, {HERE}2 and 1 more: no GPU"
    assert common(found) == Hardware(problem=f"2 of 6 workers can use a GPU ({lacking})")


def test_a_gpu_that_pytorch_can_not_use_on_a_worker_is_said():
    found = {HERE + "1": Device(problem="it is too old"), HERE + "2": Device(), THERE + "1": card("a")}
    why = f"{HERE}1: it is too old; {HERE}2: no GPU"
    assert common(found) == Hardware(problem=f"1 of 3 workers can use a GPU ({why})")
    alike = {HERE + "1": Device(problem="it is too old")}
    assert common(alike) == Hardware(problem=f"0 of 1 workers can use a GPU ({HERE}1: it is too old)")


def test_gpus_that_stand_idle_while_others_are_shared_are_said():
    shared = {HERE + str(port): card("a", seen=4) for port in range(3)}
    (note,) = common(shared | {THERE + "1": card("b")}).notes
    assert note == "3 workers at 10.0.0.1 use 1 of its 4 GPUs: `dask cuda worker` starts one worker on each"
    spread = {HERE + str(port): card(uuid, seen=2) for port, uuid in enumerate("abab")}
    assert common(spread).notes == ()
    assert common({HERE + "1": card("a", seen=4)}).notes == ()  # one worker asked for


def test_gpus_of_several_kinds_are_said():
    (note,) = common({HERE + "1": card("a"), HERE + "2": card("b", "NVIDIA L4")}).notes
    assert note == "GPUs of several kinds (NVIDIA H200, NVIDIA L4): another run may differ in the last digits"
    assert in_words(("NVIDIA H200", "NVIDIA L4", "NVIDIA L4")) == "NVIDIA H200, 2 × NVIDIA L4"
