import logging
from contextlib import contextmanager

import pytest
import torch

from fanfold.tasks.device.cuda_graph import Captured


class Doubled:
    """A function that counts its calls."""

    def __init__(self, error=None):
        self.calls, self.error, self.capturing = 0, error, False

    def __call__(self, tensor):
        self.calls += 1
        if self.capturing and self.error:
            raise self.error
        return 2 * tensor


@pytest.fixture
def imitate_cuda(monkeypatch):
    """Has a function "captured" on a CPU. A replay computes nothing, so that its output is the capture's.

    The stream that is current is `function.stream`, which a capture leaves its own where it fails at its end.
    """

    def imitate(function, fails_at_its_end=False):
        replays = []
        function.stream = "the caller's"

        class Graph:
            def replay(self):
                replays.append(self)

        @contextmanager
        def capture(graph, capture_error_mode):
            function.capturing, function.stream = True, "the capture's"
            try:
                yield
            finally:
                function.capturing = False
                if fails_at_its_end:
                    raise RuntimeError("capture_end failed")
                function.stream = "the caller's"

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", capture)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: function.stream)
        monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(function, "stream", stream))
        return Captured(function, torch.device("cuda")), replays

    return imitate


def test_on_a_cpu_every_call_is_plain():
    function = Doubled()
    captured = Captured(function, torch.device("cpu"))
    assert [captured(torch.tensor([number])).item() for number in (1, 2, 3)] == [2, 4, 6]
    assert function.calls == 3


def test_the_first_call_is_plain_the_second_captures_and_all_others_replay(imitate_cuda):
    function = Doubled()
    captured, replays = imitate_cuda(function)
    assert captured(torch.tensor([1.0])).item() == 2
    assert not replays
    outputs = [captured(torch.tensor([number])) for number in (2.0, 3.0, 4.0)]
    assert function.calls == 2
    assert len(replays) == 3
    assert all(output is outputs[0] for output in outputs)  # the graph's fixed output


def test_inputs_are_copied_to_where_the_graph_reads_them(imitate_cuda):
    seen = []

    class Noting(Doubled):
        def __call__(self, tensor):
            seen.append(tensor)
            return super().__call__(tensor)

    captured, _ = imitate_cuda(Noting())
    for number in (1.0, 2.0, 3.0):
        captured(torch.tensor([number]))
    assert len(seen) == 2
    assert seen[1].item() == 3


def test_every_combination_of_shapes_has_a_graph_of_its_own(imitate_cuda):
    function = Doubled()
    captured, replays = imitate_cuda(function)
    for size in (1, 2, 1, 2, 1, 2):
        captured(torch.ones(size))
    assert function.calls == 4
    assert len(set(replays)) == 2


def test_what_cannot_be_captured_is_computed_plainly_and_logged_once(imitate_cuda, caplog):
    function = Doubled(RuntimeError("operation not permitted\nwhen stream is capturing"))
    captured, replays = imitate_cuda(function)
    with caplog.at_level(logging.WARNING, "fanfold.tasks.device.cuda_graph"):
        assert [captured(torch.tensor([number])).item() for number in (1, 2, 3, 4)] == [2, 4, 6, 8]
    assert not replays
    (record,) = caplog.records
    assert "can't be captured as a CUDA graph (operation not permitted" in record.getMessage()


def test_a_capture_that_fails_at_its_end_leaves_the_callers_stream_current(imitate_cuda, monkeypatch, caplog):
    function, synchronized = Doubled(), []

    def fail_after_the_capture():
        synchronized.append(function.calls)
        if function.calls == 2:
            raise RuntimeError("still failing")

    caplog.set_level(logging.WARNING, "fanfold.tasks.device.cuda_graph")  # whatever ran before in this process
    captured, replays = imitate_cuda(function, fails_at_its_end=True)
    monkeypatch.setattr(torch.cuda, "synchronize", fail_after_the_capture)
    assert [captured(torch.tensor([number])).item() for number in (1, 2, 3)] == [2, 4, 6]
    assert function.stream == "the caller's"
    assert synchronized == [1, 2]
    assert not replays
    assert "can't be captured as a CUDA graph (capture_end failed)" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_graph_computes_what_the_function_computes():
    captured = Captured(Doubled(), torch.device("cuda"))
    found = [captured(torch.tensor([number], device="cuda")).item() for number in (1, 2, 3, 4)]
    assert found == [2, 4, 6, 8]
