"""Plain words about parameters as beliefs, read without a model: "lr above 0.05 diverges", "prefer adam".

Deliberately narrow: what does not say one thing about one parameter of the space is left over, with the reason, and a
number outside the range is no belief. A belief that was never meant costs trials; words left over cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.engines.parameters import Categorical, Parameter
from tunewright.engines.priors import Belief, Certainty, Prior
from tunewright.engines.space import Space
from tunewright.prompts import Priors
from tunewright.prompts.text import plain

MAX_CLAUSE, MAX_CLAUSES = 300, 40
AROUND_FACTOR, AROUND_SHARE = 2.0, 0.15  # of a number on a log scale, and of a range on a linear one
FEW = 20  # values up to which numbers named one by one are values and not places

# What people call a parameter whose name in a program is shorter.
SPOKEN: Mapping[str, Sequence[str]] = {
    "learning rate": ("lr", "eta", "alpha", "learning_rate_init"),
    "batch size": ("bs", "batch", "batchsize"),
    "weight decay": ("wd", "l2"),
    "dropout": ("dropout_rate", "drop_rate", "p_drop"),
    "depth": ("max_depth",),
    "layers": ("n_layers", "num_layers"),
    "optimizer": ("opt", "optim"),
}

_NUMBER = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?(?:\s?%|k\b)?"
_CLAUSES = re.compile(
    r"[;\n]+|(?<=[a-z\d)\]\"'])(?<!\bal)(?<!\bvs)(?<!\be\.g)(?<!\bi\.e)[.!](?:\s+|$)|,?\s+\bbut\b\s+|,\s+(?:and|while|whereas|although)\s+",
    re.I,
)
_RANGES: Sequence[tuple[str, re.Pattern[str]]] = [
    (kind, re.compile(pattern.replace("#", f"({_NUMBER})"), re.I))
    for kind, pattern in (
        ("between", r"\b(?:between|from|within|in)?\s*[\[(]?\s*#\s*(?:and|to|\.\.\.?|,|-(?=\s*[.\d]))\s*#\s*[\])]?"),
        ("above", r"(?:\b(?:above|over|beyond|exceed(?:ing|s)?|past|(?:greater|larger|higher|more) than)|>=?|≥)\s*#"),
        ("below", r"(?:\b(?:below|under|beneath|(?:less|smaller|lower|fewer) than)|<=?|≤)\s*#"),
        ("above", r"#\s*(?:or|and)\s*(?:more|above|up|higher|larger|greater|over)\b"),
        ("below", r"#\s*(?:or|and)\s*(?:less|below|lower|smaller|fewer|under)\b"),
        ("at least", r"\b(?:at least|no less than|not (?:below|under|less than)|a minimum of|minimum)\s*#"),
        ("at most", r"\b(?:at most|no more than|not (?:above|over|more than)|up to|a maximum of|maximum|max)\s*#"),
        ("around", r"(?:\b(?:around|near|about|close to|roughly|approximately)|~|≈)\s*#"),
    )
]  # fmt: skip
_BAD = re.compile(
    r"diverg\w*|explod\w*|blows? up|crash\w*|fail\w*|\bnans?\b|unstable|\boom\b|out of memory|overfit\w*|underfit\w*|"
    r"\b(?:bad|worse|worst|poor(?:ly)?|terrible|useless|hopeless|wrong|harmful|hurts?|hopelessly|wasteful|a waste)\b|"
    r"\btoo (?:slow\w*|high|low|large|big|small|much|many|few|little|noisy|deep|shallow)\b|"
    r"\b(?:does not|doesn't|do not|don't|did not|didn't|never|no longer|cannot|can't|won't)\s+"
    r"(?:train|converge|learn|work|help|fit)\w*|\bnot (?:good|great|useful|worth|work\w*|stable|converge|train\w*)\b|"
    r"\b(?:avoid|stay away from|keep away from|never (?:use|go|try|set)|do not (?:use|go|try|set)|"
    r"don't (?:use|go|try|set)|"
    r"should not|shouldn't|must not|mustn't|no use)\b",
    re.I,
)
_DENIED = re.compile(
    r"\b(?:not|n't|never|no|without|isn't|doesn't|don't|rarely|hardly|seldom)\s+(?:\w+\s+)?"
    r"(?:diverg\w*|explod\w*|crash\w*|fail\w*|bad|worse|worst|poor|terrible|unstable|overfit\w*|hurt\w*|harm\w*|wrong|"
    r"useless|problem\w*|better|best|avoid|a problem|an issue)\b|"
    r"\b(?:does not|doesn't|do not|don't) matter\b|\bno (?:effect|difference|influence|problems?|issues?|matter)\b|"
    r"\birrelevant\b|\bmake\w* no difference\b",
    re.I,
)
_GOOD = re.compile(
    r"\b(?:works?|worked|best|good|better|great|well|fine|optimal|ideal|sweet spot|stable|usual(?:ly)?|typical(?:ly)?|"
    r"recommended|prefer\w*|keep|use|try|stay|should|must|want|like|start(?:s|ed)?|trains|converges|safe|enough|"
    r"common(?:ly)?|promising|favou?r\w*)\b",
    re.I,
)
_STRONG = re.compile(
    r"\b(?:always|never|every time|certain(?:ly)?|definitely|must|measured|proven|impossible|cannot|diverges|explodes|"
    r"crashes|fails|nans?|oom|out of memory)\b",
    re.I,
)
_WEAK = re.compile(
    r"\b(?:maybe|perhaps|i think|i guess|i believe|probably|possibly|might|may|could|seems?|usual(?:ly)?|often|"
    r"typical(?:ly)?|"
    r"common(?:ly)?|heard|rumou?r|rule of thumb|suspect|not sure|should be (?:small|large|low|high))\b",
    re.I,
)
_TREND = re.compile(
    r"\b(?:(?P<too>too (?:high|large|big|deep|many|much|low|small|shallow|few|little))|"
    r"(?P<more>(?:higher|larger|bigger|greater|more|increas\w+|rais\w+))|"
    r"(?P<less>(?:lower|smaller|less|fewer|decreas\w+|reduc\w+|lowering))|"
    r"should (?:be|stay) (?:quite |rather |very )?(?P<be>small|low|large|high|big|tiny))\b",
    re.I,
)
_BETTER = re.compile(r"\b(?:better|best|good|helps?|improves?|works?)\b", re.I)
_HARM = re.compile(r"\b(?:worse|worst|bad|hurts?|fails?|harm\w*|diverg\w*|explod\w*|unstable|poor\w*)\b", re.I)
_CONDITION = re.compile(
    r"\b(?:when|if|with|for|under|using|while|in case)\s+(?:the\s+)?(?P<name>[\w.\- ]+?)\s*"
    r"(?:=|==|\bis\b|\bof\b|\bat\b)\s*"
    r"(?P<value>[\w.+\-]+)|\b(?:when|if|with|for|under|using)\s+(?P<choice>[\w.+\-]+)\s*$",
    re.I,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Problem:
    reason: str


def read(said: str, space: Space) -> Priors:
    """The beliefs in a person's words about the space, and the words that became none with the reason."""
    priors: list[Prior] = []
    left: list[str] = []
    last: str | None = None  # what "it" is
    for clause in _clauses(said)[:MAX_CLAUSES]:
        found = _read(clause, space, last)
        if isinstance(found, _Problem):
            left.append(f"{plain(clause, MAX_CLAUSE)}: {found.reason}")
        else:
            priors += found
            last = found[0].parameter if found else last
    return Priors(tuple(priors), tuple(left))


