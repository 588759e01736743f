"""Pages in Markdown, from the templates in `templates/`."""

import functools
import html
import re
from collections.abc import Sequence
from typing import Any

from lab.evidence.records import printable


def escaped(text: object) -> str:
    """Text that Markdown shows as it is: no HTML, no link, no cell of a table."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(printable(str(text)), quote=False))


def code(text: object) -> str:
    """Text as a code span."""
    plain = printable(str(text)).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`"


def counted(number: int, word: str) -> str:
    """ "1 seed", "2 seeds"."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def shown(value: object) -> str:
    """A setting as pages and names of folders have it: numbers without trailing zeros."""
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


@functools.cache
def _environment() -> Any:
    import jinja2

    loader = jinja2.PackageLoader("lab.report")
    made = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"escaped": escaped, "code": code, "counted": counted}
    made.globals["table"] = markdown_table
    return made


def render(template: str, **content: Any) -> str:
    """A template of `templates/` filled in, without more than one blank line between its blocks."""
    text = _environment().get_template(f"{template}.md.j2").render(content)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
