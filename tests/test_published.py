"""What is published agrees with the evidence beside it, or is labelled as measured with an earlier version."""

import dataclasses
import re
import shutil
from types import SimpleNamespace

import pytest

from lab import measurement
from lab.cli import laboratory
from lab.cli.cookbook import listing
from lab.evidence.records import EvidenceError, read_json, write_json
from lab.experiments import NAMES, load
from lab.report import front_page, publish, publishable
from lab.report.publish import CARD
from lab.report.published import FULL_DIGEST, RESULTS, STALE, Published
from lab.tuning import FINAL_SEEDS
from tests.toys import guess

PUBLISHED = [name for name in NAMES if (RESULTS / name / "evidence.json").exists()]
TUNED = [name for name in NAMES if load(name).tuning and (RESULTS / name / "tuning.json").exists()]


@pytest.mark.parametrize("name", PUBLISHED)
def test_nothing_has_drifted_and_what_is_stale_says_so(name):
    assert publish.drift(load(name)) == []
    stale = Published.read(load(name)).stale
    card = (RESULTS / name / "README.md").read_text(encoding="utf-8")
    assert card.startswith("> **This was measured with an earlier version of this recipe**") == bool(stale)
    assert read_json(RESULTS / name / "summary.json")["stale"] == bool(stale)
    (heading,) = [row for row in ledger().splitlines() if row.startswith(f"## [{name}](")]
    assert (STALE in heading) == bool(stale)


def ledger():
    return (RESULTS / "README.md").read_text(encoding="utf-8")


def test_the_front_page_and_the_ledger_are_those_of_the_summaries():
    assert publish.front_drift() == []
    text = ledger()
    for name in PUBLISHED:
        for claim in read_json(RESULTS / name / "summary.json")["claims"]:
            assert f"| {claim['id']} | " in text


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_evidence_that_is_current_may_be_published(name):
    if not Published.read(load(name)).stale:
        reasons = publishable.objections(load(name), RESULTS / name / "evidence.json")
        assert [
            reason for reason in reasons if "There is no commit" not in reason
        ] == []  # A copy may lack the history.


def test_nothing_published_names_a_folder_of_the_machine_that_it_came_from():
    for path in RESULTS.glob("*/*.json"):
        assert "--logdir" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    "command",
    [
        "python -m recipes.search --seeds 10",
        "python -m recipes.search --logdir '/home/me/my logs' --seeds 10",
        "python -m recipes.search --seeds 10 --logdir=/home/me",
    ],
)
def test_a_published_command_is_one_that_anyone_may_give(clean, tmp_path, command):
    write_json(clean, {**read_json(clean), "command": command})
    publish.publish(guess.EXPERIMENT, [clean], tmp_path / "results")
    published = read_json(tmp_path / "results" / "guess" / "evidence.json")
    assert published["command"] == "python -m recipes.search --seeds 10"


@pytest.mark.parametrize("name", TUNED)
def test_the_rates_are_the_sweeps_winners(name):
    experiment, module = load(name), __import__(f"recipes.{name}", fromlist=["RATES"])
    found = read_json(RESULTS / name / "tuning.json")
    assert {record["seed"] for record in found["search"]} == {0, *FINAL_SEEDS}
    defaults = vars(experiment.config())
    trials = [{**record, "config": {**defaults, **record["config"]}} for record in found["search"]]
    winners = experiment.tuning.winners(trials)
    assert winners == found["winners"]
    published = getattr(module, experiment.tuning.found[0])
    assert {variant: winner[experiment.tuning.swept] for variant, winner in winners.items()} == published
    for variant, winner in winners.items():
        if variant in experiment.tuning.second:
            assert module.WEIGHT_DECAYS[variant] == winner["weight_decay"]


