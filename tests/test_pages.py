"""The pages: what they list exists, their links lead somewhere, and the code they show runs."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{version('tunewright')}]" in (ROOT / "CHANGELOG.md").read_text()


def rows_of_capabilities() -> dict[str, tuple[str, str]]:
    """Number -> (description, proof) of every row of docs/capabilities.md."""
    lines = (ROOT / "docs" / "capabilities.md").read_text().splitlines()
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines if re.match(r"\| S\d+ \|", line)]
    return {c[0].strip(): (c[1], c[2]) for c in cells}


def test_the_capabilities_page_has_every_row_once_and_in_order() -> None:
    assert list(rows_of_capabilities()) == [f"S{n}" for n in range(1, 118)]


def test_every_proof_that_the_capabilities_page_names_exists() -> None:
    missing = []
    for number, (_, proof) in rows_of_capabilities().items():
        named = re.findall(r"`((?:tests|examples|benchmarks)/[^`]+)`", proof)
        assert named or proof == "not yet", f"{number}: a proof is a path in backquotes, or 'not yet'"
        for one in named:
            file, *names = one.split("::")
            path = ROOT / file
            if not path.is_file() or not all(
                re.search(rf"^\s*(?:def|class) {n}\b", path.read_text(), re.M) for n in names
            ):
                missing.append(f"{number}: {one}")
    assert not missing


def test_every_test_that_the_reliability_page_names_exists() -> None:
    named = re.findall(r"`(tests/[^`:]+)::([^`]+)`", (ROOT / "docs" / "reliability.md").read_text())
    assert len(named) > 30
    assert not [(file, name) for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text())
    assert not [t for t in targets if not ((ROOT / page).parent / t).exists()]


def test_the_example_engine_of_the_contributing_page_meets_the_contract(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    engine = next(block for block in code if "class Spread" in block)
    contract = next(block for block in code if "EngineContract" in block)
    (tmp_path / "spread.py").write_text(engine)
    (tmp_path / "test_spread.py").write_text(contract)
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-c",
        "/dev/null",
        str(tmp_path),
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_the_code_of_the_advisors_page_runs(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "advisors.md").read_text(), re.S)
    own, adversaries = (next(block for block in code if word in block) for word in ("class Halves", "adversaries("))
    trials = "for _ in range(5):\n    agent.observe(trial := agent.suggest(), trial['x'])\n"
    for block in (own + trials, adversaries):
        done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 12 and "worst point" in done.stdout


def test_the_code_of_the_verify_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "verify.md").read_text(), re.S)
    exec(code, {})
    told = capsys.readouterr().out
    assert "over 5 runs on test split" in told and "chosen among 10 trials" in told
