"""Encrypted connections, and what is said of others."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, Security

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.cluster.cluster import Cluster, open_cluster
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.cluster.tls import open_to_all
from fanfold.pipeline.events import ReductionPicked
from fanfold.pipeline.executors.choose import open_executor
from fanfold.pipeline.executors.graph import GraphExecutor

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def encrypted() -> Iterator[Cluster]:
    """A cluster of one worker, with temporary certificates."""
    with open_cluster(ClusterConfig(kind="cpu", workers=1, dashboard=":0", tls="required")) as cluster:
        yield cluster


def written(security: Security, folder: Path) -> dict[str, str]:
    """The fields that name the files of some certificates."""
    folder.mkdir()
    parts = {"tls_ca": security.tls_ca_file, "tls_cert": security.tls_client_cert, "tls_key": security.tls_client_key}
    for field, content in parts.items():
        (folder / f"{field}.pem").write_text(content)
    return {field: str(folder / f"{field}.pem") for field in parts}


def test_a_cluster_of_this_machine_is_encrypted_throughout(encrypted):
    address = encrypted.client.scheduler.address
    assert address.startswith("tls://127.0.0.1")
    assert encrypted.addresses[0].startswith("tls://127.0.0.1")
    with pytest.raises(OSError, match=r"tcp://"):
        Client(address.replace("tls", "tcp"), timeout=1)


def test_gradients_of_an_encrypted_cluster_go_by_graph_and_that_is_told(encrypted, recipe):
    told = []
    executor = open_executor(encrypted, recipe, "run", told.append)
    assert type(executor) is GraphExecutor
    assert told[-1] == ReductionPicked("graph", "what a gang exchanges would not be encrypted, as all else here is")
    for settings in ({"tls": "required"}, {"kind": "tls://scheduler:8786"}):
        with pytest.raises(FanfoldError, match=r"exchange gradients unencrypted.*cluster\.reduction=graph"):
            ClusterConfig(reduction="collective", **settings)


def test_a_scheduler_of_others_is_joined_by_its_certificates(encrypted, tmp_path):
    address, right = encrypted.client.scheduler.address, written(encrypted.client.security, tmp_path / "right")
    with open_cluster(ClusterConfig(kind=address, **right)) as joined:
        assert joined.client.submit(abs, -1).result(timeout=30) == 1
    wrong = written(Security.temporary(), tmp_path / "wrong")
    for settings, says in (
        (wrong, "No encrypted connection with tls://"),
        ({}, "takes certificates: give `cluster.tls_ca`"),
        (right | {"tls_key": str(tmp_path / "absent")}, "There is no certificate or key .*absent"),
        (right | {"tls_key": wrong["tls_key"]}, "The certificates can't be used"),
    ):
        with (
            pytest.raises(FanfoldError, match=says),
            open_cluster(ClusterConfig(kind=address, timeout=5, **settings)),
        ):
            pass


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "tcp://10.0.0.1:8786", "tls": "required"}, "tcp://10.0.0.1:8786 is not encrypted"),
        ({"kind": "tcp://127.0.0.1:8786", "tls": "required"}, "is not encrypted"),
        ({"kind": "ucx://10.0.0.1:8786", "tls": "required"}, "is not encrypted"),
        ({"protocol": "ucx", "tls": "required"}, "ucx is not encrypted"),
        ({"kind": "cpu", "tls_ca": "ca.pem"}, "`cluster.tls_ca` is for a scheduler at a tls:// address"),
        ({"tls": "yes"}, "use auto or required"),
    ],
)
def test_what_would_not_be_encrypted_is_refused(settings, message):
    with pytest.raises(FanfoldError, match=message):
        ClusterConfig(**settings)


def test_a_scheduler_that_all_may_use_is_told():
    assert open_to_all("tls://10.0.0.1:1") is None
    assert open_to_all("tcp://127.0.0.1:1") is None
    for address in ("tcp://10.0.0.1:1", "tcp://scheduler:8786", "ucx://10.0.0.1:1"):
        assert f"the connection to {address} is not encrypted" in open_to_all(address)
