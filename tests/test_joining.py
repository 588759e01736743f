"""`join`: evidence that was measured in parts is one, and what does not belong together is refused."""

import pytest
from msgspec import structs

from lab.cli import laboratory
from lab.evidence.provenance import without_folder
from lab.evidence.records import EvidenceError, read, write_json
from lab.evidence.schemas import Evidence, TuningSweep
from lab.execute.joining import joined
from lab.report.card import markdown
from lab.report.report import Report
from tests.toys import dice, made_up

ZEN = structs.replace(made_up.MACHINE, cpu="Zen", abilities=["AVX-512"])


def runs(*seeds, **fields) -> Evidence:
    return made_up.evidence([made_up.record(variant, seed) for seed in seeds for variant in ("a", "b")], **fields)


def sweep(variant, seconds) -> TuningSweep:
    trial = made_up.record(variant, 801)
    return made_up.sweep(variants=[variant], worker_seconds=seconds, winners={variant: {"rate": 1}}, search=[trial])


@pytest.fixture
def written(tmp_path):
    """Writes files, and returns their places."""

    def write(*found):
        paths = tuple(tmp_path / f"{number}.json" for number in range(len(found)))
        for path, one in zip(paths, found, strict=True):
            write_json(path, one)
        return paths

    return write


def test_seeds_are_put_together_and_each_machine_is_noted(written):
    found = joined(written(runs(1, 2), runs(5, machine=ZEN), runs(3, 4), runs(6, machine=ZEN)))
    assert found.seeds == [1, 2, 3, 4, 5, 6]
    assert [record.seed for record in found.records] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert found.machine == made_up.MACHINE
    assert found.elsewhere == {"Zen (AVX-512)": [5, 6]}
    assert found.elapsed_seconds is None


def test_what_was_joined_is_joined_with_more(written, tmp_path):
    both = joined(written(runs(1), runs(2, machine=ZEN)))
    write_json(tmp_path / "both.json", both)
    write_json(tmp_path / "more.json", runs(3, machine=ZEN))
    assert joined((tmp_path / "more.json", tmp_path / "both.json")).elsewhere == {made_up.MACHINE.kind: [1]}
    assert joined((tmp_path / "both.json", tmp_path / "more.json")).elsewhere == {ZEN.kind: [2, 3]}


def test_a_card_shows_the_first_command_of_several_and_no_folder_of_a_machine(written):
    words = "python -m recipes.dice --seeds 1 --first-seed"
    parts = joined(written(*(runs(seed, command=f"{words} {seed} --logdir '/a b'") for seed in (1, 2))))
    short = without_folder(parts.command)
    assert short == f"{words} 1; {words} 2"
    assert (
        without_folder("python -m recipes.dice --data 'folder:a; b'") == "python -m recipes.dice --data 'folder:a; b'"
    )
    text = markdown(Report(dice.EXPERIMENT, structs.replace(parts, command=short)))
    assert f"`{words} 1`, and the same command for each other seed, measured this" in text


def test_a_card_says_which_seeds_come_from_elsewhere():
    found = made_up.of_values({"fair": [0.5] * 10, "loaded": [0.6] * 10}, machine=made_up.MACHINE)
    text = markdown(Report(dice.EXPERIMENT, structs.replace(found, elsewhere={ZEN.kind: [5, 6]})))
    assert "; of seeds 5, 6: Zen (AVX-512) |" in text


def test_the_variants_of_sweeps_are_put_together(written):
    found = joined(written(sweep("a", 60.0), sweep("b", 30.0)))
    assert (found.variants, found.worker_seconds) == (["a", "b"], 90.0)
    assert [trial.variant for trial in found.search] == ["a", "b"]
    assert found.winners == {"a": {"rate": 1}, "b": {"rate": 1}}


def widened(*rates, machine=made_up.MACHINE) -> TuningSweep:
    """Trials of a variant at some rates. The higher the rate, the better, but for the highest of all."""
    trials = [
        made_up.record("constant", 801, config={"rate": rate, "decay": 0.2, "held_out": 1},
                       metrics={"validation_accuracy": 0.5 if rate > 0.02 else 0.8 + rate})
        for rate in rates
    ]  # fmt: skip
    return made_up.sweep(variants=["constant"], search=trials, recipe="strong_baseline", machine=machine)


def test_trials_of_a_grid_that_was_widened_are_all_kept_and_the_best_of_them_wins(written):
    found = joined(written(widened(0.005, 0.01), widened(0.01, 0.02, 0.04)))
    assert [trial.config["rate"] for trial in found.search] == [0.005, 0.01, 0.02, 0.04]
    assert found.variants == ["constant"]
    assert found.winners == {"constant": {"rate": 0.02, "decay": 0.2, "validation_accuracy": pytest.approx(0.82)}}


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ((runs(2, 3), runs(3, 4)), "have the same seeds: 3"),
        ((widened(0.1), widened(0.2, machine=ZEN)), "The trials of constant come from two machines"),
        ((runs(1), runs(2, code="1")), "differ in code"),
        ((runs(1), runs(2, versions={"keras": "4"})), "differ in versions"),
        ((runs(1), runs(2, config={"epochs": 2})), "differ in config"),
        ((runs(1), sweep("a", 1)), "differ in kind"),
        ((runs(1), runs(2, commit="abc+changes")), "not committed"),
        ((runs(1), made_up.evidence([made_up.record("a", 2)])), "have other variants"),
    ],
)
def test_what_does_not_belong_together_is_refused(written, others, said):
    with pytest.raises(EvidenceError, match=said):
        joined(written(*others))


def test_the_command_writes_where_publish_looks(written, tmp_path, capsys):
    parts = [str(path) for path in written(runs(1), runs(2))]
    assert laboratory.main(["join", *parts, "--logdir", str(tmp_path / "logs")]) == 0
    (path,) = (tmp_path / "logs" / "toy").glob("*/evidence.json")
    assert read(path, Evidence).seeds == [1, 2]
    assert "2 variants at 2 seeds" in capsys.readouterr().out
    assert laboratory.main(["join", parts[0], parts[0], "--logdir", str(tmp_path / "logs")]) == 1
    assert "have the same seeds: 1" in capsys.readouterr().err
    assert laboratory.main(["join", str(tmp_path / "none.json")]) == 1
    assert laboratory.main(["join"]) == 2
    assert len(list((tmp_path / "logs" / "toy").iterdir())) == 1
