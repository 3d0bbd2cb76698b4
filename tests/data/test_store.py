import hashlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from fanfold.data.errors import FanfoldError
from fanfold.data.plain import JSON
from fanfold.data.store import SCHEMA, open_store, verify_store, write_store
from fanfold.data.writing import told
from tests.data.conftest import NoiseSource


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass(frozen=True)
class BrokenSource(NoiseSource):
    """Fails in its second shard."""

    error: type[BaseException] = FanfoldError

    def read(self, index: int, first: int, last: int) -> Sequence[NDArray[np.uint8] | FanfoldError]:
        if index == 100:
            raise self.error("no more")
        return super().read(index, first, last)


@dataclass(frozen=True)
class SkippingSource(NoiseSource):
    """One picture of class 1 and all of class 2 can't be read."""

    def read(self, index: int, first: int, last: int) -> Sequence[NDArray[np.uint8] | FanfoldError]:
        found = list(super().read(index, first, last))
        if index in (1, 2):
            found[0 : 1 if index == 1 else None] = [FanfoldError("bad")] * (1 if index == 1 else len(found))
        return found


@pytest.mark.parametrize(("varying", "channels"), [(False, 1), (True, 3)])
def test_what_is_written_is_read(tmp_path: Path, varying: bool, channels: Literal[1, 3]) -> None:
    source = NoiseSource(varying=varying, channels=channels)
    summary = write_store(tmp_path / "noise.zarr", source, progress=False)
    store = open_store(tmp_path / "noise.zarr")
    pixels = store.read()
    assert pixels.shape == store.images.shape == (sum(source.counts), channels, 6, 8)
    assert (summary.pictures, summary.unreadable, summary.empty) == (len(pixels), [], [])
    assert (store.dataset, store.size, store.channels) == ("noise", (6, 8), channels)
    assert list(store.names) == source.names
    assert store.preprocessing == source.preprocessing
    assert store.counts.tolist() == source.counts
    for index, (first, last) in enumerate(zip(store.first, store.first[1:], strict=False)):
        np.testing.assert_array_equal(pixels[first:last], source.whole(index))
    for first, last in ((0, 1), (7, 9), (8, 16), (130, 390), (len(pixels) - 1, len(pixels))):
        np.testing.assert_array_equal(store.read(first, last), pixels[first:last])
    assert store.paths[:5] == ("0", "1", "2", *(("0", "1") if varying else ("3", "0")))


def test_what_can_not_be_read_is_skipped_and_told(tmp_path: Path) -> None:
    summary = write_store(tmp_path / "noise.zarr", SkippingSource(classes=5), progress=False)
    store = open_store(tmp_path / "noise.zarr")
    assert (summary.pictures, len(summary.unreadable)) == (15, 5)
    assert summary.empty == ["Group 2/ж2"]
    assert store.counts.tolist() == [4, 3, 4, 4]
    np.testing.assert_array_equal(store.read(4, 7), NoiseSource(classes=5).whole(1)[1:])
    assert [name.name for name in store.names] == ["ж0", "ж1", "ж3", "ж4"]
    lines = told(summary, {"notes": ["a note"]})
    assert lines == [
        "a note",
        "5 pictures were skipped: bad; bad; bad; bad; bad",
        "4 pictures have one colour all over: 0; 1; 2; 3",  # those of BLANK
        "1 class has no readable picture: Group 2/ж2",
    ]


def test_the_layout_is_that_of_the_schema(noise_store: Path) -> None:
    group = zarr.open_group(noise_store, mode="r", zarr_format=3)
    assert group.attrs.asdict().items() >= {"dataset": "noise", "schema": SCHEMA}.items()
    images = group["images"]
    assert (images.dtype, images.shape) == (np.uint8, (520, 1, 6, 8))
    assert (images.chunks, images.shards) == ((8, 1, 6, 8), (128, 1, 6, 8))
    assert [type(codec).__name__ for codec in images.compressors] == ["ZstdCodec", "Crc32cCodec"]
    assert len(contents(noise_store)) == 5 + 6 + 8  # shards, small chunks, descriptions


def test_a_blank_chunk_is_stored_all_the_same(tmp_path: Path) -> None:
    write_store(tmp_path / "blank.zarr", NoiseSource(pictures=40), progress=False)
    shard = (tmp_path / "blank.zarr/images/c/0/0/0/0").read_bytes()
    index = np.frombuffer(shard[-(16 * 16 + 4) : -4], "<u8").reshape(16, 2)
    assert index[-1, 0] != 2**64 - 1  # of BLANK's pictures alone


