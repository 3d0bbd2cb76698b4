"""Stores in buckets, by moto's server."""

import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import fsspec
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from fanfold.data.errors import FanfoldError
from fanfold.data.images import CachedImages, WholeImages, open_images
from fanfold.data.remote import Remote, is_remote, place
from fanfold.data.store import open_store, write_store
from tests.data.conftest import NoiseSource

ADDRESS = "s3://pictures/stores/noise.zarr"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty bucket, credentials for it, and a folder for the machine's copies."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="pictures")
    for found in client.list_objects_v2(Bucket="pictures").get("Contents", ()):
        client.delete_object(Bucket="pictures", Key=found["Key"])
    return ADDRESS


def test_a_store_in_a_bucket_is_the_local_one(bucket: str, tmp_path: Path) -> None:
    source = NoiseSource(varying=True)
    write_store(tmp_path / "noise.zarr", source, progress=False)
    write_store(bucket, source, progress=False)
    local, remote = open_store(tmp_path / "noise.zarr"), open_store(bucket)
    assert str(remote.path) == bucket
    assert remote.digest == local.digest
    assert remote.paths == local.paths
    np.testing.assert_array_equal(remote.read(5, 200), local.read(5, 200))


def test_a_machine_copies_it_once(bucket: str, tmp_path: Path) -> None:
    write_store(bucket, NoiseSource(), progress=False)
    store = open_store(bucket)
    images = open_images(store)
    assert isinstance(images, WholeImages)
    assert isinstance(images.pixels, np.memmap)
    fsspec.filesystem("s3").rm("pictures/stores/noise.zarr/images", recursive=True)  # another worker needs no bucket
    again = open_images(store)
    np.testing.assert_array_equal(again.gather(129, 1), NoiseSource().whole(129)[1])


def test_where_the_disk_is_short_chunks_are_read_from_the_bucket(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(bucket, NoiseSource(), progress=False)
    monkeypatch.setattr("fanfold.data.mapped.ROOM", 2**62)
    images = open_images(open_store(bucket), memory_limit=1000)
    assert isinstance(images, CachedImages)
    np.testing.assert_array_equal(images.gather(129, 1), NoiseSource().whole(129)[1])


def test_one_that_is_there_is_replaced_when_asked_alone(bucket: str) -> None:
    write_store(bucket, NoiseSource(), progress=False)
    with pytest.raises(FanfoldError, match=r"^s3://pictures/stores/noise\.zarr: exists already; .*`overwrite=true`$"):
        write_store(bucket, NoiseSource(), progress=False)
    write_store(bucket, NoiseSource(classes=20), overwrite=True, progress=False)
    assert len(open_store(bucket).names) == 20
    assert len(fsspec.filesystem("s3").find("pictures/stores/noise.zarr/images")) == 1 + 1  # no shard of the larger one


def test_what_is_no_store_is_not_replaced(bucket: str) -> None:
    fsspec.filesystem("s3").pipe("pictures/stores/noise.zarr/thesis.txt", b"mine")
    with pytest.raises(FanfoldError, match="not a store of Fanfold's, so not overwritten"):
        write_store(bucket, NoiseSource(), overwrite=True, progress=False)


def test_a_shard_that_is_gone_is_said(bucket: str) -> None:
    write_store(bucket, NoiseSource(), progress=False)
    fsspec.filesystem("s3").rm("pictures/stores/noise.zarr/images/c/1/0/0/0")
    with pytest.raises(FanfoldError, match=r"incomplete: chunk c/1/0/0/0 of array images is missing; prepare it again"):
        open_store(bucket)


def test_errors_say_what_to_do(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FanfoldError, match=r"^s3://pictures/none\.zarr: there is no such store; make it with"):
        open_store("s3://pictures/none.zarr")
    with pytest.raises(FanfoldError, match=r"^s3://nowhere/none\.zarr: no such bucket .*; make it first"):
        open_store("s3://nowhere/none.zarr")
    with pytest.raises(FanfoldError, match=r"^s3://nowhere/none\.zarr: no such bucket"):
        write_store("s3://nowhere/none.zarr", NoiseSource(), progress=False)
    with pytest.raises(FanfoldError, match=r"^neverland://a/b: can't be reached \("):
        open_store("neverland://a/b")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(FanfoldError, match=r"^s3://pictures/none\.zarr: no credentials .*AWS_ACCESS_KEY_ID"):
        open_store("s3://pictures/none.zarr")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(FanfoldError, match=r"needs an extra \(s3fs not installed: pip install .*\[s3\]'\)"):
        open_store("s3://pictures/none.zarr")


def test_addresses_are_told_from_paths() -> None:
    assert is_remote("s3://bucket/a.zarr")
    assert is_remote("gs://bucket/a.zarr")
    assert not is_remote("stores/a.zarr")
    assert not is_remote("C:\\stores")
    assert place("stores/a") == Path("stores/a")
    assert place("s3://bucket/a") / "zarr.json" == Remote("s3://bucket/a/zarr.json")
