"""The command line as its user meets it: commands, exit codes, pipes, terminals."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunewright.agent import Agent, Budget, Categorical, Float, Int
from tunewright.agent.cli import main, render
from tunewright.agent.cli.demo import run as run_demo
from tunewright.agent.testing import FakeAdvisor

HOSTILE = "[red]bad[/red] \x1b[31mred\x1b[0m\nChosen by nobody"
SPACE = {
    "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
    "opt": Categorical(["sgd", "adam"]),
    "momentum": Float(0, 0.99, when={"opt": "sgd"}),
}


class Shell:
    """Runs a command in this process: (exit code, what it printed, what it complained about)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["tunewright", *map(str, words)])
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        out, err = self._capsys.readouterr()
        return code, out, err

    def json(self, *words: object) -> Any:
        code, out, err = self(*words, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Shell(monkeypatch, capsys)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies: "older", and "newer" with an advised trial 1 and a trial 3 that failed with a hostile message."""
    path = tmp_path_factory.mktemp("cli") / "runs.db"

    def objective(trial: Any) -> float:
        if trial.number == 3:
            raise ValueError(HOSTILE)
        for step in range(1, 6):
            trial.report(step, 1.0 / step + trial["lr"])
        return 0.2 + trial["lr"]

    with Agent({"x": Int(1, 6)}, metric="loss", advisor=None, engine="random", store=path, study="older") as agent:
        agent.tune(lambda trial: trial["x"], 2)
    idea = {"lr": 1e-5, "opt": "sgd", "momentum": 0.5}
    advisor = FakeAdvisor([[idea]], model="scripted")
    with Agent(SPACE, metric="val_loss", task=HOSTILE, advisor=advisor, engine="random", budget=Budget(trials=10),
               store=path, study="newer") as agent:  # fmt: skip
        agent.tune(objective, 6)
    return path


def study_yaml(folder: Path, source: str = "def objective(trial):\n    return 1.0\n", **changes: Any) -> Path:
    (folder / "train.py").write_text(source)
    data = {
        "name": "mine",
        "objective": "train.py:objective",
        "metric": {"name": "loss"},
        "advisor": "none",
        "method": "random",
        "parameters": {"x": {"min": 1, "max": 6}, "y": {"values": ["a", "b", "c"]}},
        "budget": {"trials": 4},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**data, **changes}))
    return path


# ------------------------------------------------------------------------------------------------ starting


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom tunewright.agent.cli.main import cli\ncli(['--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'rich', 'yaml', 'sqlite_utils', 'pydantic', 'sklearn', 'scipy', 'openai'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("demo", "tune", "ls", "show", "why", "plugins"):
        assert f"\n  {command} " in done.stdout
    assert "..." not in done.stdout.partition("Commands:")[2], "a command's line is cut off"


def test_a_wrong_word_is_a_usage_error(shell: Shell) -> None:
    assert shell("shwo")[0] == 2
    code, out, err = shell("why", "minus")
    assert code == 2 and not out and "minus" in err


# ------------------------------------------------------------------------------------------------ ls, show, why


@pytest.mark.parametrize("words", [("ls",), ("show",), ("why", "0")])
def test_a_missing_file_is_named_and_not_made(shell: Shell, tmp_path: Path, words: tuple[str, ...]) -> None:
    code, out, err = shell(*words, "--store", "gone.db")
    assert code == 2 and out == ""
    assert "gone.db" in err and "tunewright demo" in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_points_to_one_that_is_there(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "tunewright-demo.db").touch()
    assert "Fix: --store tunewright-demo.db" in shell("ls")[2]


def test_ls(shell: Shell, store: Path) -> None:
    code, out, err = shell("ls", "--store", store)
    assert (code, err) == (0, "")
    head, older, newer = out.splitlines()
    assert head.split()[:3] == ["study", "trials", "failed"]
    assert older.split()[:4] == ["older", "2", "0", "loss"]
    assert newer.split()[:6] == ["newer", "6", "1", "val_loss", "0.2", "1"]
    found = shell.json("ls", "--store", store)["studies"]
    assert [(s["name"], s["best_number"], s["counts"]["failed"]) for s in found][1] == ("newer", 1, 1)


def test_show_takes_the_study_last_worked_on(shell: Shell, store: Path) -> None:
    code, out, _ = shell("show", "--store", store)
    lines = out.splitlines()
    assert code == 0 and lines[0].split() == ["study", "newer"]
    rows = [line.split() for line in lines if re.match(r" +\d+ ", line)]
    assert [row[0] for row in rows] == ["5", "4", "3", "2", "1", "0"]
    assert rows[4][1] == "0.2" and "fake:scripted" in rows[4] and "lr=1e-05" in rows[4]
    assert rows[2][1] == "failed"
    assert "tunewright why 1 --study newer --store" in out


def test_show_sorts_and_limits(shell: Shell, store: Path) -> None:
    code, out, _ = shell("show", "newer", "--store", store, "--sort", "value", "--limit", 2)
    assert code == 0 and "4 more trials: --limit 6" in out
    found = shell.json("show", "newer", "--store", store, "--sort", "value")
    numbers = [t["number"] for t in found["trials"]]
    values = [t["values"]["val_loss"] for t in found["trials"][:-1]]
    assert values == sorted(values) and numbers[0] == 1 and numbers[-1] == 3
    assert [t["number"] for t in found["best"]] == [1]
    assert len(found["trials"][0]["curve"]) == 5


def test_an_unknown_study_and_an_unknown_trial(shell: Shell, store: Path) -> None:
    code, _, err = shell("show", "newr", "--store", store)
    assert code == 2 and "did you mean 'newer'?" in err
    code, _, err = shell("why", 99, "--store", store)
    assert code == 2 and "99" in err and "Traceback" not in err


def test_why_tells_the_proposal_the_checks_and_the_prompt(shell: Shell, store: Path) -> None:
    code, out, _ = shell("why", 1, "--store", store)
    assert code == 0
    assert out.startswith("Trial 1: complete, val_loss 0.20001\n")
    assert "Chosen by advisor (fake:scripted)" in out
    assert re.search(r"Engine random, tunewright \S+, proposal 0.*: displaced", out)
    assert "said: scripted" in out and "checks: schema ok; repeat ok; distance ok" in out
    found = shell.json("why", 1, "--store", store)
    prompt_hash = found["calls"][0]["prompt_hash"]
    assert re.search(rf"prompt propose v\d+ {prompt_hash[:12]}", out) and len(prompt_hash) >= 12
    assert found["engine"]["status"] == "displaced" and found["decision"]["verdicts"][0]["checks"]
    assert "Values: █" in out


def test_text_from_outside_is_one_harmless_line(shell: Shell, store: Path) -> None:
    for words in (("why", 3), ("show",)):
        _, out, _ = shell(*words, "--store", store)
        assert "\x1b" not in out
        assert "[red]bad[/red]" in out, "taken for markup"
        assert not any(line.startswith("Chosen by nobody") for line in out.splitlines())


# ------------------------------------------------------------------------------------------------ tune


def test_tune_goes_on_with_a_space_that_was_edited_since(shell: Shell, tmp_path: Path) -> None:
    text = "metric: {name: loss, goal: minimize}\nobjective: o.py:f\nengine: random\nstudy: s\nadvisor: none\n"
    space = "parameters: {lr: {min: 0.1, max: %s}}\n"
    (tmp_path / "o.py").write_text("def f(trial):\n    return trial['lr']\n")
    (tmp_path / "s.yaml").write_text(text + space % "0.9")
    assert shell("tune", "s.yaml", "--trials", 1, "--store", "s.db")[0] == 0
    with Agent(store=tmp_path / "s.db", study="s", engine="random", advisor=None) as agent:
        agent.edit_space({"lr": Float(0.1, 0.2)})
    code, out, _ = shell("tune", "s.yaml", "--trials", 4, "--store", "s.db")
    assert code == 0 and "space was edited since s.yaml was written" in out
    with Agent(store=tmp_path / "s.db", study="s", engine="random", advisor=None) as agent:
        assert len(agent.trials) == 5 and all(t["lr"] <= 0.2 for t in agent.trials[1:])
    (tmp_path / "s.yaml").write_text(text + space % "0.5")  # no version of the study's
    code, _, err = shell("tune", "s.yaml", "--trials", 1, "--store", "s.db")
    assert code == 2 and "another space" in err


def test_tune_says_what_it_will_do_runs_and_goes_on(shell: Shell, tmp_path: Path) -> None:
    path = study_yaml(tmp_path, "def objective(trial):\n    return float(trial['x'])\n")
    code, out, err = shell("tune", path, "--trials", 3)
    assert (code, err) == (0, "")
    said = dict(line.split(None, 1) for line in out.splitlines()[:6])
    assert said["space"] == "2 parameters, 18 combinations"
    assert (said["engine"], said["advisor"], said["budget"]) == ("random", "none", "4 trials, 3 in this run")
    assert len(re.findall(r"^\[\d/3\] +trial \d", out, re.M)) == 3
    assert re.search(r"^Best: trial \d, loss \d", out, re.M) and "tunewright show mine --sort value" in out
    code, out, _ = shell("tune", path)
    assert code == 0 and "goes on after 3 trials" in out and "[1/1]" in out
    code, out, _ = shell("tune", path)
    assert code == 0 and "raise the budget" in out and "Best: trial" in out


def test_tune_names_the_engine_that_runs(shell: Shell, tmp_path: Path) -> None:
    path = study_yaml(tmp_path, engine="auto", fidelity={"max": 3})
    for _ in range(2):  # the second time the scheduler is the study's
        _, out, _ = shell("tune", path, "--trials", 1)
        assert re.search(r"^engine +portfolio \(auto\)$", out, re.M)


def test_the_options_win_over_the_file(shell: Shell, tmp_path: Path) -> None:
    path = study_yaml(tmp_path, advisor="rules")
    words = ("--study", "other", "--engine", "sobol", "--advisor", "none", "--store", "other.db", "--trials", 2)
    found = shell.json("tune", path, *words)
    assert (found["study"], found["store"], found["counts"]) == ("other", "other.db", {"complete": 2})
    config = shell.json("show", "--store", "other.db")["config"]
    assert (config["engine"], config["advisor"]) == ("sobol", None)


def test_a_grid_tells_its_size_and_warns_when_the_budget_is_smaller(shell: Shell, tmp_path: Path) -> None:
    parameters = {"x": {"min": 1, "max": 6}, "y": {"values": ["a", "b", "c"]}}
    path = study_yaml(tmp_path, method="grid", budget={"trials": 20}, parameters=parameters)
    code, out, _ = shell("tune", path)
    assert code == 0 and "18 combinations" in out and "warning" not in out
    assert "[18/18]" in out
    parameters["z"] = {"values": [1, 2, 3, 4, 5]}
    path = study_yaml(tmp_path, method="grid", budget={"trials": 20}, parameters=parameters, name="larger")
    code, out, _ = shell("tune", path)
    assert code == 0 and "warning: the grid has 90 combinations, the budget allows 20" in out
    path = study_yaml(
        tmp_path,
        method=None,
        engine=["grid", {"points": 3}],
        budget={"trials": 20},
        parameters={"x": {"min": 0.0, "max": 1.0}},
        name="points",
    )
    assert "[3/3]" in shell("tune", path)[1]
    path = study_yaml(tmp_path, method="random", budget={"trials": 20}, parameters=parameters, name="no grid")
    assert "warning" not in shell("tune", path)[1]


def test_a_grid_needs_no_budget_and_another_engine_does(shell: Shell, tmp_path: Path) -> None:
    path = study_yaml(tmp_path, method="grid", budget={}, parameters={"x": {"min": 1, "max": 3}})
    assert shell.json("tune", path)["counts"] == {"complete": 3}
    path = study_yaml(tmp_path, budget={}, name="endless", store="endless.db")
    code, _, err = shell("tune", path)
    assert code == 2 and "nothing limits this run" in err and "--trials 50" in err
    assert not (tmp_path / "endless.db").exists()


def test_json_is_one_document_whatever_the_objective_prints(shell: Shell, tmp_path: Path) -> None:
    path = study_yaml(tmp_path, "def objective(trial):\n    print('loading')\n    return 2.5\n")
    code, out, err = shell("tune", path, "--json")
    assert code == 0 and json.loads(out)["best"][0]["values"] == {"loss": 2.5}
    assert "loading" in err and "[4/4]" in err


def test_failures_are_shown_and_none_complete_is_exit_1(shell: Shell, tmp_path: Path) -> None:
    path = study_yaml(tmp_path, "def objective(trial):\n    raise RuntimeError('no data')\n")
    code, out, err = shell("tune", path)
    assert code == 1 and "Traceback" not in err
    assert "error: RuntimeError: no data" in out and "No trial was completed." in out


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"metrik": 1}, "metrik"),
        ({"objective": "gone.py:f"}, "gone.py"),
        ({"engine": "tpee"}, "tpe"),
        ({"advisor": "nobody"}, "nobody"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_mistake_in_the_file_leaves_nothing_behind(
    shell: Shell, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    code, out, err = shell("tune", study_yaml(tmp_path, **changes))
    assert code != 0 and out == "" and words in err and "Traceback" not in err
    assert not (tmp_path / "tunewright.db").exists()


def test_an_interrupt_keeps_the_study(shell: Shell, tmp_path: Path) -> None:
    source = (
        "def objective(trial):\n    if trial.number == 2 and trial.attempt == 1:\n        raise KeyboardInterrupt\n"
        "    return 1.0\n"
    )
    path = study_yaml(tmp_path, source)
    code, _, err = shell("tune", path)
    assert code == 130 and "goes on from here" in err and "Traceback" not in err
    assert shell("tune", path)[0] == 0
    assert shell.json("show", "mine")["counts"] == {"complete": 4}


def test_several_objectives_end_with_their_front(shell: Shell, tmp_path: Path) -> None:
    path = study_yaml(tmp_path, "def objective(trial):\n    return {'a': trial['x'], 'b': -trial['x']}\n")
    data = yaml.safe_load(path.read_text())
    del data["metric"]
    path.write_text(yaml.safe_dump({**data, "objectives": [{"name": "a"}, {"name": "b"}]}))
    code, out, err = shell("tune", path)
    assert (code, err) == (0, "") and out.count("Best: trial") == 4
    assert shell("ls")[1].count("several") == 1
    assert shell("show")[0] == 0 and shell("show", "--sort", "value")[0] == 2


# ------------------------------------------------------------------------------------------------ plugins, demo


def test_plugins_lists_what_is_broken_too(shell: Shell, tmp_path: Path) -> None:
    code, out, _ = shell("plugins")
    assert code == 0 and re.search(r"^engine +tpe +tunewright \S+ +ok$", out, re.M)
    found = shell.json("plugins")["plugins"]
    assert {"kind": "advisors", "name": "rules"}.items() <= next(p for p in found if p["name"] == "rules").items()


def test_the_demo_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demo.db"
    run_demo(3, path, as_json=False)
    out = capsys.readouterr().out
    best = re.search(r"best \(trial (\d)\)", out)
    assert best is not None and "validation accuracy" in out and "test accuracy, held out" in out
    assert f"Why trial {best[1]} was tried:\n  Chosen by " in out
    assert f"tunewright why {best[1]} --store {path}" in out
    run_demo(2, path, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["study"] == "demo-2" and found["trials"] == 2
    assert found["default"]["number"] == 0 and found["default"]["params"]["learning_rate_init"] == 1e-3
    assert found["best"]["validation_accuracy"] >= found["default"]["validation_accuracy"] > 0.8
    assert 0.8 < found["best"]["test_accuracy"] < 1.0


# ------------------------------------------------------------------------------------------------ words


def test_sparkline() -> None:
    assert render.sparkline([]) == ""
    assert render.sparkline([3.0, 2.0, 1.0]) == "█▅▁"
    assert render.sparkline([1.0, float("nan"), 2.0]) == "▁x█"
    long = render.sparkline([float(i) for i in range(1000)])
    assert len(long) == 10 and long[0] == "▁" and long[-1] == "█"


@pytest.mark.parametrize(
    "value, text", [(None, "-"), (0.26, "0.3 s"), (59.0, "59.0 s"), (75, "1:15 min"), (3725, "1:02:05 h")]
)
def test_durations(value: float | None, text: str) -> None:
    assert render.seconds(value) == text


def test_plain_columns_line_up_and_lose_nothing() -> None:
    rows = [["name", "n"], ["a" * 90, "1"], ["b", "10"]]
    lines = render.aligned(rows, [False, True])
    assert lines == [f"{'name':<90}   n", f"{'a' * 90}   1", f"{'b':<90}  10"]


def test_numbers_that_json_does_not_know_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    render.document({"a": float("nan"), "b": [float("inf"), 1.5]})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5]}