def _clauses(said: str) -> list[str]:
    parts = (" ".join(part.split()).strip(" ,.") for part in _CLAUSES.split(said))
    return [part for part in parts if part]


def _read(clause: str, space: Space, last: str | None) -> list[Prior] | _Problem:
    if clause.endswith("?") or len(clause) > MAX_CLAUSE:
        return _Problem("a question" if clause.endswith("?") else "too long to be about one parameter")
    when, text = _condition(clause, space)
    named = _named(text, space)
    if len(named) > 1:
        return _Problem(f"it ties {' and '.join(sorted(named))}")
    choices = _choices(text, space)
    if not named and not choices:
        if last is None or not re.search(r"\b(?:it|they|that|there)\b", text, re.I):
            return _Problem("it names no parameter of the space")
        named = {last: ""}
    name = next(iter(named), None) or next(iter(choices))
    if _DENIED.search(text):
        return _Problem("it says that something is no problem, or does not matter")
    if when and name in when:
        return _Problem("a condition on itself")
    parameter = space.parameters[name]
    strength: Certainty = "weak" if _WEAK.search(text) else "strong" if _STRONG.search(text) else "medium"
    rest = text.replace(named[name], " ", 1) if named.get(name) else text
    if isinstance(parameter, Categorical):
        found: Any = _categorical(name, parameter, choices.get(name, []), rest)
    else:
        found = _numeric(parameter, rest)
    if isinstance(found, _Problem):
        return found
    belief, limits = found
    if belief in ("rising", "falling") and strength == "strong":
        strength = "medium"  # a direction was never measured all over the range
    if belief == "prefer_range" and not _GOOD.search(text):
        strength = "weak"  # a range that is only named
    return [Prior(name, belief, strength, clause, when=when or None, **limits)]


