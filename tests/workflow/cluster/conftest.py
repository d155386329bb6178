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
        try:
            cluster.up()
        except PermissionError as error:  # a container may be root without the right to make devices
            pytest.skip(f"this process may not start SLURM: {error}")
        yield cluster
    finally:
        cluster.down()
