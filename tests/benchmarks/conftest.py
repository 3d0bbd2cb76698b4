import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Small tensors are slower on several threads, here and in processes started from here."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
