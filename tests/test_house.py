"""What holds for the whole repository: the rooms, what they import, what is packaged, and how the files look."""

from __future__ import annotations

import ast
import json
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import resources
from importlib.metadata import distribution, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = ("agent", "engines", "plugins", "prompts")
BESIDES = ("tests", "examples", "benchmarks")
NOT_LEAVES = {"__init__", "hooks", "providers", "registry"}


def modules(*folders: str) -> list[Path]:
    return [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py")) if "__pycache__" not in p.parts]


def imported(path: Path) -> Iterator[str]:
    """Every absolute name that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def fresh(code: str) -> str:
    """What a new interpreter prints, started where no folder of the repository is on its path."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------ the package


def test_the_version_has_one_home() -> None:
    assert version("tunewright") == PROJECT["project"]["version"]
    written = [p for p in modules(*ROOMS) if re.search(r"^__version__\b", p.read_text(), re.M)]
    assert not written, "ask importlib.metadata instead"


def test_tunewright_is_a_namespace_so_that_others_can_add_to_it() -> None:
    assert fresh("import tunewright; print(getattr(tunewright, '__file__', None))").strip() == "None"


def test_every_package_folder_is_installed() -> None:
    found = {
        "tunewright." + ".".join(p.parent.relative_to(ROOT).parts) for p in modules(*ROOMS) if p.name == "__init__.py"
    }
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_folder_of_modules_is_a_package() -> None:
    assert not {str(p.parent.relative_to(ROOT)) for p in modules(*ROOMS) if not (p.parent / "__init__.py").exists()}


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_that_it_is_typed(room: str) -> None:
    assert resources.files(f"tunewright.{room}").joinpath("py.typed").is_file()


def test_every_prompt_and_table_lies_where_package_data_reaches_it() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    packages = [
        ROOT / p.removeprefix("tunewright.").replace(".", "/") for p in PROJECT["tool"]["setuptools"]["packages"]
    ]
    reached = {path for package in packages for pattern in patterns for path in package.glob(pattern)}
    data = {
        p
        for room in ROOMS
        for p in (ROOT / room).rglob("*")
        if p.is_file() and p.suffix != ".py" and "__pycache__" not in p.parts
    }
    assert {p.suffix for p in data} >= {".md", ".sql", ".toml"}
    assert data == reached & data, f"left out of the wheel: {data - reached}"


def test_the_licence_is_the_whole_apache_licence_and_is_declared() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
    assert distribution("tunewright").metadata["License-Expression"] == "Apache-2.0"


def test_every_registered_name_of_ours_can_be_loaded() -> None:
    ours = [p for p in distribution("tunewright").entry_points if p.group != "console_scripts"]
    assert {p.group for p in ours} == set(PROJECT["project"]["entry-points"]), "an old install: install it again"
    for point in ours:
        assert callable(point.load()), point


# ------------------------------------------------------------------------------------------------ who imports whom


def test_no_file_imports_a_room_by_its_bare_name() -> None:
    bare = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules(*ROOMS, *BESIDES)
        for name in imported(path)
        if name.split(".")[0] in ROOMS
    }
    assert not bare, "a second set of classes: import tunewright.<room>"


def test_rooms_are_imported_by_their_full_name_only() -> None:
    relative = {
        str(path.relative_to(ROOT))
        for path in modules(*ROOMS)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    }
    assert not relative


def test_importing_the_agent_loads_no_slow_library() -> None:
    names = fresh("import sys, tunewright.agent; print(*sys.modules)").split()
    assert "tunewright.agent" in names
    assert not {"langchain", "langchain_core", "openai", "pydantic", "scipy", "sklearn"} & set(names)


def test_the_agent_class_loads_no_slow_library_either() -> None:
    code = "import sys; from tunewright.agent import Agent, Float, Int, Categorical, Budget; print(*sys.modules)"
    names = set(fresh(code).split())
    assert "tunewright.agent.agent" in names
    assert not names & {"langchain", "langchain_core", "openai", "scipy", "sklearn"}


