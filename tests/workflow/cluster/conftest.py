"""A SLURM cluster for the tests that need one."""

import pytest
from slurm_cluster import SlurmCluster, why_not


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Two running nodes, of which node2 has GPUs."""
    complaint = why_not()
    if complaint:
        pytest.skip(complaint)
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
