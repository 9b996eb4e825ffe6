"""What a call costs, and the price list: known where it is known, else unknown and never zero."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tunewright.agent import Agent, Budget, Float, TunewrightError
from tunewright.agent.prices import FREE, Price, price_of, read_prices
from tunewright.agent.testing import FakeAdvisor, ScriptedServer, answer
from tunewright.plugins.hooks import Completion
from tunewright.plugins.rules import RulesAdvisor


class Listed(FakeAdvisor):
    def __init__(self, priced_as: str | None, name: str = "openai", model: str = "m"):
        super().__init__([], name, model)
        self.priced_as = priced_as


def test_every_line_has_a_source_and_a_date() -> None:
    tables = tomllib.loads(files("tunewright.agent").joinpath("prices.toml").read_text("utf-8"))
    lines = [(f"{provider}:{model}", entry) for provider, table in tables.items() for model, entry in table.items()]
    assert len(lines) > 40
    for name, entry in lines:
        assert entry["source"].startswith("https://") and entry["date"].year >= 2025, name
        assert 0 < entry.get("cached", 0.001) <= entry["input"] <= entry["output"], name
        assert price_of(Listed(name), {}) == Price(entry["input"], entry["output"], entry.get("cached"))


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("openai:gpt-5-mini-2025-08-07", "openai:gpt-5-mini"),
        ("anthropic:claude-sonnet-4-5-20250929", "anthropic:claude-sonnet-4-5"),
        ("openai:gpt-4o-2024-08-06", "openai:gpt-4o"),
        ("openai:gpt-4o-2024-05-13", None),  # an older release with a price of its own
        ("openai:gpt-5.9", ""), ("openai:gpt-5-mini-turbo", ""), ("openai:gpt", ""), ("other:gpt-5-mini", ""),
    ],
)  # fmt: skip
def test_dated_releases_cost_the_same_and_other_names_are_other_models(name: str, like: str | None) -> None:
    found = price_of(Listed(name), {})
    if like is None:
        assert found == Price(5.0, 15.0)
    else:
        assert found == (price_of(Listed(like), {}) if like else None) and (found is None) is (like == "")


def test_the_cost_of_an_answer() -> None:
    price = Price(input=2.0, cached=0.5, output=10.0)
    assert price.cost(Completion("", tokens_in=1_000_000, tokens_cached=400_000, tokens_out=100_000)) == 1.2 + 0.2 + 1.0
    assert price.cost(Completion("", tokens_in=1_000_000, tokens_out=0)) == 2.0  # nothing is known of a cache
    assert Price(2.0, 10.0).cost(Completion("", tokens_in=500_000, tokens_cached=500_000, tokens_out=0)) == 1.0
    assert price.cost(Completion("", tokens_in=10)) is None and price.cost(Completion("", tokens_out=10)) is None
    assert price.worst(1_000_000, 1_000_000) == 12.0


def test_a_user_knows_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {"input": 1, "output": 2}
    given = read_prices({"openai:gpt-5-mini": mine, "openai:local/*": mine, "openai:local/big*": {**mine, "output": 3}})
    assert price_of(Listed("openai:gpt-5-mini", model="gpt-5-mini"), given) == Price(1.0, 2.0)
    assert price_of(Listed(None, model="local/a"), given) == Price(1.0, 2.0)
    assert price_of(Listed(None, model="local/bigger"), given) == Price(1.0, 3.0)  # the longest name counts
    assert price_of(Listed(None, model="other"), given) is None
    file = tmp_path / "prices.toml"
    file.write_text('["langchain:ollama"]\n"llama3" = {input = 0, output = 0}\n["openai:m"]\ninput = 4\noutput = 5\n')
    monkeypatch.setenv("TUNEWRIGHT_PRICES", str(file))
    for prices in (read_prices(file), read_prices(str(file)), read_prices(None)):
        assert prices == {"langchain:ollama:llama3": FREE, "openai:m": Price(4.0, 5.0)}
    monkeypatch.delenv("TUNEWRIGHT_PRICES")
    assert read_prices(None) == {}
    assert price_of(RulesAdvisor(), {}) == FREE


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (3, "prices: must be a mapping"),
        ("no/such/file.toml", "prices: cannot be read"),
        ({"m": 3}, "prices.m: is not a price"),
        ({"m": {"input": 1}}, "prices.m: has no output price"),
        ({"m": {"input": -1, "output": 1}}, "prices.m.input: must be USD from zero"),
        ({"m": {"input": "1", "output": 1}}, "prices.m.input: must be USD from zero"),
    ],
)
def test_what_is_no_price_is_named(given: Any, named: str) -> None:
    with pytest.raises(TunewrightError, match=re.escape(named)):
        Agent({"x": Float(0, 1)}, metric="loss", store=None, prices=given)


USAGE = {
    "prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": 600},
    "completion_tokens": 500, "completion_tokens_details": {"reasoning_tokens": 300},
}  # fmt: skip


@pytest.mark.parametrize("prices", [{"openai:any": {"input": 1, "cached": 0.1, "output": 4}}, None])
def test_tokens_cost_and_latency_are_kept_with_each_attempt(monkeypatch: pytest.MonkeyPatch, prices: Any) -> None:
    """A server of one's own is not free: without a price its cost is unknown."""
    abstain = {"summary": "", "stance": "abstain", "candidates": []}
    with ScriptedServer(["prose", answer(abstain, USAGE)]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        agent = Agent({"x": Float(0, 1)}, metric="loss", advisor="openai:any", store=None, prices=prices)
        agent.suggest()
    first, second = agent.why(0).calls
    assert (first.tokens_in, first.usd) == (None, None)
    assert (second.tokens_in, second.tokens_cached, second.tokens_out) == (1000, 600, 500)
    assert second.usd == (pytest.approx((400 * 1 + 600 * 0.1 + 500 * 4) / 1e6) if prices else None)
    assert second.seconds is not None and 0 < second.seconds < 60
    thought = [e.payload.get("tokens_reasoning") for e in agent._store.events(agent.study_id) if e.kind == "call_ended"]
    assert thought == [None, 300]
    (line,) = (told for told in str(agent.why(0)).splitlines() if told.startswith("Call 2 "))
    assert "1000 (600 cached) + 500 tokens" in line and ("cost unknown" in line) is (prices is None)


def test_a_money_cap_starts_with_a_price_and_not_without() -> None:
    given = {"space": {"x": Float(0, 1)}, "metric": "loss", "store": None, "budget": Budget(trials=5, usd=0.05)}
    with pytest.raises(TunewrightError, match=r"the price of fake:m is unknown.*prices="):
        Agent(**given, advisor=FakeAdvisor([], model="m"))
    Agent(**given, advisor=FakeAdvisor([], model="m"), prices={"fake:m": {"input": 1, "output": 1}})
    Agent(**given, advisor="rules")
