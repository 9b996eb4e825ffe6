"""Which model family a space belongs to, and which of its parameters are known.

Names are compared without case and separators; a pipeline's prefix ("clf__C", "model.lr"), a trailing index
("n_units_2") and words before the head noun ("encoder_dropout") are looked through. A name only counts where the
kind and the range of the parameter go with the knowledge, so that a temperature called `gamma` stays unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from tunewright.engines.parameters import Categorical, Float, Parameter, Scalar
from tunewright.engines.space import Space
from tunewright.plugins.rules.book import Entry, Family, families

CERTAIN = 2.0  # score from which a family counts as recognised
MOST_TEXT = 6.0
MISSING_EXPECTED = 0.75
ORDINARY_ROWS = 1000
FEWEST_ROWS, MOST_ROWS = 20, 10**12
FACTORS = {"k": 1e3, "m": 1e6, "thousand": 1e3, "million": 1e6}
ROWS = re.compile(
    r"(?<![\w.,])(\d{1,3}(?:[ ,_]\d{3})+|\d{1,12}(?:\.\d{1,2})?(?:e\d{1,2})?)\s*(k|m|thousand|million)?\s+"
    r"(?:training\s+)?(?:rows|samples|examples|instances|observations)\b"
)
BASES = {"log10_": 10.0, "log2_": 2.0, "ln_": math.e}
# "min_lr" and "warmup_lr" are no learning rate: the first word changes the meaning.
OTHER_MEANING = frozenset({"min", "minimum", "final", "end", "warmup", "target", "decay"})
SGD = frozenset({"sgd", "sgdm", "momentum", "nesterov"})


@dataclass(frozen=True, slots=True)
class Known:
    """A parameter of the space with its knowledge. `base`: the space searches the logarithm to this base. `rows`: the
    knowledge counts rows where the space searches a fraction of so many."""

    name: str
    parameter: Parameter
    entry: Entry
    base: float | None = None
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Detection:
    """The likeliest family. `certain` says whether the evidence is enough; `optimizer` is the fixed optimizer's kind
    ("sgd" or "adam") where the space leaves no choice."""

    family: Family
    known: Mapping[str, Known]
    score: float
    certain: bool
    evidence: str
    library: str | None
    optimizer: str | None

    def of(self, key: str) -> list[Known]:
        """The parameters that one entry of the family covers."""
        return [known for known in self.known.values() if known.entry.key == key]


def spell(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def word_of(choice: Scalar) -> str:
    """A choice as the knowledge files spell it: None is "none", True is "true"."""
    return spell(str(choice))


def optimizer_kind(choice: Scalar) -> str:
    """ "sgd" or "adam": adaptive methods share their rules of thumb."""
    return "sgd" if word_of(choice) in SGD else "adam"


def detect(space: Space, task: str | None) -> Detection:
    """The best-scoring family; of equals the most general one. Read `certain` before trusting it."""
    found = [_judge(family, space, (task or "").lower()) for family in families().values()]
    return min(found, key=lambda d: (-d.score, d.family.ancestors, d.family.key))


def _judge(family: Family, space: Space, task: str) -> Detection:
    heard = [word for word in family.words if _says(task, word)]
    text = min(MOST_TEXT, sum(family.words[word] for word in heard))
    known = match(family, space, _rows(task))
    if not heard and all(len(_leaf(name)) == 1 for name in known):
        known = {}  # letters alone are what somebody who hides the names would write, too
    keys = {k.entry.key: k for k in known.values()}
    coverage = len(known) / len(space.names)
    score = text + sum(k.entry.tell for k in keys.values()) + coverage
    score -= MISSING_EXPECTED * sum(key not in keys for key in family.expects)
    optimizer = None
    if "optimizer" in family.entries and "optimizer" not in keys:
        sgd = _says(task, "sgd") or ("momentum" in keys and not _says(task, "adam"))
        optimizer = "sgd" if sgd else "adam"
    evidence = [f"parameters {', '.join(list(known)[:6])}"] if known else []
    evidence += [f"the words {', '.join(heard[:4])}"] if heard else []
    return Detection(
        family,
        known,
        round(score, 2),
        score >= CERTAIN and (text >= CERTAIN or coverage >= 0.5),
        " and ".join(evidence),
        _library(family, space, task, optimizer),
        optimizer,
    )


def _says(task: str, word: str) -> bool:
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", task) is not None


def _rows(task: str) -> int:
    """As many as the text says ("50,000 rows", "10k samples", "1e6 rows"), else as a table of ordinary size has. The
    largest counts: batches have examples, too."""
    said = [float(re.sub(r"[,_ ]", "", n[1])) * FACTORS.get(n[2], 1.0) for n in ROWS.finditer(task)]
    most = max(said, default=0.0)
    return int(most) if FEWEST_ROWS <= most <= MOST_ROWS else ORDINARY_ROWS


def _library(family: Family, space: Space, task: str, optimizer: str | None) -> str | None:
    """The library by its hints, text before names; else the one that needs none, else the first."""
    if not family.libraries:
        return None
    leaves = {spell(_leaf(name)) for name in space.names}

    def hits(library: str) -> float:
        if library == "sgd" and "optimizer" in family.entries:
            return 1.5 if optimizer == "sgd" else -1.0
        hints = family.libraries[library]
        return sum(3.0 * _says(task, hint) + (spell(hint) in leaves) for hint in hints) + (0.0 if hints else 0.5)

    return max(family.libraries, key=hits)


# ------------------------------------------------------------------------------------------------ names


def match(family: Family, space: Space, rows: int) -> dict[str, Known]:
    """The parameters of the space that the family knows, by name. `rows`: of the table."""
    out = {}
    for name, parameter in space.parameters.items():
        leaf = _leaf(name)
        prefix = next((p for p in BASES if leaf.lower().startswith(p)), "")
        base = BASES.get(prefix)
        key = _find(leaf[len(prefix) :], _index(family.key))
        if key is not None and _goes_with(family.entries[key], parameter, base):
            entry = family.entries[key]
            out[name] = Known(name, parameter, entry, base, rows if _of_rows(entry, parameter) else None)
    return out


@cache
def _index(family: str) -> Mapping[str, str]:
    """Entry keys by spelled name; the first entry that claims a name has it."""
    index: dict[str, str] = {}
    for entry in families()[family].entries.values():
        for name in entry.names:
            index.setdefault(spell(name), entry.key)
    return index


@cache
def _all_names() -> frozenset[str]:
    return frozenset(name for family in families() for name in _index(family))


def _leaf(name: str) -> str:
    return re.split(r"\.|__", name)[-1]


def _find(leaf: str, index: Mapping[str, str]) -> str | None:
    if (key := index.get(spell(leaf))) or spell(leaf) in _all_names():
        return key  # a name that another family knows in full is not cut: max_depth is no depth of layers
    stem = re.sub(r"(_(l|layer|block))?_?\d+$", "", leaf)
    words = [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", stem)]
    starts = range(1) if not words or words[0] in OTHER_MEANING else range(len(words))
    for start in starts:
        tail = "".join(words[start:])
        # One letter says nothing once something was cut away: x1, p3, block_c.
        if len(tail) > 1 and tail in index:
            return index[tail]
    return None


# ------------------------------------------------------------------------------------------------ ranges


def _goes_with(entry: Entry, parameter: Parameter, base: float | None) -> bool:
    if isinstance(parameter, Categorical):
        return any(_takes(entry, choice) for choice in parameter.choices)
    if entry.low is None or entry.high is None:
        return (parameter.low, parameter.high) == (0, 1) and set(entry.choices) == {"true", "false"}
    if (entry.fraction and parameter.low >= 1 and parameter.high > 1) or _of_rows(entry, parameter):
        return True
    low, high = _widened(entry.low, entry.high, entry.log)
    ends = (parameter.low, parameter.high) if base is None else (base**parameter.low, base**parameter.high)
    return ends[0] <= high and ends[1] >= low


def _of_rows(entry: Entry, parameter: Parameter) -> bool:
    return entry.rows and isinstance(parameter, Float) and parameter.high <= 1


def _takes(entry: Entry, choice: Scalar) -> bool:
    if isinstance(choice, str | bool) or choice is None:
        return word_of(choice) in {spell(c) for c in entry.choices}
    if entry.low is None or entry.high is None:
        return False
    low, high = _widened(entry.low, entry.high, entry.log)
    return low <= choice <= high


def _widened(low: float, high: float, log: bool) -> tuple[float, float]:
    """The usual range with room for unusual users: a decade, or half the span, at each end."""
    return (low / 10, high * 10) if log else (low - (high - low) / 2, high + (high - low) / 2)
