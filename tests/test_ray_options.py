"""What can be said of the Ray runner without Ray: what is asked for, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunewright.agent import Agent, Float, TunewrightError
from tunewright.agent.cli import study_file
from tunewright.plugins.ray.cluster import demands, withheld


def test_without_ray_the_runner_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    agent = Agent({"x": Float(0, 1)}, metric="loss", store=tmp_path / "s.db", advisor=None)
    with pytest.raises(TunewrightError, match=r"needs the library ray.*pip install 'tunewright\[ray\]'"):
        agent.tune(lambda trial: trial["x"], 2, runner="ray")
    assert agent.trials == []


@pytest.mark.parametrize(
    "resources, asked",
    [
        (None, (1, 0, {})),
        ({"CPU": 0.5, "gpu": 0.25}, (0.5, 0.25, {})),
        ({"cpu": 0, "gpu": 2, "TPU": 4}, (0, 2, {"TPU": 4})),
    ],
)
def test_what_a_worker_asks_for(resources, asked):
    found = demands(resources)
    assert (found["num_cpus"], found["num_gpus"], found["resources"]) == asked


def test_keys_stay_with_the_driver_but_for_those_of_storage_where_it_is_used(monkeypatch):
    for name in ("OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "secret-0123456789")
    assert {"OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"} <= set(withheld(storage=False))
    assert {"OPENAI_API_KEY", "HF_TOKEN"} <= set(withheld(storage=True))
    assert "AWS_SECRET_ACCESS_KEY" not in withheld(storage=True)


def read(folder: Path, lines: str) -> study_file.StudyFile:
    path = folder / "study.yaml"
    path.write_text(
        f"objective: train.py:objective\nmetric: {{name: loss}}\nparameters: {{x: {{min: 0.0, max: 1.0}}}}\n{lines}\n"
    )
    return study_file.read(path)


def test_a_study_file_names_its_runner(tmp_path):
    assert read(tmp_path, "runner: ray").runner == ("ray", {})
    asked = read(tmp_path, "timeout: 60\nrunner: {ray: {resources: {gpu: 0.5}, memory: 2GB}}")
    assert asked.runner == ("ray", {"timeout": 60, "resources": {"gpu": 0.5}, "memory": "2GB"})
    assert asked.run_by("ray") is asked
    assert asked.run_by("local").runner == ("local", {"timeout": 60, "memory": None, "gpus": None})
    assert read(tmp_path, "").run_by("ray").runner == ("ray", {})


@pytest.mark.parametrize(
    "lines, words",
    [
        ("runner: [ray]", "must be a name, or one name with options"),
        ("runner: {ray: {}, local: {}}", "must be a name, or one name with options"),
        ("runner: ray\ngpus: [0, 1]", r"gpus.*runner: {ray: {resources: {gpu: 1}}}"),
    ],
)
def test_a_runner_that_is_not_understood_is_refused(tmp_path, lines, words):
    with pytest.raises(TunewrightError, match=words):
        print(read(tmp_path, lines).runner)