def test_the_plugins_package_itself_imports_nothing() -> None:
    assert not list(imported(ROOT / "plugins" / "__init__.py"))
    loaded = json.loads(
        fresh("import json, sys, tunewright.plugins; print(json.dumps([m for m in sys.modules if 'tunewright' in m]))")
    )
    assert {m for m in loaded if not m.startswith("__editable__")} == {"tunewright", "tunewright.plugins"}


def test_every_leaf_stands_in_the_first_layer() -> None:
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    leaves = {p.stem for p in (ROOT / "plugins").glob("*.py")} | {
        p.parent.name for p in (ROOT / "plugins").glob("*/__init__.py")
    }
    listed = {name.strip().removeprefix("tunewright.plugins.") for name in layers[0].split("|")}
    assert listed == leaves - NOT_LEAVES


def test_every_module_of_ours_is_imported_by_somebody_or_registered() -> None:
    """A module that neither code, an entry point nor a plugin's test can reach is dead."""
    used = {name for path in modules(*ROOMS) for name in _reachable(path)}
    used |= {point.split(":")[0] for group in PROJECT["project"]["entry-points"].values() for point in group.values()}
    used |= {point.split(":")[0] for point in PROJECT["project"]["scripts"].values()}
    public = {"tunewright.engines.testing", "tunewright.engines.schedulers.testing", "tunewright.agent.testing"}
    public.add("tunewright.plugins.ray.searcher")  # given to Ray Tune by its users
    names = {_name(p) for p in modules(*ROOMS) if p.name != "__main__.py"}
    unreached = sorted(names - used - public - {f"tunewright.{room}" for room in ROOMS})
    assert not unreached


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "tunewright." + ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _reachable(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("tunewright."):
            names = [node.value]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1) if name != _name(path))


# ------------------------------------------------------------------------------------------------ how files look


def test_a_file_has_at_most_400_lines() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in modules(*ROOMS, *BESIDES)}
    assert not {name: n for name, n in lengths.items() if n > 400}


def test_a_module_says_what_it_is_for() -> None:
    silent = [str(p.relative_to(ROOT)) for p in modules(*ROOMS) if not ast.get_docstring(ast.parse(p.read_text()))]
    assert not silent, "the first thing in a file is one sentence on its purpose"


# Assembled, so that this file passes its own check.
FORBIDDEN = re.compile(
    "|".join(
        [
            r"\bT" + r"ODO\b",
            r"\bF" + r"IXME\b",
            r"\bX" + r"XX\b",
            r"\bH" + r"ACK\b",
            r"(?<![\w.])/(?:w" + r"ork|f" + r"arm|o" + r"pt)/",
            r"\.\./s" + r"hared",
            r"sub" + r"agent",
            r"sk-[A-Za-z0-9]{32,}",
        ]
    )
)


def test_no_file_holds_leftovers_or_speaks_of_a_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:  # an unpacked source archive has no index
        files = [p for folder in (*ROOMS, *BESIDES, "docs") for p in (ROOT / folder).rglob("*") if p.is_file()]
    else:
        files = [ROOT / line for line in listed.stdout.splitlines()]
    kinds = {".py", ".md", ".toml", ".yaml", ".sql", ".txt", ".json", ""}
    texts = {p: p.read_text() for p in files if p.is_file() and p.suffix in kinds and "__pycache__" not in p.parts}
    assert len(texts) > 50
    found = [f"{p.relative_to(ROOT)}: {m[0]}" for p, text in texts.items() for m in FORBIDDEN.finditer(text)]
    assert not found


def test_no_handler_swallows_every_error() -> None:
    broad = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules(*ROOMS)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
        and all(isinstance(line, ast.Pass) for line in node.body)
    ]
    assert not broad


# ------------------------------------------------------------------------------------------------ the tests' own walls


def test_no_test_reaches_a_real_host() -> None:
    with pytest.raises(AssertionError, match="this machine only"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(AssertionError, match="this machine only"):
        socket.getaddrinfo("api.openai.com", 443)


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass
