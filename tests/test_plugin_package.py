"""Packages of other people: one that works, one that cannot be imported, one that claims a name already taken.

They are installed by pip, without a network, into folders of their own, and seen by fresh processes that have such a
folder on their path.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PACKAGES = Path(__file__).parent / "plugin_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds one folder of installed files for each package."""
    base = tmp_path_factory.mktemp("plugins")
    shutil.copytree(PACKAGES, base / "source")  # a build leaves files beside the source
    for package in ("halton", "broken", "rival"):
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        words += ["--target", str(base / package), str(base / "source" / package)]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return base


def run(words: list[str], *folders: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, cwd=folders[0])


def python(code: str, *folders: Path) -> Any:
    """What the code prints, as JSON."""
    done = run(["-c", code], *folders)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


LISTING = """
import dataclasses, json
from tunewright.plugins import registry
print(json.dumps({l.name + "@" + l.distribution: dataclasses.asdict(l) for l in registry.listing("engines")}))
"""

STUDY = """
import json
from tunewright.agent import Agent, Float, Int
agent = Agent({"x": Float(0, 1), "n": Int(1, 9)}, metric="m", engine="halton", advisor=None, store="halton.db", seed=3)
for _ in range(6):
    trial = agent.suggest()
    agent.observe(trial, trial["x"])
print(json.dumps({"x": [t["x"] for t in agent.trials], "why": str(agent.why(4))}))
"""


def test_an_outsiders_engine_is_listed_with_its_distribution_and_version(installed: Path) -> None:
    line = python(LISTING, installed / "halton")["halton@tunewright-halton"]
    assert (line["version"], line["target"], line["error"]) == ("1.2.3", "tunewright_halton:Halton", None)


def test_an_outsiders_engine_runs_a_study_and_the_record_names_where_it_came_from(installed: Path) -> None:
    out = python(STUDY, installed / "halton")
    assert len(set(out["x"])) == 6
    assert "halton" in out["why"]
    sources = python(
        """
import json, sqlite3
rows = sqlite3.connect("halton.db").execute("select * from proposals")
names = [c[0] for c in rows.description]
print(json.dumps([dict(zip(names, row)) for row in rows], default=str))
""",
        installed / "halton",
    )
    text = json.dumps(sources)
    assert len(sources) == 6 and "tunewright-halton" in text and "1.2.3" in text


def test_an_outsiders_engine_meets_the_shipped_contract(installed: Path) -> None:
    contract = installed / "source" / "halton" / "halton_contract.py"
    done = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(contract)], installed / "halton")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_a_plugin_that_cannot_be_imported_is_listed_as_broken_and_hurts_nobody_else(installed: Path) -> None:
    lines = python(LISTING, installed / "broken", installed / "halton")
    assert "a_module_that_nobody_installed" in lines["shattered@tunewright-broken"]["error"]
    assert [name for name, line in lines.items() if line["error"]] == ["shattered@tunewright-broken"]


def test_asking_for_a_broken_plugin_says_what_to_do(installed: Path) -> None:
    done = run(["-c", STUDY.replace("halton", "shattered")], installed / "broken")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0 and "FixPlugin" in last
    assert "shattered" in last and "Fix: reinstall or update tunewright-broken" in last


def test_a_name_claimed_twice_is_an_error_for_that_name_alone(installed: Path) -> None:
    lines = python(LISTING, installed / "rival")
    claims = [line for line in lines.values() if line["name"] == "sobol"]
    assert {line["distribution"] for line in claims} == {"tunewright", "tunewright-rival"}
    assert all("several distributions" in line["error"] for line in claims)
    assert not [line for line in lines.values() if line["error"] and line["name"] != "sobol"]
    done = run(["-c", STUDY.replace("halton", "sobol")], installed / "rival")
    assert done.returncode != 0 and "uninstall one of them" in done.stderr


def test_the_command_line_lists_sound_and_broken_plugins(installed: Path) -> None:
    done = run(
        ["-m", "tunewright.agent.cli", "plugins"], installed / "halton", installed / "broken", installed / "rival"
    )
    assert done.returncode == 0, done.stderr
    for word in ("halton", "tunewright-halton", "1.2.3", "shattered", "a_module_that_nobody_installed", "tpe"):
        assert word in done.stdout
