"""Pages in Markdown, from the templates in `templates/`."""

import functools
import html
import math
import re
import shlex
from collections.abc import Sequence
from typing import Any

from lab.evidence.records import printable
from lab.evidence.schemas import LOOKS, ClaimSummary, Effect, Finding
from lab.statistics import OCCASIONS

MOST_SHOWN = 4  # Of a claim's effects.


def escaped(text: object) -> str:
    """Text that Markdown shows as it is: no HTML, no link, no cell of a table."""
    return _escaped(printable(str(text)))


def _escaped(plain: str) -> str:
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(plain, quote=False))


def code(text: object) -> str:
    """Text as a code span."""
    plain = printable(str(text)).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`"


def prose(text: object) -> str:
    """Text that Markdown shows as it is, except that `names in backticks` are code."""
    parts = re.split(r"`([^`]+)`", printable(str(text)))
    return "".join(code(part) if place % 2 else _escaped(part) for place, part in enumerate(parts))


def counted(number: int, word: str) -> str:
    """ "1 seed", "2 seeds"."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """ "37 s", "4 min"; empty where nothing is known."""
    return "" if not seconds else f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def shown(value: object) -> str:
    """A setting as pages and names of folders have it: numbers without trailing zeros."""
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def from_to(counts: Sequence[int]) -> str:
    """ "10", or where they are not all the same "10 to 40"."""
    return " to ".join(str(count) for count in sorted({min(counts, default=0), max(counts, default=0)}))


def class_name(name: str) -> str:
    """The name of a reader's class in quotation marks, shortened."""
    name = printable(name)
    return f"'{name if len(name) <= 40 else name[:39] + '…'}'"


def with_seeds(command: str, seeds: int) -> str:
    """A recipe's command with so many seeds, and all its other flags but `--resume` and `--save`.

    Raises:
        ValueError: it is no command.
    """
    words, kept, leaves = shlex.split(command), [], False
    if words[:2] != ["python", "-m"]:
        raise ValueError(f"{command} is no command")
    for word in words:
        if word.startswith("--"):
            leaves = word.partition("=")[0] in ("--resume", "--save", "--seeds")
        if not leaves:
            kept.append(word)
    return shlex.join([*kept, "--seeds", str(seeds)])


def always(name: str, share: float) -> str:
    """The accuracy that a model must beat."""
    return f"Always answering {class_name(name)} would be right for {100 * share:.1f} % of the test images."


def is_ratio(metric: str) -> bool:
    """Whether a metric is the logarithm of what pages show as a ratio."""
    return "log_" in f"{metric}_"


def times(ratio: float) -> str:
    """A ratio in words: "1.9×", "23×", "0.70×", "0.0012×"."""
    if ratio >= 10:
        return f"{ratio:,.0f}×"
    return f"{ratio:.2g}×" if ratio >= 1 else f"{ratio:.{_decimals(ratio, 2)}f}×"


def _decimals(ratio: float, usual: int) -> int:
    """How many decimals a ratio is shown with: fewer than usual where it is large, more where it is nearly zero."""
    if ratio >= 10:
        return 0 if ratio >= 100 else min(1, usual)
    return usual if ratio >= 0.05 or ratio <= 0 else min(6, 1 - math.floor(math.log10(ratio)))


def effect_text(claim: ClaimSummary, effect: Effect, *, unit: bool = True, named: bool = False) -> str:
    """An effect with the interval that decides: "+2.9 points [+1.6, +4.2]", "0.70× [0.64, 0.77]".

    `named` puts the two variants before it.
    """
    is_ratio = claim.unit == "×"

    def number(value: float) -> str:
        text = f"{value:,.{_decimals(value, claim.digits)}f}" if is_ratio else f"{value:+,.{claim.digits}f}"
        return (text if float(text.replace(",", "")) else text.lstrip("+-")).replace("-", "−")

    if effect.mean is None:
        return "not measured"
    text = number(effect.mean) + ("×" if is_ratio else f" {claim.unit}" if unit and claim.unit else "")
    if effect.low is not None and effect.high is not None and has_interval(claim, effect):
        text += f" [{number(effect.low)}, {number(effect.high)}]"
    if named:
        to = "to" if claim.measure.startswith("slope") else "against" if is_ratio else "minus"
        text = f"{effect.a} {to} {effect.b}".replace("_", " ") + f": {text}"
    return text


def has_interval(claim: ClaimSummary, effect: Effect) -> bool:
    """Whether an effect is shown with its interval. Before the first look one tells nothing, and may be huge."""
    least = OCCASIONS if claim.strongest.over == "occasion" else LOOKS[0]
    return effect.low is not None and effect.seeds >= least


def smallest_text(smallest: float | None, unit: str) -> str:
    """The smallest effect that matters, with its unit: "1 point", "5 %", "3.2×"."""
    if smallest is None:
        return ""
    if unit == "×":
        return f"{100 * (smallest - 1):.0f} %" if smallest < 2 else times(smallest)
    return f"{smallest:,g} {unit.removesuffix('s') if smallest == 1 else unit}".strip()


def effects_text(claim: ClaimSummary, finding: Finding, **how: bool) -> str:
    """A finding's effects on one line of a table: of many the one that supports the claim least."""
    effects = finding.effects
    shown = effects if len(effects) <= MOST_SHOWN else effects[:1]
    texts = [escaped(effect_text(claim, effect, named=len(effects) > 1, **how)) for effect in shown]
    return "<br>".join(texts + ([f"and {len(effects) - 1} more, no less clear"] if len(shown) < len(effects) else []))


def verdict_text(finding: Finding) -> str:
    """ "supported (may be small)"."""
    return escaped(f"{finding.verdict} ({finding.note})" if finding.note else finding.verdict)


@functools.cache
def _environment() -> Any:
    import jinja2

    loader = jinja2.PackageLoader("lab.report")
    made = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"escaped": escaped, "code": code, "prose": prose, "counted": counted}
    made.globals |= {"table": markdown_table, "effects": effects_text, "verdict": verdict_text}
    made.globals |= {"effect_text": effect_text, "smallest": smallest_text, "always": always}
    return made


def render(template: str, **content: Any) -> str:
    """A template of `templates/` filled in, without more than one blank line between its blocks."""
    text = _environment().get_template(f"{template}.md.j2").render(content)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
