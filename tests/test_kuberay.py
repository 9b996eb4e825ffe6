"""The Kubernetes example: what KubeRay requires is there, and its study is one that runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tunewright.agent.cli import study_file
from tunewright.agent.cli.main import cli
from tunewright.plugins.ray.cluster import demands

MANIFEST = Path(__file__).resolve().parent.parent / "examples" / "kuberay.yaml"


@pytest.fixture
def parts():
    found = {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text())}
    assert set(found) == {"PersistentVolumeClaim", "ConfigMap", "RayJob"}
    return found


@pytest.fixture
def study(parts, tmp_path):
    (tmp_path / "study.yaml").write_text(parts["ConfigMap"]["data"]["study.yaml"])
    return study_file.read(tmp_path / "study.yaml")


def pods(job):
    cluster = job["spec"]["rayClusterSpec"]
    return {"head": cluster["headGroupSpec"], **{one["groupName"]: one for one in cluster["workerGroupSpecs"]}}


def test_it_has_the_fields_that_the_operator_requires(parts):
    """Of ray.io/v1, RayJob: names and types as its definition has them."""
    job = parts["RayJob"]
    assert job["apiVersion"] == "ray.io/v1" and job["metadata"]["name"]
    assert isinstance(job["spec"]["entrypoint"], str)
    assert job["spec"]["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
    for name, group in pods(job).items():
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] and container["name"]
        assert container["resources"]["requests"] == container["resources"]["limits"], name
        if name != "head":
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_what_pods_mount_is_there_and_holds_what_the_study_needs(parts, study):
    head = pods(parts["RayJob"])["head"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in head["volumes"]}
    mounts = {m["mountPath"]: volumes[m["name"]] for m in head["containers"][0]["volumeMounts"]}
    assert mounts["/study"]["persistentVolumeClaim"]["claimName"] == parts["PersistentVolumeClaim"]["metadata"]["name"]
    assert mounts["/config"]["configMap"]["name"] == parts["ConfigMap"]["metadata"]["name"]
    assert study.arguments["store"] == Path("/study/tunewright.db")
    assert head["hostname"], "or the driver of a new pod could not know that the old one is gone"


def test_its_command_line_is_one_of_ours(parts):
    words = parts["RayJob"]["spec"]["entrypoint"].split()
    assert words[:2] == ["tunewright", "tune"]
    context = cli.commands["tune"].make_context("tune", words[2:])
    assert (str(context.params["file"]), context.params["runner"]) == ("/config/study.yaml", "ray")


def test_all_workers_of_the_study_find_room(parts, study):
    name, options = study.runner
    assert name == "ray" and options["checkpoint_store"].startswith("s3://")
    asked = demands(options["resources"])
    group = pods(parts["RayJob"])["gpu"]
    pod = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    fit = min(float(pod["cpu"]) // asked["num_cpus"], float(pod["nvidia.com/gpu"]) // asked["num_gpus"])
    assert fit * group["maxReplicas"] == study.workers
