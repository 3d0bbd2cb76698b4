"""What a cluster should be. Needs no Dask to be read."""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Literal
from urllib.parse import urlsplit

from fanfold.data.errors import FanfoldError, check_at_least

TLS_FILES: Final = {"tls_ca": "tls_ca_file", "tls_cert": "tls_client_cert", "tls_key": "tls_client_key"}
"""The fields that name files, and what Dask calls these."""


@dataclass(frozen=True)
class ClusterConfig:
    """The cluster's settings.

    Args:
        kind: `cpu` for a worker on each core of this machine, `cuda` for one on each GPU, `auto` for `cuda` where
            PyTorch can use a GPU and `cpu` otherwise, or the address of a running scheduler (`tcp://…`, `tls://…`).
        workers: How many workers this machine gets; by default one a core, or `per_gpu` a GPU. With a scheduler's
            address: how many to wait for; by default one.
        per_gpu: How many workers may share a GPU, its memory and its time: for searches whose trials don't fill one.
        protocol: The transport between workers that Fanfold starts: `tcp`, or `ucx` (InfiniBand, NVLink), which needs
            distributed-ucxx. It hardly changes the speed: Dask carries a float32 vector of the parameters' length for
            each chunk or window, and no images.
        dashboard: The dashboard's address: `:port` is the loopback address alone, `0.0.0.0:8787` opens it to others;
            port 0 takes any free one.
        timeout: Seconds to wait for a scheduler and for workers, also for those of this machine to start.
        reduction: How gradients are combined, which changes no number: `graph` as tasks of Dask, for any worker;
            `collective` by a gang of workers that exchange gradients directly, with less overhead; `auto` chooses by
            the time of a chunk.
        patience: Seconds without a heartbeat after which a gang goes on without a worker.
        nccl: Whether a gang whose workers have a GPU each exchanges by NCCL, from device to device, and not through
            their hosts. It has not been measured, nor run on GPUs yet.
        tls: `required` for encrypted connections alone: workers that Fanfold starts get temporary certificates, and
            schedulers of others must be `tls://…`. `auto` takes schedulers as their addresses say.
        tls_ca: The certificate of the authority that signed a `tls://…` scheduler's, a file; by default what Dask's
            configuration says (`distributed.comm.tls`).
        tls_cert: This driver's certificate, a file.
        tls_key: The key of that certificate, a file.
    """

    kind: str = "auto"
    workers: int | None = None
    per_gpu: int = 1
    protocol: Literal["tcp", "ucx"] = "tcp"
    dashboard: str = ":8787"
    timeout: float = 60
    reduction: Literal["auto", "graph", "collective"] = "auto"
    patience: float = 10
    nccl: bool = False
    tls: Literal["auto", "required"] = "auto"
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "cpu", "cuda") and "://" not in self.kind:
            meant = "cuda" if self.kind in ("gpu", "gpus") else f"tcp://{self.kind}" if ":" in self.kind else None
            hint = "" if meant is None else f" Did you mean {meant}?"
            raise FanfoldError(
                f"No cluster '{self.kind}': use auto, cpu, cuda or a scheduler's address (tcp://…).{hint}"
            )
        check_at_least("cluster", self, workers=1, per_gpu=1)
        if self.per_gpu > 1 and self.kind not in ("auto", "cuda"):
            raise FanfoldError(f"`cluster.per_gpu` is for GPUs of this machine, not for `cluster.kind={self.kind}`.")
        if self.protocol not in ("tcp", "ucx"):
            raise FanfoldError(f"No protocol '{self.protocol}': use tcp or ucx.")
        if self.protocol != "tcp" and "://" in self.kind:
            raise FanfoldError(f"The address {self.kind} decides the protocol: leave `cluster.protocol` out.")
        if not self.timeout > 0:
            raise FanfoldError(f"`cluster.timeout` must be above 0, not {self.timeout:g}.")
        if self.reduction not in ("auto", "graph", "collective"):
            raise FanfoldError(f"No reduction '{self.reduction}': use auto, graph or collective.")
        if not self.patience >= 2:  # a heartbeat comes every half second, in large clusters less often
            raise FanfoldError(f"`cluster.patience` must be at least 2 seconds, not {self.patience:g}.")
        self._check_tls()

    def _check_tls(self) -> None:
        encrypted, joins, required = self.kind.startswith("tls://"), "://" in self.kind, self.tls == "required"
        if self.tls not in ("auto", "required"):
            raise FanfoldError(f"No `cluster.tls={self.tls}`: use auto or required.")
        if required and joins and not encrypted:
            raise FanfoldError(f"{self.kind} is not encrypted: name a tls:// address, or leave `cluster.tls` out.")
        if required and self.protocol != "tcp":
            raise FanfoldError(f"{self.protocol} is not encrypted: leave `cluster.protocol` or `cluster.tls` out.")
        if (required or encrypted) and self.reduction == "collective":
            raise FanfoldError(UNENCRYPTED)
        named = [field for field in TLS_FILES if getattr(self, field) is not None]
        if named and not encrypted:
            raise FanfoldError(f"`cluster.{named[0]}` is for a scheduler at a tls:// address, not for {self.kind}.")


UNENCRYPTED: Final = (
    "Workers of a gang exchange gradients unencrypted, which nothing else of an encrypted cluster is: use "
    "`cluster.reduction=graph`, or auto."
)


def is_local(address: str) -> bool:
    """Whether a scheduler's address is one of this machine's own, which no other reaches."""
    try:
        host = urlsplit(address).hostname or ""
        return address.startswith("inproc://") or host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name, or no address
        return False
