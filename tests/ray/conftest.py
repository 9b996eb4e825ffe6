"""One Ray cluster on this machine for all tests of this folder, and one S3 server; `make test-ray` runs them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

# Before Ray is imported: workers at a niceness of 15 starve beside whatever else a test machine does.
os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each worker compiles Ray anew


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a cluster with four processors and a device that are none; this process is connected to it."""
    import ray

    folder = tempfile.mkdtemp(prefix="tw-ray-")
    context = ray.init(
        num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        object_store_memory=100 * 2**20, _temp_dir=folder, _node_ip_address="127.0.0.1",
    )  # fmt: skip
    yield context.address_info["address"]
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """Options of a file system whose bucket `tunewright` is here."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket="tunewright")
    yield {"endpoint_url": endpoint, "key": "test", "secret": "test"}
    server.stop()
