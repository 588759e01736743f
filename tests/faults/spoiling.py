"""What may become of a file: any JSON, any bytes, a part of it, or itself with one thing in it changed."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

ESCAPES = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "<script>alert(1)</script>",
    "[a](javascript:b)",
    "../../x",
    "\udcff",
    "|",
    "`",
]
texts = st.one_of(st.text(max_size=20), st.sampled_from(ESCAPES))
numbers = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.sampled_from([1e308, -1e308, 2**63, 10**400, 0.1, float("nan"), float("inf")]),
)
leaves = st.one_of(st.none(), st.booleans(), numbers, texts)
anything = st.recursive(
    leaves, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(texts, inside, max_size=3)
)


@st.composite
def altered(draw: Any, whole: Any) -> Any:
    """A JSON value with one thing in it replaced, left out, doubled, or called otherwise."""
    found = copy.deepcopy(whole)
    place, steps = found, 0
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        inside = place[key]
        if not (isinstance(inside, (dict, list)) and inside) or (steps > 0 and draw(st.integers(0, 3)) == 0):
            break
        place, steps = inside, steps + 1
    how = draw(st.sampled_from(["replace", "similar", "leave out", "double", "rename"]))
    if how == "replace":
        place[key] = draw(anything)
    elif how == "similar":
        place[key] = draw(similar(place[key]))
    elif how == "leave out":
        del place[key]
    elif isinstance(place, list):
        place.insert(key, copy.deepcopy(place[key]))
    elif how == "double":
        place[draw(texts)] = copy.deepcopy(place[key])
    else:
        place[draw(texts)] = place.pop(key)
    return found


def similar(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same type."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, (int, float)):
        return numbers
    if isinstance(value, str):
        return texts
    return st.lists(anything, max_size=3) if isinstance(value, list) else st.dictionaries(texts, anything, max_size=3)


@st.composite
def spoiled(draw: Any, whole: Any) -> bytes:
    """The bytes of a JSON file, or what has become of it."""
    how = draw(st.sampled_from(["altered", "altered", "altered", "anything", "bytes", "cut", "flipped"]))
    if how == "altered":
        return text_of(draw(altered(whole)))
    if how == "anything":
        return text_of(draw(anything))
    return draw(spoiled_bytes(text_of(whole), how))


@st.composite
def spoiled_bytes(draw: Any, whole: bytes, how: str = "") -> bytes:
    """Any bytes, the first part of a file, or all of it with some bits turned."""
    how = how or draw(st.sampled_from(["bytes", "cut", "flipped", "longer"]))
    if how == "bytes":
        return draw(st.binary(max_size=200))
    if how == "cut":
        return whole[: draw(st.integers(0, len(whole) - 1))]
    if how == "longer":
        return whole + draw(st.binary(min_size=1, max_size=50))
    found = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        found[draw(st.integers(0, len(found) - 1))] ^= draw(st.integers(1, 255))
    return bytes(found)


def text_of(content: Any) -> bytes:
    """A file's bytes: Python writes, and reads, numbers that are none and halves of characters."""
    return json.dumps(content).encode("utf-8", "surrogatepass")
