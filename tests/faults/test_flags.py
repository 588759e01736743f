"""Whatever stands on a command line: a sentence and exit code 2, before anything starts, or it is done."""

import dataclasses
import os
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.cli import commands, cookbook, laboratory
from lab.cli.flags import ACTIONS, FLAGS
from lab.execute.invocation import Invocation
from lab.experiments import NAMES, load
from pipelines.errors import UsageError
from tests.conftest import ROOT, examples
from tests.faults.spoiling import ESCAPES
from tests.toys import guess, pair

RECIPES = [guess.EXPERIMENT, *map(load, ("optimizers", "search", "distributed"))]
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
    """All flags of a recipe's subcommands."""
    names = [*FLAGS, *(field.name for field in dataclasses.fields(experiment.config))]
    return sorted({f"--{name.replace('_', '-')}" for name in names})


@st.composite
def command_lines(draw) -> tuple:
    experiment = draw(st.sampled_from(RECIPES))
    arguments: list[str] = draw(st.sampled_from([[], *([name] for name in ACTIONS), ["search", "random"]]))
    others = ["--help", "--no-such-flag", "-x"]
    for flag in draw(st.lists(st.sampled_from([*flags_of(experiment), *others]), max_size=3)):
        values = draw(st.lists(words, max_size=2))
        joined = draw(st.booleans()) and len(values) == 1
        arguments = [*arguments, *([f"{flag}={values[0]}"] if joined else [flag, *values])]
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
    """What was printed: no control character but those that were typed, which tyro repeats."""
    printed = capsys.readouterr()
    text = printed.err + printed.out
    assert "Traceback" not in text
    assert set(re.findall(r"[\x00-\x08\x0b-\x1f\x7f]", text)) <= set("".join(arguments))
    return text


@pytest.mark.processes
@given(line=command_lines())
@examples(150)
def test_any_flag_value_is_taken_or_refused_in_a_sentence(nothing_begins, capsys, line):
    experiment, arguments = line
    print_as_commands_do()
    code = commands.run(experiment, arguments)
    assert code == 2 or (code == 0 and {"--help", "-h"} & set(arguments))
    assert len(printed_of(capsys, arguments)) > 10


SUBCOMMANDS = ["list", "run", "board", "benchmark", "status", "attest", "publish", "floors"]


@pytest.mark.parametrize("front", [cookbook, laboratory])
@given(st.lists(st.one_of(words, st.sampled_from([*SUBCOMMANDS, *NAMES, "--logdir", "--port"])), max_size=4))
@examples(100)
def test_any_words_behind_the_other_commands_are_taken_or_refused(nothing_done, capsys, front, arguments):
    print_as_commands_do()
    assert front.main(arguments) in (0, 1, 2)
    printed_of(capsys, arguments)


@pytest.fixture(scope="module")
def nothing_done():
    with pytest.MonkeyPatch.context() as patched:
        from benchmarks import throughput
        from lab.evidence import carry_over
        from lab.report import publish, publishable
        from lab.tensorboard import server

        patched.setattr(cookbook, "run_all", lambda *_: 0)
        patched.setattr(laboratory, "run_all", lambda *_: 1)
        patched.setattr(carry_over, "carry_over", lambda *_: "done")
        patched.setattr(publishable, "find", lambda *_: (None, []))
        for name in ("publish", "publish_front", "status_of"):
            patched.setattr(publish, name, lambda *_: "done")
        patched.setattr(throughput, "interpreters", lambda *_: {})
        patched.setattr(throughput, "race", lambda *_: [])
        patched.setattr(throughput, "report_race", lambda *_: None)
        for name in ("start", "wait"):
            patched.setattr(server, name, lambda *_: "http://127.0.0.1")
        patched.setattr(cookbook.webbrowser, "open", lambda *_: None)
        yield


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--first-seed", "5000000000"], "4,294,967,295"),
        (["--first-seed", "4294967295", "--seeds", "2"], "4,294,967,295"),
        (["--seeds", "0"], "--seeds must be from 1 to 10,000"),
        (["--split-seed", "-1"], "--split-seed must be from 0 to 4,294,967,295"),
        (["--jobs", "10000"], "--jobs must be from 1 to "),
        (["--seconds", "1e7"], "--seconds must be from 0 to 1,000,000"),
        (["--seconds", "nan"], "--seconds must be from 0 to 1,000,000"),
        (["search", "random", "--trials", "0"], "--trials must be from 1 to 10,000"),
        (["--logdir", "logs/new\nline"], "--logdir"),
        (["--logdir", "logs/\udcff"], "--logdir"),
        (["--logdir", "x" * 5000], "--logdir"),
        (["--logdir", "pyproject.toml"], "--logdir"),
        (["--save", "/dev/null"], "--save"),
        (["--save", "models/\x1b[31m"], "--save"),
        (["tune", "--rate", "7"], "--rate"),
        (["tune", "--seeds", "7"], "--seeds"),
        (["tune", "--save", "models"], "--save"),
        (["tnue"], "tnue"),
        (["--tune"], "guess tune"),
        (["--until-decided=40"], "guess extend --to"),
    ],
)
def test_a_refusal_names_the_flag_and_what_would_do(nothing_begins, capsys, flags, named):
    assert commands.run(guess.EXPERIMENT, flags) == 2
    assert named in printed_of(capsys)


def test_a_recipe_has_the_subcommands_that_it_can_use(nothing_begins, capsys):
    assert commands.run(pair.EXPERIMENT, ["tune"]) == 2
    assert "'tune'" in printed_of(capsys)
    assert commands.run(pair.EXPERIMENT, ["--help"]) == 0
    shown = printed_of(capsys)
    assert "run" in shown
    assert "tune" not in shown


def test_without_a_subcommand_it_is_run(nothing_begins):
    assert commands.parse(guess.EXPERIMENT, ["--seeds", "4"]) == commands.parse(guess.EXPERIMENT, ["run", "--seeds=4"])
    settings, config = commands.parse(guess.EXPERIMENT, ["search", "bayesian", "--seconds", "1"])
    assert (settings.action, settings.tuner, settings.seeds, config.seconds) == ("search", "bayesian", (), 1.0)
    assert type(config) is guess.Config


def test_a_home_is_put_in_the_place_of_a_tilde(nothing_done, monkeypatch, tmp_path):
    """No shell does it behind an equals sign."""
    from lab.report import publishable

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "logs").mkdir()
    seen = set()
    monkeypatch.setattr(publishable, "find", lambda experiment, logs, *_: (seen.add(logs), ())[1:] * 2)
    assert laboratory.main(["publish", "optimizers", "--logdir=~/logs"]) == 0
    settings, _ = commands.parse(guess.EXPERIMENT, ["--logdir=~/logs"])
    assert seen == {settings.logdir} == {tmp_path / "logs"}
