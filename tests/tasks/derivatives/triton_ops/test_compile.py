"""Every kernel of a meta-iteration compiles for the GPU that it is meant for, which needs none."""

import pytest

pytest.importorskip("triton")

from benchmarks.ahead import PRODUCTS, compiling
from benchmarks.launches import meta_iteration, setting

# What kernels of several sizes may differ in here; all sizes, precisions and networks: `python -m benchmarks.ahead`.
FLAGS = {"PAIRS", "TRANSPOSED", "MOMENTS", "TANGENT"}
READ_FEATURE_MAPS = {"gate", "spread", "spread_tangent", "sum_tangent", "normalize", "normalize_tangent"}


def test_kernels_fit_a_multiprocessor_and_read_in_whole_words(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    with compiling(only=FLAGS) as found:
        meta_iteration(setting("a"), counted=False)
    kernels = list(found.values())
    assert {kernel.name for kernel in kernels} >= PRODUCTS | READ_FEATURE_MAPS
    assert sum(kernel.name in PRODUCTS for kernel in kernels) == 6
    assert not [fault for kernel in kernels for fault in kernel.faults]
    for kernel in kernels:
        if kernel.name in PRODUCTS:
            assert kernel.copies, f"{kernel} doesn't load ahead"
        if kernel.name in PRODUCTS | READ_FEATURE_MAPS:
            assert kernel.wide, f"{kernel} reads less than 16 bytes at a time"
