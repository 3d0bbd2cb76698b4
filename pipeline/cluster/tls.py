"""Encrypted connections: temporary certificates for workers that Fanfold starts, files for clusters of others."""

import ssl
from pathlib import Path

from distributed import Security

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.data.extras import need
from fanfold.pipeline.cluster.config import TLS_FILES, ClusterConfig, is_local

KEYS = "`cluster.tls_ca`, `cluster.tls_cert` and `cluster.tls_key`"


def temporary_security(config: ClusterConfig) -> Security | None:
    """New certificates for a cluster of this machine, in memory alone, where these are required; None otherwise.

    Raises:
        FanfoldError: What makes certificates is not installed.
    """
    if config.tls != "required":
        return None
    need("tls", "`cluster.tls=required`")
    made: Security = Security.temporary()
    return made


def security_of(config: ClusterConfig) -> Security:
    """How to connect with a scheduler that others started: by the files named, or else as Dask is configured.

    Raises:
        FanfoldError: An encrypted connection lacks its files, or they can't be read.
    """
    if not config.kind.startswith("tls://"):
        return Security()
    files = {key: getattr(config, field) for field, key in TLS_FILES.items()}
    found = Security(require_encryption=True, **{key: path for key, path in files.items() if path is not None})
    places = [getattr(found, key) for key in files]
    if None in places:
        raise FanfoldError(
            f"{config.kind} is encrypted, and takes certificates: give {KEYS}, or set distributed.comm.tls in Dask's "
            "configuration."
        )
    if absent := next((place for place in places if "\n" not in place and not Path(place).is_file()), None):
        raise FanfoldError(f"There is no certificate or key {absent}: mend {KEYS}.")
    try:
        found.get_connection_args("client")
    except (OSError, ValueError) as error:  # of the file system, or of SSL
        raise FanfoldError(f"The certificates can't be used ({one_line(error)[:200]}): mend {KEYS}.") from error
    return found


def refusal(error: BaseException) -> str | None:
    """Why an encrypted connection was refused; None where something else went wrong."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return getattr(seen, "verify_message", "") or seen.reason or one_line(seen)
        seen = seen.__cause__ or seen.__context__
    return None


def open_to_all(address: str) -> str | None:
    """A line on a scheduler of another machine that anybody may use who reaches it; None for others."""
    if address.startswith("tls://") or is_local(address):
        return None
    return (
        f"the connection to {address} is not encrypted, and whoever reaches that scheduler can run code on it and its "
        "workers: keep it inside a network that you trust, or use tls://"
    )
