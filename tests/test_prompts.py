from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import prompts
from tunewright.engines import FixArgument
from tunewright.prompts import library
from tunewright.prompts.text import condition_text, plain

TEXT = """+++
name = "ask"
version = "v2"
inputs = ["a", "b"]
answer = "propose"
+++
System {{a}}.

=== user ===
User {{b}} and {{a}}.
"""


def test_released_prompts_are_what_was_released() -> None:
    assert prompts.lock_problems() == []


def test_every_shipped_prompt_loads_and_is_locked() -> None:
    locked = tomllib.loads((Path(prompts.__file__).parent / "lock.toml").read_text())
    for name in library.names():
        for version in library.versions(name):
            prompt = prompts.load(name, version)
            assert (prompt.name, prompt.version) == (name, version)
            assert prompt.hash == locked[f"{name}/{version}"] and re.fullmatch("[0-9a-f]{64}", prompt.hash)
            assert prompt.answer in ("diagnose", "priors", "propose", "summarize", "text")
    assert prompts.load("propose").version == library.versions("propose")[-1]


def test_the_lock_sees_changes_losses_and_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_ROOM", tmp_path)
    library.load.cache_clear()
    (tmp_path / "ask").mkdir()
    for version in ("v2", "v10"):
        (tmp_path / "ask" / f"{version}.md").write_text(TEXT.replace("v2", version))
    (tmp_path / "lock.toml").write_text('"ask/v2" = "0000"\n"gone/v1" = "1111"\n')
    try:
        assert prompts.load("ask").version == "v10"  # numbers, not letters
        changed, gone, new = sorted(prompts.lock_problems(), key=lambda line: ("not locked" in line, "gone" in line))
        assert "ask/v2 was changed" in changed and "gone/v1" in gone and "ask/v10 is not locked" in new
        (tmp_path / "lock.toml").write_text(
            "\n".join(re.findall('".*"', new)) + f'\n"ask/v2" = "{prompts.load("ask", "v2").hash}"\n'
        )
        assert prompts.lock_problems() == []
    finally:
        library.load.cache_clear()


def test_rendering_fills_each_field_once_and_never_reads_values_as_templates() -> None:
    prompt = library.parse(TEXT, "ask/v2")
    assert prompt.render(a="{{b}}", b="\\1 {{a}}") == ("System {{b}}.", "User \\1 {{a}} and {{b}}.")


@pytest.mark.parametrize("fields", [{}, {"a": "x"}, {"a": "x", "b": "y", "c": "z"}])
def test_rendering_wants_exactly_the_inputs(fields: dict) -> None:
    with pytest.raises(FixArgument, match="a, b"):
        library.parse(TEXT, "ask/v2").render(**fields)


@pytest.mark.parametrize(
    "broken",
    [
        "no front matter",
        TEXT.replace("=== user ===", ""),
        TEXT.replace('name = "ask"', 'name = "other"'),
        TEXT.replace('version = "v2"', ""),
        TEXT.replace('version = "v2"', "version = "),
        TEXT.replace('["a", "b"]', '["a"]'),
        TEXT.replace('["a", "b"]', '["a", "b", "c"]'),
    ],
)
def test_a_malformed_file_is_named(broken: str) -> None:
    with pytest.raises(FixArgument, match="ask/v2"):
        library.parse(broken, "ask/v2")


@pytest.mark.parametrize(("name", "version"), [("nope", None), ("propose", "v999"), ("../prompts", None), ("", None)])
def test_unknown_prompts(name: str, version: str | None) -> None:
    with pytest.raises(FixArgument):
        prompts.load(name, version)


def test_the_propose_prompt_marks_data_and_describes_every_stance() -> None:
    prompt = prompts.load("propose")
    assert prompt.inputs == ("study", "history")
    assert "{{study}}" in prompt.system and "{{history}}" in prompt.user and "{{history}}" not in prompt.system
    assert "<data>" in prompt.system and "instruction" in prompt.system
    for stance in ("propose", "accept_engine", "abstain"):
        assert f'"{stance}"' in prompt.system
    order = [prompt.system.rindex(f'"{word}"') for word in ("summary", "stance", "candidates", "rationale", "params")]
    assert order == sorted(order)
    assert len(prompt.system) < 4_500


@given(st.text(max_size=300), st.integers(1, 50))
def test_plain_is_one_printable_short_line(text: str, limit: int) -> None:
    line = plain(text, limit)
    assert len(line) <= limit and line.isprintable() and "  " not in line
    assert plain(line, limit) == line
    if text.isprintable() and len(text) <= limit:
        assert line == " ".join(text.split())


def test_conditions_in_words() -> None:
    assert condition_text({"opt": "sgd", "layers": (2, 3)}) == 'opt = "sgd" and layers in [2, 3]'
    assert condition_text("layers >= 2") == "layers >= 2" and condition_text(None) == ""