# ------------------------------------------------------------------------------------------------ who is meant


def _spoken(name: str) -> Iterator[str]:
    """How a parameter may be called: its name, its last part, with spaces for underscores, and usual long forms."""
    for one in dict.fromkeys((name, name.rpartition(".")[2])):
        yield one
        if "_" in one or "-" in one:
            yield re.sub(r"[_-]+", " ", one)
        for words, short in SPOKEN.items():
            if one.lower() in short:
                yield words


def _named(text: str, space: Space) -> dict[str, str]:
    """The parameters that are mentioned, with the words for each. Of two that share words the longest mention wins."""
    found: list[tuple[int, int, str, str]] = []
    for name in space.parameters:
        for words in _spoken(name):
            for match in re.finditer(rf"(?<![\w.]){re.escape(words)}(?![\w])", text, re.I if len(words) > 1 else 0):
                found.append((match.start(), match.end(), name, match[0]))
    found.sort(key=lambda f: (f[0] - f[1], f[0]))
    kept: list[tuple[int, int, str, str]] = []
    for one in found:
        if all(one[1] <= other[0] or one[0] >= other[1] for other in kept):
            kept.append(one)
    return {name: words for _, _, name, words in kept}


def _choices(text: str, space: Space) -> dict[str, list[str]]:
    """Choices that are words of their own, each in the order of mention, where one parameter alone has them."""
    found: dict[str, list[tuple[int, str]]] = {}
    owners: dict[str, set[str]] = {}
    for name, parameter in space.parameters.items():
        for choice in parameter.choices if isinstance(parameter, Categorical) else ():
            if isinstance(choice, str) and len(choice) > 1:
                match = re.search(rf"(?<![\w.]){re.escape(choice)}(?![\w])", text, re.I)
                if match:
                    found.setdefault(name, []).append((match.start(), choice))
                    owners.setdefault(choice.lower(), set()).add(name)
    named = _named(text, space)
    out = {}
    for name, places in found.items():
        mine = [choice for _, choice in sorted(places) if len(owners[choice.lower()]) == 1 or name in named]
        if mine:
            out[name] = mine
    return out if len(out) == 1 else {name: c for name, c in out.items() if name in named}


def _condition(clause: str, space: Space) -> tuple[dict[str, Any], str]:
    """The value of another parameter under which alone it is meant, and the words without it."""
    for match in _CONDITION.finditer(clause):
        if match["choice"]:
            owners = [
                (name, choice)
                for name, parameter in space.parameters.items()
                if isinstance(parameter, Categorical)
                for choice in parameter.choices
                if isinstance(choice, str) and choice.lower() == match["choice"].lower()
            ]
            rest = _without(clause, match)
            if len(owners) == 1 and _named(rest, space):
                return {owners[0][0]: owners[0][1]}, rest
            continue
        named = _named(match["name"], space)
        if len(named) != 1:
            continue
        (name,) = named
        parameter = space.parameters[name]
        value = _value(parameter, match["value"])
        if value is not None:
            return {name: value}, _without(clause, match)
    return {}, clause


def _without(clause: str, match: re.Match[str]) -> str:
    return " ".join((clause[: match.start()] + " " + clause[match.end() :]).split()).strip(" ,")


def _value(parameter: Parameter, text: str) -> Any:
    if isinstance(parameter, Categorical):
        return next((c for c in parameter.choices if str(c).lower() == text.lower()), None)
    if re.fullmatch(_NUMBER, text, re.I) is None:
        return None
    value = parameter.coerce(_number(text))
    return None if parameter.problem(value) else value


# ------------------------------------------------------------------------------------------------ what is said


def _categorical(
    name: str, parameter: Categorical, choices: Sequence[str], text: str
) -> tuple[Belief, dict[str, Any]] | _Problem:
    if not choices:
        numbers = [_value(parameter, n) for n in re.findall(_NUMBER, text, re.I)]
        choices = [n for n in numbers if n is not None]
    if not choices:
        return _Problem(f"it names no choice of {name}")
    versus = re.search(r"\b(better|worse) than\b|\b(?:over|instead of|rather than)\b", text, re.I)
    if versus and len(choices) == 2:
        return "prefer_values", {"values": (choices[1] if versus[1] and versus[1].lower() == "worse" else choices[0],)}
    if _BAD.search(text):
        return "avoid_values", {"values": tuple(choices)}
    if _GOOD.search(text):
        return "prefer_values", {"values": tuple(choices)}
    return _Problem("it does not say whether that is good or bad")


