"""Train over machines that are reached by ssh: `python over_ssh.py STORE HOST HOST …`. The first has the scheduler."""

import sys

from dask.distributed import Client, SSHCluster

import fanfold


def main(store: str, *hosts: str) -> None:
    """Start a worker on each host but the first, train over them, and end them."""
    workers = {"nthreads": 1, "n_workers": 1, "preload": ["fanfold.pipeline.cluster.preload"]}
    with (
        SSHCluster(list(hosts), worker_options=workers, remote_python=sys.executable) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(len(hosts) - 1, timeout=60)
        print(fanfold.train(store, "protonet", minutes=10, cluster=client))


if __name__ == "__main__":
    main(*sys.argv[1:])
