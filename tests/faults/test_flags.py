"""Whatever stands on a command line: a sentence and exit code 2, before anything starts, or it is done."""

import dataclasses
import os
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.cli import commands
from lab.cli import cookbook as whole
from lab.cli.flags import Options, Searching
from lab.execute.invocation import Invocation
from lab.experiments import load
from pipelines.errors import UsageError
from tests.conftest import ROOT, examples
from tests.faults.spoiling import ESCAPES
from tests.toys import guess

RECIPES = [guess.EXPERIMENT, *map(load, ("optimizers", "search_replayed", "distributed"))]
# What one argument of a command can be: no NUL, and bytes that are no UTF-8 as Python shows them.
words = st.one_of(
    st.text(st.characters(exclude_characters="\0"), max_size=12),
    st.binary(max_size=12).map(lambda content: os.fsdecode(content.replace(b"\0", b""))),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", "0", "-1", "1e400", "nan", "inf", "-inf", "1e-320", "9" * 400, "0x10", "1_000", "٣", "true"]),
    st.sampled_from(ESCAPES),
    st.sampled_from(["subset", "full", "smoke", "all", "fair", "folder:", "tfds:", "folder:/", "/dev/null", "/", "."]),
    st.sampled_from(["folder:" + "x" * 5000, "x" * 5000, "~nobody/x", "/proc/self/mem", "tests/toys/guess.py:train"]),
)


def flags_of(experiment) -> list[str]:
    """All flags of a recipe's command line."""
    parts = [Options, experiment.config, *([Searching] if experiment.searched else [])]
    return [f"--{field.name.replace('_', '-')}" for part in parts for field in dataclasses.fields(part)]


@st.composite
def command_lines(draw) -> tuple:
    experiment = draw(st.sampled_from(RECIPES))
    arguments: list[str] = []
    for flag in draw(st.lists(st.sampled_from([*flags_of(experiment), "--help", "--no-such-flag", "-x"]), max_size=3)):
        values = draw(st.lists(words, max_size=2))
        joined = draw(st.booleans()) and len(values) == 1
        arguments += [f"{flag}={values[0]}"] if joined else [flag, *values]
    return experiment, arguments


@pytest.fixture(scope="module")
def nothing_begins():
    """Whoever comes so far as to begin is told that, and begins nothing."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        patched.setattr(Invocation, "begin", staticmethod(begins))
        yield


def begins(*_: object, **__: object) -> None:
    raise UsageError("It would begin.")


def print_as_commands_do() -> None:
    """As `pipelines.terminal.begin` has it."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")


def printed_of(capsys, arguments=()) -> str:
    """What was printed: no control character but those that were typed, which the parsers of flags repeat."""
    printed = capsys.readouterr()
    text = printed.err + printed.out
    assert "Traceback" not in text
    assert set(re.findall(r"[\x00-\x08\x0b-\x1f\x7f]", text)) <= set("".join(arguments))
    return text


@given(line=command_lines())
@examples(150)
def test_any_flag_value_is_taken_or_refused_in_a_sentence(nothing_begins, capsys, line):
    experiment, arguments = line
    print_as_commands_do()
    try:
        code = commands.run(experiment, arguments)
    except SystemExit as error:  # Of the parser, which has said why.
        code = error.code
    assert code == 2 or (code == 0 and {"--help", "-h"} & set(arguments))
    assert len(printed_of(capsys, arguments)) > 10


@given(st.lists(st.one_of(words, st.sampled_from([*whole.COMMANDS, *whole.NAMES, "--logdir", "--port"])), max_size=4))
@examples(200)
def test_any_words_behind_python_m_recipes_are_taken_or_refused(nothing_done, capsys, arguments):
    print_as_commands_do()
    try:
        code = whole.main(arguments)
    except SystemExit as error:
        code = error.code
    assert code in (0, 1, 2)
    printed_of(capsys, arguments)


@pytest.fixture(scope="module")
def nothing_done():
    with pytest.MonkeyPatch.context() as patched:
        for name in ("status", "attest_all", "publish_all", "measure_floors", "run_all"):
            patched.setattr(whole, name, lambda *_: 0)
        from benchmarks import throughput
        from lab.tensorboard import server

        patched.setattr(throughput, "race", lambda *_: [])
        patched.setattr(throughput, "report_race", lambda *_: None)
        patched.setattr(server, "serve", lambda *_: "http://127.0.0.1")
        patched.setattr(server, "wait", lambda *_: None)
        patched.setattr(server, "take_picture", lambda *_: None)
        patched.setattr(whole.webbrowser, "open", lambda *_: None)
        yield


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--first-seed", "5000000000"], "from 0 to 4,294,967,295"),
        (["--first-seed", "4294967295", "--seeds", "2"], "from 0 to 4,294,967,295"),
        (["--split-seed", "-1"], "--split-seed must be from 0 to 4,294,967,295, not -1."),
        (["--jobs", "10000"], "--jobs must be from 1 to "),
        (["--seconds", "1e7"], "--seconds must be from 0 to 1,000,000, not 10000000.0."),
        (["--seconds", "-inf"], "--seconds must be from 0 to 1,000,000, not -inf."),
        (["--logdir", "logs/new\nline"], "has a character that can't be printed"),
        (["--logdir", "logs/\udcff"], "has a character that can't be printed"),
        (["--logdir", "x" * 5000], "can't be looked at (File name too long)"),
        (["--save", "models/\x1b[31m"], "has a character that can't be printed"),
    ],
)
def test_bounds_and_names(nothing_begins, capsys, flags, sentence):
    assert commands.run(guess.EXPERIMENT, flags) == 2
    assert sentence in printed_of(capsys)


def test_a_home_is_put_in_the_place_of_a_tilde(nothing_done, monkeypatch, tmp_path):
    """No shell does it behind an equals sign."""
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = []
    monkeypatch.setattr(whole, "publish_all", lambda names, logs: seen.append(logs) or 0)
    assert whole.main(["publish", "optimizers", "--logdir=~/logs"]) == 0
    asked, _ = commands.parse(guess.EXPERIMENT, ["--logdir=~/logs"])
    assert seen == [asked.logdir] == [tmp_path / "logs"]