def _numeric(parameter: Any, text: str) -> tuple[Belief, dict[str, Any]] | _Problem:
    bad, good = bool(_BAD.search(text)), bool(_GOOD.search(text))
    for kind, pattern in _RANGES:
        if match := pattern.search(text):
            return _ranged(parameter, kind, [_number(n) for n in match.groups()], bad, good)
    numbers = [_number(n) for n in re.findall(rf"(?<![\w.]){_NUMBER}(?![\w])", text, re.I)]
    if numbers:
        return _pointed(parameter, numbers, bad, good)
    return _trend(text)


def _ranged(
    parameter: Any, kind: str, numbers: Sequence[float], bad: bool, good: bool
) -> tuple[Belief, dict[str, Any]] | _Problem:
    low, high = parameter.low, parameter.high
    if kind == "between":
        a, b = sorted(numbers)
        return _Problem("a bad stretch in the middle has no belief") if bad else _preferred(parameter, a, b)
    (number,) = numbers
    if kind == "around":
        return _Problem("a bad stretch in the middle has no belief") if bad else _around(parameter, number)
    if not low <= number <= high:
        return _Problem(f"{number:g} is outside {low:g} to {high:g}")
    above = kind in ("above", "at least")
    if kind in ("at least", "at most") and not bad:
        good = True
    if bad:
        return ("avoid_above", {"high": number}) if above else ("avoid_below", {"low": number})
    if not good:
        return _Problem("it does not say whether that is good or bad")
    return _preferred(parameter, number, high) if above else _preferred(parameter, low, number)


def _pointed(
    parameter: Any, numbers: Sequence[float], bad: bool, good: bool
) -> tuple[Belief, dict[str, Any]] | _Problem:
    """Numbers named one by one."""
    values = [parameter.coerce(n) for n in numbers]
    if outside := [v for v in values if parameter.problem(v)]:
        return _Problem(f"{outside[0]:g} is no value of it")
    if not bad and not good:
        return _Problem("it does not say whether that is good or bad")
    if bad or parameter.count <= FEW:
        return ("avoid_values" if bad else "prefer_values"), {"values": tuple(dict.fromkeys(values))}
    if len(values) == 1:
        return _around(parameter, values[0])
    return _preferred(parameter, min(values), max(values))


def _around(parameter: Any, number: float) -> tuple[Belief, dict[str, Any]] | _Problem:
    if not parameter.low <= number <= parameter.high:
        return _Problem(f"{number:g} is outside {parameter.low:g} to {parameter.high:g}")
    if parameter.log:
        return _preferred(parameter, number / AROUND_FACTOR, number * AROUND_FACTOR)
    room = AROUND_SHARE * (parameter.high - parameter.low)
    return _preferred(parameter, number - room, number + room)


def _preferred(parameter: Any, low: float, high: float) -> tuple[Belief, dict[str, Any]] | _Problem:
    cut_low, cut_high = max(low, parameter.low), min(high, parameter.high)
    if cut_low > cut_high:
        return _Problem(f"{low:g} to {high:g} lies outside {parameter.low:g} to {parameter.high:g}")
    if (cut_low, cut_high) == (parameter.low, parameter.high):
        return _Problem("that is the whole range")
    return "prefer_range", {"low": cut_low, "high": cut_high}


def _trend(text: str) -> tuple[Belief, dict[str, Any]] | _Problem:
    match = _TREND.search(text)
    if match is None:
        return _Problem("it names no value")
    if match["too"]:
        return ("falling" if re.search(r"high|large|big|deep|many|much", match["too"], re.I) else "rising"), {}
    if match["be"]:
        return ("falling" if match["be"].lower() in ("small", "low", "tiny") else "rising"), {}
    helps, harms = bool(_BETTER.search(text)), bool(_HARM.search(text))
    if helps == harms:
        return _Problem("it does not say whether that is good or bad")
    return ("rising" if bool(match["more"]) == helps else "falling"), {}


def _number(text: str) -> float:
    digits = text.strip().rstrip("%kK").strip()
    scale = 0.01 if text.rstrip().endswith("%") else 1_000.0 if text.rstrip()[-1:] in "kK" else 1.0
    return float(digits) * scale