def test_the_digest_is_of_what_decides_not_of_where_it_came_from(noise: NoiseSource, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Elsewhere(NoiseSource):
        @property
        def origin(self) -> Mapping[str, JSON]:
            return {"source": "elsewhere"}

    digests = []
    for number, source in enumerate((noise, Elsewhere(), replace(noise, seed=1), replace(noise, groups=4))):
        write_store(tmp_path / str(number), source, progress=False)
        digests.append(open_store(tmp_path / str(number)).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_two_stores_of_the_same_data_are_the_same_bytes(noise: NoiseSource, noise_store: Path, tmp_path: Path) -> None:
    write_store(tmp_path / "again.zarr", noise, progress=False)
    assert contents(tmp_path / "again.zarr") == contents(noise_store)


def test_writing_and_opening_warn_of_nothing(noise: NoiseSource, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_store(tmp_path / "quiet.zarr", noise, progress=False)
        verify_store(tmp_path / "quiet.zarr")


def test_progress_is_one_line_where_there_is_no_terminal(
    noise: NoiseSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_store(tmp_path / "noise.zarr", noise)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"Writing {tmp_path / 'noise.zarr'}: 130 classes of noise, 520 pictures\n"


def test_a_store_is_not_overwritten_unasked(noise_store: Path) -> None:
    before = contents(noise_store)
    with pytest.raises(FanfoldError, match=r"noise\.zarr: exists already.*`overwrite=true`"):
        write_store(noise_store, NoiseSource(seed=1), progress=False)
    assert contents(noise_store) == before


def test_overwriting_has_a_complete_store_in_place_at_every_instant(noise_store: Path) -> None:
    absences, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not (noise_store / "checksum/c/0").exists():
                absences.append(time.perf_counter())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for seed in range(1, 6):
        write_store(noise_store, NoiseSource(classes=10, seed=seed), overwrite=True, progress=False)
    done.set()
    watcher.join()
    assert not absences
    np.testing.assert_array_equal(open_store(noise_store).read(0, 4), NoiseSource(classes=10, seed=5).whole(0))
    assert [path.name for path in noise_store.parent.iterdir()] == ["noise.zarr"]


def test_overwriting_through_a_link_replaces_what_it_points_to(noise: NoiseSource, noise_store: Path) -> None:
    link = noise_store.with_name("link.zarr")
    link.symlink_to(noise_store)
    write_store(link, replace(noise, seed=1), overwrite=True, progress=False)
    assert link.is_symlink()
    np.testing.assert_array_equal(open_store(noise_store).read(0, 4), replace(noise, seed=1).whole(0))


def test_what_is_no_store_is_never_overwritten(noise: NoiseSource, tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(FanfoldError, match="not a store of Fanfold's, so not overwritten"):
        write_store(tmp_path, noise, overwrite=True, progress=False)
    assert (tmp_path / "letters.txt").read_text() == "dear"


@pytest.mark.parametrize("error", [FanfoldError, ZeroDivisionError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_new_behind(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        write_store(tmp_path / "stores/noise.zarr", BrokenSource(error=error), progress=False)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_earlier_store_as_it_was(noise_store: Path) -> None:
    before = contents(noise_store.parent)
    with pytest.raises(FanfoldError, match="no more"):
        write_store(noise_store, BrokenSource(), overwrite=True, progress=False)
    assert contents(noise_store.parent) == before


def test_an_interrupted_process_leaves_nothing_behind(tmp_path: Path) -> None:
    program = f"""
import signal, time
from pathlib import Path
from fanfold.data.store import write_store
from tests.data.conftest import NoiseSource

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored

class Slow(NoiseSource):
    def read(self, index, first, last):
        if index % 64 == 20:
            print("reading", flush=True)
        time.sleep(0.02)
        return super().read(index, first, last)

write_store(Path({str(tmp_path / "stores/slow.zarr")!r}), Slow(classes=1000), progress=False)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"reading")
        assert list((tmp_path / "stores").iterdir())
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) != 0  # all of it takes 10 s
    assert not list(tmp_path.iterdir())


def test_a_file_too_large_is_an_error_of_one_line(tmp_path: Path) -> None:
    program = f"""
import resource, sys
from pathlib import Path
from fanfold.data.errors import FanfoldError
from fanfold.data.store import write_store
from tests.data.conftest import NoiseSource

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_store(Path({str(tmp_path / "noise.zarr")!r}), NoiseSource(size=(28, 28)), progress=False)
except FanfoldError as error:
    sys.exit(str(error))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.stderr.startswith(f"{tmp_path / 'noise.zarr'}: the store can't be written: File too large")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_and_the_earlier_store_stays(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        path = tmp_path / "noise.zarr"
        write_store(path, NoiseSource(classes=10), progress=False)
        before = contents(tmp_path)
        with pytest.raises(FanfoldError, match=r"noise\.zarr: the store can't be written: No space left on device"):
            write_store(path, NoiseSource(size=(60, 60)), overwrite=True, progress=False)
        assert contents(tmp_path) == before
        verify_store(path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_is_a_file_is_an_error_of_one_line(noise: NoiseSource, tmp_path: Path) -> None:
    (tmp_path / "stores").write_text("")
    with pytest.raises(FanfoldError, match=r"noise\.zarr: the store can't be written"):
        write_store(tmp_path / "stores/noise.zarr", noise, progress=False)
