import subprocess
import sys
import time
from functools import partial

import numpy as np
import psutil
import pytest

from benchmarks.soak.injections import KINDS, draw
from benchmarks.soak.record import Record
from benchmarks.soak.sampling import WARM, Sample, Sampler, slope, warm


def test_faults_are_drawn_by_the_seed_alone_and_every_kind_comes():
    faults = draw(3, 200, 2000)
    assert faults == draw(3, 200, 2000) != draw(4, 200, 2000)
    assert len(faults) == 200
    assert {fault.kind for fault in faults} == set(KINDS)
    moments = [fault.iteration for fault in faults]
    assert moments == sorted(moments)
    assert 20 <= moments[0] <= moments[-1] < 1900


def test_a_slope_is_found_within_its_interval():
    times = np.arange(500.0)
    noise = np.convolve(np.random.default_rng(0).normal(0, 5, 500), np.ones(5), "same")  # neighbours are alike
    found = slope(times, 0.3 * times + noise)
    assert found.low < 0.3 < found.high
    assert found.high - found.low < 0.1
    flat = slope(times, noise)
    assert flat.low < 0 < flat.high


def test_processes_are_sampled_while_they_live_and_what_was_found_is_read_again(tmp_path):
    record = Record(tmp_path / "record.jsonl")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        there = psutil.Process(process.pid)
        with Sampler(lambda: {"driver": [there]}, lambda: 7, partial(record.sample, "part"), every=0.05):
            time.sleep(0.5)
            process.communicate(b"\n")
            time.sleep(0.2)
    record.fault("worker killed")
    record.fails("something")
    again = Record(tmp_path / "record.jsonl")
    assert (again.faults, again.wrong, again.samples) == (["worker killed"], ["something"], record.samples)
    last = again.samples["part"][-1]
    assert (last.role, last.iteration, last.threads) == ("driver", 7, 1)
    assert last.memory > 1 << 20
    assert 3 <= last.files < 50


@pytest.mark.parametrize(("lived", "kept"), [(WARM + 30, 0), (WARM + 100, 1)])
def test_a_process_counts_once_its_first_time_is_over(lived, kept):
    samples = [Sample("worker", (1, 5.0), 5.0 + second, second, 1, 1, 1) for second in range(int(lived))]
    found = list(warm(samples))
    assert len(found) == kept
    assert all(part[0].seconds > 5 + WARM for part in found)
