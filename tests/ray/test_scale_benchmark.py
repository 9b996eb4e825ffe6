"""The benchmark of a driver with simulated actors stands on the driver's own code, and must run with it."""

import importlib.util
from pathlib import Path

from pytest import CaptureFixture

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "scale.py"


def test_the_simulated_crew_ends_every_trial_and_its_reports_arrive(capsys: CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("scale", BENCHMARK)
    assert spec is not None and spec.loader is not None
    scale = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scale)
    scale.drive(workers=3, seconds=1.0, every=0.25, length=2.0, engine="random")
    assert "6 trials and 24 reports" in capsys.readouterr().out
