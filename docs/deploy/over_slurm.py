"""Train over jobs of SLURM's: `python over_slurm.py STORE`, from a node that the jobs reach. Needs dask-jobqueue."""

import sys

from dask.distributed import Client
from dask_jobqueue import SLURMCluster

import fanfold

JOBS = 4


def main(store: str) -> None:
    """Queue jobs of one worker each, train over those that come, and end them."""
    with SLURMCluster(
        cores=1,  # one thread: a chunk takes a whole worker
        processes=1,
        memory="8GB",
        walltime="02:00:00",
        # A worker leaves in time, hands over what it holds, and the next job takes its place.
        worker_extra_args=["--preload", "fanfold.pipeline.cluster.preload", "--lifetime", "110m"],
        # job_extra_directives=["--gres=gpu:1"],  # a GPU for each job
    ) as cluster:
        print(cluster.job_script())
        cluster.adapt(minimum_jobs=1, maximum_jobs=JOBS)
        with Client(cluster) as client:
            client.wait_for_workers(1)
            print(fanfold.train(store, "protonet", minutes=60, cluster=client))


if __name__ == "__main__":
    main(*sys.argv[1:])