@pytest.mark.parametrize("name", TUNED)
def test_every_variant_had_as_many_trials_and_no_winner_lies_at_an_edge(name):
    found, swept = read_json(RESULTS / name / "tuning.json"), load(name).tuning.swept
    for variant, winner in found["winners"].items():
        values = sorted({r["config"][swept] for r in found["search"] if r["variant"] == variant})
        assert len(values) >= 4
        accuracies = [r["metrics"].get("validation_accuracy", 0) for r in found["search"] if r["variant"] == variant]
        if max(accuracies) > 0.11:  # Else none was better than chance, and none is the best.
            assert values[0] < winner[swept] < values[-1], variant


def test_every_optimizer_has_a_sensitivity_curve_of_three_seeds():
    found = read_json(RESULTS / "optimizers" / "tuning.json")
    for variant in load("optimizers").tuning.curve:
        runs = {(r["config"]["rate"], r["seed"]) for r in found["curve"] if r["variant"] == variant}
        rates, seeds = {rate for rate, _ in runs}, {seed for _, seed in runs}
        assert len(runs) == len(rates) * len(seeds)
        assert len(seeds) >= 3
        assert max(rates) / min(rates) >= 999


# Publishing, on a toy's evidence


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Evidence of the toy at quick, as its command line writes it."""
    from lab.cli import commands

    logs = tmp_path_factory.mktemp("logs")
    assert commands.run(guess.EXPERIMENT, ["--seeds", "10", "--jobs", "2", "--logdir", str(logs)]) == 0
    (path,) = logs.rglob("evidence.json")
    return path


COMMIT = "1234567890" * 4


@pytest.fixture(autouse=True)
def commits(monkeypatch):
    """This commit there is, and no other, whatever checkout the tests run in."""
    monkeypatch.setattr(publishable, "is_commit", lambda name: name == COMMIT)


@pytest.fixture
def clean(measured, tmp_path):
    """A copy of it that says it was measured by committed code."""
    path = tmp_path / "logs" / "guess" / "20260101-000000" / "evidence.json"
    write_json(path, {**read_json(measured), "commit": COMMIT})
    return path


def test_evidence_becomes_a_card_a_figure_and_a_summary(clean, tmp_path):
    results = tmp_path / "results"
    assert publish.publish(guess.EXPERIMENT, [clean], results) == "generated from its evidence"
    names = {path.name for path in (results / "guess").iterdir()}
    assert names == {"evidence.json", "README.md", "figure.png", "forest.png", "summary.json"}
    assert publish.drift(guess.EXPERIMENT, results) == []
    page = front(tmp_path)
    publish.publish_front(results, page)
    assert "1 recipes measure 1 claims: 1 is open; 0 more are arithmetic." in page.read_text()
    text = (results / "README.md").read_text()
    assert "## [guess](guess/README.md): Do coins land heads up?" in text
    assert "| X1 | A loaded coin wins (us). | **open** | test accuracy, loaded minus fair: " in text
    assert publish.front_drift(results, page) == []
    (results / "README.md").write_text(text.replace("**open**", "**holds**"))
    assert publish.front_drift(results, page) == ["the ledger"]
    publish.publish_front(results, page)
    assert "![optimizers]" not in (results / "gallery.md").read_text()  # Of what is published alone.
    (results / "gallery.md").write_text("# Gallery")
    assert publish.front_drift(results, page) == ["the gallery"]


def test_reference_curves_are_published_beside_the_evidence_and_held_against_it(clean, tmp_path):
    results = tmp_path / "results"
    publish.publish(guess.EXPERIMENT, [clean], results)
    reference = publish.reference_of(guess.EXPERIMENT, results)
    assert reference == tmp_path / "logs" / "reference" / "guess"
    assert {path.name for path in reference.iterdir()} == {*guess.EXPERIMENT.names, "answer", "pins.json"}
    (written,) = (reference / guess.EXPERIMENT.names[0]).iterdir()
    written.write_bytes(written.read_bytes()[:-1])
    assert publish.drift(guess.EXPERIMENT, results) == ["the reference curves"]
    publish.publish(guess.EXPERIMENT, [], results)
    assert publish.drift(guess.EXPERIMENT, results) == []


def test_what_was_measured_at_full_stands_beside_quick(clean, tmp_path):
    results, experiment = tmp_path / "results", dataclasses.replace(guess.EXPERIMENT, at_full=("fair", "loaded"))
    found = read_json(clean)
    at_full = {
        **found, "budget": "full", "data": {**found["data"], "source": "full"}, "data_digest": FULL_DIGEST,
        "seeds": found["seeds"][:5], "config": {**found["config"], **vars(experiment.config_at("full"))},
        "records": [
            {**r, "metrics": {**r["metrics"], "test_accuracy": 0.5 + 0.001 * r["seed"]}, "correct": None}
            for r in found["records"] if r["seed"] <= 5
        ],
    }  # fmt: skip
    path = clean.parents[1] / "20260102-000000" / "evidence.json"
    write_json(path, at_full)
    assert publishable.objections(experiment, path) == []
    assert "nor of full" not in " ".join(publishable.objections(guess.EXPERIMENT, path))
    assert "not of budget quick" in " ".join(publishable.objections(guess.EXPERIMENT, path))
    assert publishable.find(experiment, clean.parents[2], "evidence.json", "full") == (path, [])
    assert publishable.find(experiment, clean.parents[2], "evidence.json", "quick") == (clean, [])
    publish.publish(experiment, [clean, path], results)
    assert read_json(results / "guess" / "full" / "evidence.json")["budget"] == "full"
    assert read_json(results / "guess" / "evidence.json")["budget"] == "quick"
    (claim,) = read_json(results / "guess" / "summary.json")["claims"]
    assert (claim["verdict"], claim["at_full"]) == ("open", "open")
    assert "| X1 | open | **open** | test accuracy, loaded minus fair: +0.00" in (results / "guess" / CARD).read_text()
    page = front(tmp_path)
    publish.publish_front(results, page)
    assert "(`--budget full`): 1 verdict is the same." in page.read_text()
    assert publish.drift(experiment, results) == []
    for record in at_full["records"]:
        record["metrics"]["test_accuracy"] += (0.199 + 0.0005 * record["seed"]) * (record["variant"] == "loaded")
    write_json(path, at_full)
    publish.publish(experiment, [clean, path], results)
    publish.publish_front(results, page)
    assert "(`--budget full`): 0 verdicts are the same, and these turned the most:" in page.read_text()
    (line,) = (line for line in page.read_text().splitlines() if "at quick, test accuracy, loaded minus fair:" in line)
    assert line.endswith("points, and **holds** at full, +20.05 \\[+19.95, +20.15\\] points")
    few = {**at_full, "seeds": [1], "records": [r for r in at_full["records"] if r["seed"] == 1]}
    write_json(path, few)
    assert "5 from 1 on are the least" in " ".join(publishable.objections(experiment, path))


def front(folder):
    """A README with a place for all that is generated."""
    page = folder / "page.md"
    page.write_text("\n".join(line for part in front_page.PARTS for line in front_page.marks(part)))
    return page


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("README.md", r"\d\d\.\d\d ± \d\.\d\d", "99.99 ± 0.01"),
        ("summary.json", r'"seeds": 10', '"seeds": 11'),
        ("evidence.json", r'"seconds": \{\s*"total": [\d.e-]+', '"seconds": {"total": 99'),
    ],
)
def test_drift_is_noticed_in_each_file(clean, tmp_path, file, old, new):
    results = tmp_path / "results"
    publish.publish(guess.EXPERIMENT, [clean], results)
    path = results / "guess" / file
    content = path.read_text(encoding="utf-8")
    assert re.search(old, content)
    path.write_text(re.sub(old, new, content, count=1), encoding="utf-8")
    wrong = publish.drift(guess.EXPERIMENT, results)
    assert wrong
    assert file in wrong or file == "evidence.json"


def test_evidence_whose_code_has_changed_is_labelled_and_the_label_goes_when_it_is_measured_again(clean, tmp_path):
    results = tmp_path / "results"
    publish.publish(guess.EXPERIMENT, [clean], results)
    fresh = (results / "guess" / "README.md").read_text()
    old = {**read_json(clean), "code": "0123456789abcdef"}
    write_json(results / "guess" / "evidence.json", old)
    assert "README.md" in publish.drift(guess.EXPERIMENT, results)
    for _ in range(2):  # The label is put on once.
        assert "labelled" in publish.publish(guess.EXPERIMENT, [], results)
        card = (results / "guess" / "README.md").read_text()
        assert card == publish.label(guess.EXPERIMENT) + fresh
    publish.publish_front(results, front(tmp_path))
    assert STALE in (results / "README.md").read_text()
    assert publish.drift(guess.EXPERIMENT, results) == []
    assert publish.status_of(guess.EXPERIMENT, results)[0].startswith("evidence  stale")
    publish.publish(guess.EXPERIMENT, [clean], results)
    assert (results / "guess" / "README.md").read_text() == fresh
    assert publish.status_of(guess.EXPERIMENT, results)[0] == "evidence  current"


def set_field(**fields):
    return lambda found: found.update(fields)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (set_field(code="0"), "It is stale"),
        (set_field(budget="smoke"), "not of budget quick"),
        (set_field(recipe="optimizers"), "of recipe 'optimizers'"),
        (set_field(schema=99), r"\$.schema"),
        (set_field(commit="abc+changes"), "not committed"),
        (set_field(commit="0" * 40), "There is no commit"),
        (set_field(commit="HEAD"), "There is no commit"),
        (set_field(data_digest="rotated labels"), "not the bundled ones"),
        (set_field(keras={"floatx": "float16"}), "other settings of Keras"),
        (set_field(model="mine.py:build 0"), "a reader's own model"),
        (lambda found: found["config"].update(rate=2.0), "not those of budget quick"),
        (lambda found: found["data"].update(train_images=1000), "not those of budget quick"),
        (lambda found: found["data"].update(split_seed=3), "not those of budget quick"),
        (lambda found: found["records"].pop(), "one record for each"),
        (lambda found: found["records"][0].update(status="failed", metrics={}), "failed runs"),
        (lambda found: found["records"][0]["metrics"].update(test_accuracy=50.0), "test_accuracy"),
        (lambda found: found["records"][0].update(variant="crooked"), "one record for each"),
        (lambda found: found.update(variants=["fair"]), "one record for each"),
    ],
)
def test_unfit_evidence_is_refused_and_nothing_is_changed(clean, tmp_path, change, sentence):
    results = tmp_path / "results"
    publish.publish(guess.EXPERIMENT, [clean], results)
    before = {path.name: path.read_bytes() for path in (results / "guess").iterdir()}
    found = read_json(clean)
    change(found)
    write_json(clean, found)
    with pytest.raises(EvidenceError, match=sentence):
        publish.publish(guess.EXPERIMENT, [clean], results)
    assert {path.name: path.read_bytes() for path in (results / "guess").iterdir()} == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (set_field(schema=99), r"\$.schema"),
        (lambda found: found["data"].update(source="folder:/home/me"), "not those of budget quick"),
        (set_field(data_digest="0"), "not the bundled ones"),
        (set_field(model="mine.py:f 0"), "a reader's own model"),
        (set_field(commit="HEAD"), "There is no commit"),
        (lambda found: found["winners"]["linear"].update(rate=7), "not those of its own trials"),
        (lambda found: found["search"][0]["metrics"].update(test_accuracy=50.0), "test_accuracy"),
        (lambda found: found["config"].update(epochs=1), "not those of budget quick"),
        (lambda found: found["variants"].pop(), "lacks some of the variants"),
    ],
)
def test_unfit_sweeps_are_refused(tmp_path, change, sentence):
    found = {**read_json(RESULTS / "sequential" / "tuning.json"), "commit": COMMIT}
    path = tmp_path / "tuning.json"
    write_json(path, found)
    assert not [reason for reason in publishable.objections(load("sequential"), path) if "stale" not in reason]
    change(found)
    write_json(path, found)
    assert sentence.replace("\\", "") in " ".join(publishable.objections(load("sequential"), path))


def test_a_disk_that_is_full_while_publishing_changes_nothing(clean, tmp_path, monkeypatch):
    results = tmp_path / "results"
    publish.publish(guess.EXPERIMENT, [clean], results)
    before = {path.name: path.read_bytes() for path in (results / "guess").iterdir()}

    def full(path, content, **how):
        if path.name == "summary.json":
            raise OSError(28, "No space left on device", str(path))
        write_json(path, content, **how)

    monkeypatch.setattr(publish, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        publish.publish(guess.EXPERIMENT, [clean], results)
    assert {path.name: path.read_bytes() for path in (results / "guess").iterdir()} == before
    assert [path.name for path in results.iterdir()] == ["guess"]  # And leaves nothing beside it.


def test_too_few_seeds_and_other_seeds_are_refused(clean):
    for keep in (range(1, 4), range(2, 11)):
        found = read_json(clean)
        found["seeds"] = list(keep)
        found["records"] = [record for record in found["records"] if record["seed"] in keep]
        write_json(clean.with_name("few.json"), found)
        assert "are the least" in " ".join(publishable.objections(guess.EXPERIMENT, clean.with_name("few.json")))


def test_newer_evidence_that_may_not_be_published_is_named(clean):
    newer = clean.parents[1] / "20270101-000000" / "evidence.json"
    write_json(newer, {**read_json(clean), "model": "mine.py:build"})
    of_floors = clean.parents[1] / "20270101-000001" / "evidence.json"
    write_json(of_floors, {**read_json(clean), "budget": "smoke"})
    broken = clean.parents[1] / "20280101-000000" / "evidence.json"
    broken.parent.mkdir()
    broken.write_text("{")
    path, passed_over = publishable.find(guess.EXPERIMENT, clean.parents[2], "evidence.json")
    assert path == clean
    assert len(passed_over) == 2  # Nobody meant the run for floors to be published.
    assert [str(broken) in passed_over[0], str(newer) in passed_over[1]] == [True, True]
    assert "of a reader's own model" in passed_over[1]


def test_publishing_from_a_folder_that_is_not_there_says_so(capsys, tmp_path, monkeypatch):
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results)
    monkeypatch.setattr(publish, "README", tmp_path / "README.md")
    front(tmp_path).rename(publish.README)
    monkeypatch.setattr(publish, "RESULTS", results)
    assert laboratory.publish((PUBLISHED[0],), logdir=tmp_path / "nowhere") == 1
    assert f"There is no folder {tmp_path / 'nowhere'}" in capsys.readouterr().err


@pytest.mark.parametrize("part", front_page.PARTS)
def test_a_readme_without_a_place_for_what_is_generated(part, tmp_path):
    page, (begin, end) = front(tmp_path), front_page.marks(part)
    whole = page.read_text()
    for text in (whole.replace(begin, ""), whole.replace(end, ""), whole.replace(f"{begin}\n{end}", f"{end}\n{begin}")):
        with pytest.raises(EvidenceError, match=f"put them where the {part} belong"):
            front_page.readme(text, tmp_path)


def test_every_recipe_is_in_one_chapter():
    assert sorted(name for chapter in front_page.CHAPTERS.values() for name in chapter) == NAMES


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", "[x](http://e.example)", "a | b", "`code` *b*", "\x1b[31m"]
)
def test_text_in_evidence_is_escaped_on_the_card(clean, tmp_path, hostile):
    found = read_json(clean)
    found["machine"]["cpu"] = found["command"] = found["versions"]["python"] = f"before {hostile} after"
    write_json(clean, found)
    publish.publish(guess.EXPERIMENT, [clean], tmp_path / "results")
    card = (tmp_path / "results" / "guess" / "README.md").read_text()
    assert "before" in card
    if hostile not in ("a | b", "`code` *b*"):
        assert hostile not in re.sub(r"`[^`\n]*`", "", card)
    assert "before a | b" not in card
    assert "before `code`" not in card
    assert "\x1b" not in card


# Floors


def records_of(values):
    return [
        {"variant": "a", "seed": seed, "status": "finished", "metrics": {"test_accuracy": value}}
        for seed, value in enumerate(values, 1)
    ]


def test_a_floor_is_five_deviations_below_the_mean_and_a_ceiling_as_many_above():
    values = [0.40, 0.41, 0.42, 0.39, 0.38]
    found = publish.floors(records_of(values), "test_accuracy", (), 0.1, 4000)["a"]
    assert found["floor"] == pytest.approx(0.40 - 5 * 0.0158113883)
    found = publish.floors(records_of(values), "test_accuracy", ("a",), 0.1, 4000)["a"]
    assert found["ceiling"] == pytest.approx(0.40 + 5 * 0.0158113883)
    assert "floor" not in found
    found = publish.floors(records_of([0.1] * 5), "test_accuracy", ("a",), 0.1, 4000)["a"]
    assert found["ceiling"] == pytest.approx(0.1 + 5 * 0.0047434165)


def test_a_floor_is_never_below_one_and_a_half_times_chance():
    values = [0.30, 0.34, 0.38, 0.42, 0.26]  # A deviation of 0.063: five of them below the mean lies 0.024.
    assert publish.floors(records_of(values), "test_accuracy", (), 0.1, 4000)["a"]["floor"] == pytest.approx(0.15)


def test_a_floor_that_would_mean_nothing_is_refused():
    with pytest.raises(EvidenceError, match=r"would lie below 1\.5 times chance"):
        publish.floors(records_of([0.1, 0.3, 0.5, 0.2]), "test_accuracy", (), 0.1, 4000)


def test_the_list_shows_verdicts_and_what_is_stale():
    from rich.console import Console

    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(listing(NAMES))
    text = console.export_text()
    assert all(name in text for name in NAMES)
    assert ("measured with an earlier version" in text) == any(Published.read(load(n)).stale for n in PUBLISHED)


def test_a_recipe_in_no_chapter_is_said_to_be_missing_from_readme(monkeypatch, tmp_path, capsys):
    from lab.report import front_page, publish

    monkeypatch.setattr(publish, "publish", lambda *_: "done")
    monkeypatch.setattr(publish, "publish_front", lambda: None)
    assert laboratory.publish(("sequential",), logdir=tmp_path) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(front_page, "CHAPTERS", {"Other": ("optimizers",)})
    assert laboratory.publish(("sequential",), logdir=tmp_path) == 1
    assert "sequential is in no chapter of README: add it to CHAPTERS" in capsys.readouterr().err


@pytest.mark.parametrize(("seeds", "commit", "said"), [(10, "+changes", 1), (10, "", 0), (3, "+changes", 0)])
def test_a_long_measurement_of_what_is_not_committed_says_so_before_it_begins(monkeypatch, seeds, commit, said):
    monkeypatch.setattr(measurement.Work, "of", lambda *_: None)
    invocation = SimpleNamespace(
        experiment=guess.EXPERIMENT,
        settings=SimpleNamespace(seeds=tuple(range(seeds)), data=None, model="", backend="local"),
        config=None,
        variants=(),
        plan=list,
        header=SimpleNamespace(commit="a" * 40 + commit),
    )
    sentences: list[str] = []
    measurement.begin_comparison(invocation, sentences.append)
    assert len(sentences) == said
    assert all("not committed" in sentence for sentence in sentences)
