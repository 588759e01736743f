"""All claims on one page, as CSV and as JSON, and what was measured of each name of Keras."""

import ast
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.evidence.provenance import ROOT
from lab.evidence.schemas import ClaimSummary, Effect, Summary
from lab.report.pages import effects_text, escaped, prose, render, verdict_text

EVERYWHERE = 5  # A name that more recipes than these use is in the index only where a claim says it.

Summaries = Mapping[str, Summary]


@dataclass(frozen=True)
class Totals:
    """How many claims and checks there are. Those whose evidence is of an earlier version wait and have no verdict.

    `expected_false` is how many of all verdicts are wrong at most, on average.
    """

    recipes: int
    claims: int
    checks: int
    waiting: int
    verdicts: dict[str, int]
    expected_false: float


def current(found: Summaries) -> Iterator[tuple[str, ClaimSummary]]:
    """The claims, checks left out, whose evidence is of the code at hand, each with its recipe's name."""
    for name, summary in found.items():
        yield from ((name, claim) for claim in summary.claims if not claim.check and _is_current(claim))


def _is_current(claim: ClaimSummary) -> bool:
    return not claim.strongest.stale and claim.strongest.verdict != "not measured"


def totals(found: Summaries) -> Totals:
    """The counts that every page gives."""
    every = [claim for summary in found.values() for claim in summary.claims]
    claims = [claim for claim in every if not claim.check]
    decided = [claim.strongest.verdict for _, claim in current(found)]
    verdicts = {word: decided.count(word) for word in ("supported", "contradicted", "no real difference", "undecided")}
    waiting, expected = len(claims) - len(decided), sum(summary.expected_false for summary in found.values())
    return Totals(len(found), len(claims), len(every) - len(claims), waiting, verdicts, expected)


def anchor(claim: str) -> str:
    """The name of a claim's place in the ledger."""
    return re.sub(r"[^a-z0-9]+", "-", claim.lower())


def page(found: Summaries) -> str:
    """All claims with their sources, verdicts and effects: `results/README.md`."""
    rows = {
        name: [_row(claim) for claim in sorted(summary.claims, key=lambda claim: claim.check)]
        for name, summary in found.items()
    }
    index = [[f"`{name}`", recipes, claims] for name, recipes, claims in keras_index(found)]
    return render("ledger", found=found, totals=totals(found), rows=rows, index=index) + "\n"


def _row(claim: ClaimSummary) -> list[str]:
    finding = claim.strongest
    said = f" It tests the advice “{prose(claim.said)}”." if claim.said else ""
    kind = " *A check.*" if claim.check else ""
    machine = f" on {escaped(finding.machine)}" if finding.machine else ""
    where = f'<a id="{anchor(claim.id)}"></a>{escaped(claim.id)}'
    what = f"{escaped(claim.measure)}: " if finding.effects else ""
    shown = f"**{verdict_text(finding)}**{machine}{' (earlier version)' if finding.stale else ''}"
    sentence = f"{prose(claim.text)} ({escaped(claim.source)}).{said}{kind}"
    return [where, sentence, shown, what + effects_text(claim, finding)]


def entries(found: Summaries) -> list[dict[str, Any]]:
    """A dict for each claim and check; of several comparisons the first that pages show."""
    nothing = Effect(a="", b="", mean=None, seeds=0, verdict="")
    return [
        {
            "id": claim.id,
            "recipe": name,
            "sentence": claim.text,
            "source": claim.source,
            "kind": "check" if claim.check else "claim",
            "verdict": finding.verdict,
            "note": finding.note,
            "budget": finding.budget,
            "measure": claim.measure,
            "a": effect.a,
            "b": effect.b,
            "comparisons": len(finding.effects),
            "effect": _short(effect.mean),
            "low": _short(effect.low),
            "high": _short(effect.high),
            "unit": claim.unit,
            "seeds": effect.seeds,
            "evidence": "earlier version" if finding.stale else "current",
        }
        for name, summary in found.items()
        for claim in summary.claims
        for finding in [claim.strongest]
        for effect in [*finding.effects, nothing][:1]
    ]


def _short(value: float | None) -> float | None:
    """The value to five digits, which is more than any interval tells."""
    return None if value is None else float(f"{value:.5g}")


def as_csv(found: Summaries) -> str:
    """`results/claims.csv`."""
    text = io.StringIO()
    rows = entries(found)
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(found: Summaries) -> str:
    """`results/claims.json`."""
    return json.dumps(entries(found), indent=1, ensure_ascii=False) + "\n"


def keras_names(source: str) -> set[str]:
    """The classes, functions and arguments of Keras that a module uses."""
    tree = ast.parse(source)
    roots, names = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {"keras" for alias in node.names if alias.name.split(".")[0] == "keras"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "keras":
            roots |= {alias.asname or alias.name for alias in node.names}
            names |= {alias.name for alias in node.names if alias.name[0].isupper()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _root(node) in roots and node.attr[0].isupper():
            names.add(node.attr)
        if isinstance(node, ast.Call) and (
            _root(node.func) in roots or getattr(node.func, "attr", "") in ("compile", "fit")
        ):
            names |= {f"{keyword.arg}=" for keyword in node.keywords if keyword.arg and "_" in keyword.arg}
    return names


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def keras_index(found: Summaries, recipes: Path | None = None) -> Iterator[tuple[str, str, str]]:
    """A name of Keras, the recipes that use it, and the claims whose sentences name it, the latter two as links."""
    folder = recipes or ROOT / "recipes"
    uses: dict[str, list[str]] = {}
    for recipe in (name for name in found if (folder / f"{name}.py").exists()):
        for name in keras_names((folder / f"{recipe}.py").read_text(encoding="utf-8")):
            uses.setdefault(name, []).append(recipe)
    for recipe, summary in found.items():
        for name in {name for claim in summary.claims for name in claim.about}:
            uses[name] = list(dict.fromkeys([*uses.get(name, ()), recipe]))
    for name in sorted(uses, key=str.lower):
        rare = len(uses[name]) <= EVERYWHERE
        claims = [
            claim
            for recipe in uses[name]
            for claim in found[recipe].claims
            if name in claim.about or _says(claim.text, name, rare)
        ]
        named = [f"[{claim.id}](#{anchor(claim.id)})" for claim in claims]
        if named or rare:
            yield name, ", ".join(f"[{recipe}]({recipe}/README.md)" for recipe in uses[name]), ", ".join(named)


def _says(sentence: str, name: str, loosely: bool) -> bool:
    """Whether a sentence names a class or an argument, as code or in words: EarlyStopping, "early stopping".

    What many recipes use, such as `Model`, it must spell as Keras does.
    """
    plain = name.rstrip("=")
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).replace("_", " ")
    return bool(re.search(rf"\b({re.escape(plain)}|{re.escape(words)})\b", sentence, re.IGNORECASE if loosely else 0))
