"""What is published agrees with the evidence beside it, or is labeled as measured with an earlier version."""

import dataclasses
import io
import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec import structs

from lab import measurement
from lab.cli import commands, laboratory
from lab.cli.cookbook import listing
from lab.evidence import staleness
from lab.evidence.records import EvidenceError, read, read_json, write_json
from lab.evidence.schemas import Evidence, Images, Origin, Summary, Trial, TuningSweep
from lab.experiments import NAMES, load
from lab.report import card, figure, floors, front_page, pages, publish, publishable, published
from lab.report.publish import CARD, SUMMARY
from lab.report.publishable import KERAS, SUBSET_DIGEST
from lab.report.published import RESULTS, Published
from lab.report.report import Report
from lab.tuning import FINAL_SEEDS, SEED
from tests.toys import dice, guess, made_up

PUBLISHED = [name for name in NAMES if (RESULTS / name / "evidence.json").exists()]
TUNED = [name for name in NAMES if load(name).tuning and (RESULTS / name / "tuning.json").exists()]
COMMIT = "1234567890" * 4


def drift(experiment, results):
    """Which published files disagree with the evidence beside them."""
    folder = results / experiment.name
    pages, report = publish.generate(experiment, folder)
    wrong = [path.name for path, page in pages.items() if not holds(path, page)]
    return wrong + ([] if figure.drawn_from(folder / "figure.png") == report.fingerprint() else ["figure.png"])


def front_drift(results, page):
    """Which of the pages about all recipes disagree with the summaries."""
    found = front_page.summaries(results)
    wrong = [path.name for path, text in publish.front_pages(found, results, page).items() if not holds(path, text)]
    drawn = figure.drawn_from(results / publish.PICTURE) == front_page.fingerprint(found)
    return wrong + ([] if drawn else [publish.PICTURE])


def holds(path, page):
    if not path.exists():
        return False
    return path.read_text(encoding="utf-8") == page if isinstance(page, str) else read(path, type(page)) == page


@pytest.mark.parametrize("name", PUBLISHED)
def test_nothing_has_drifted_and_what_is_stale_says_so(name):
    assert drift(load(name), RESULTS) == []
    stale = bool(Published.read(load(name)).stale)
    text = (RESULTS / name / CARD).read_text(encoding="utf-8")
    assert text.startswith("> **Measured with an earlier version of this recipe**") == stale
    assert read(RESULTS / name / SUMMARY, Summary).stale == stale


def test_the_pages_about_all_recipes_are_those_of_the_summaries():
    assert front_drift(RESULTS, publish.README) == []
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    anchors = re.findall(r'<a id="([^"]+)">', text)
    claims = [claim for name in PUBLISHED for claim in read(RESULTS / name / SUMMARY, Summary).claims]
    assert len(anchors) == len(set(anchors)) == len(claims)


def test_the_front_page_is_short():
    text = publish.README.read_text(encoding="utf-8")
    begin, end = front_page.marks("recipes")
    before, _, rest = text.partition(begin)
    read = re.sub("<!--.*?-->", "", before + rest.partition(end)[2])
    assert len([word for word in read.split() if re.search(r"\w", word)]) <= 700


def test_every_recipe_is_in_one_chapter():
    assert sorted(name for chapter in front_page.CHAPTERS.values() for name in chapter) == NAMES


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


@pytest.mark.parametrize("name", TUNED)
def test_what_is_trained_with_is_what_the_sweep_found_and_none_lies_at_an_edge(name):
    experiment = load(name)
    tuning, found = experiment.tuning, read(RESULTS / name / "tuning.json", TuningSweep)
    if Published.read(experiment).stale_tuning:
        return
    defaults = vars(experiment.config())
    trials = [structs.replace(trial, config={**defaults, **trial.config}) for trial in found.search]
    assert tuning.winners(trials) == found.winners
    for variant, winner in found.winners.items():
        settings = experiment.settings(variant)
        for setting in {tuning.swept, *tuning.second.get(variant, ())[:1]}:
            among = [settings.get(setting, defaults.get(setting))]
            for table in (settings[name] for name in experiment.tuned):
                # One that an experiment looks up by other names has what was tuned in the order of the sweep.
                whole = isinstance(table, dict)
                among.append(dict(zip(tuning.grids, table.values(), strict=True))[variant] if whole else table)
            assert winner[setting] in among, variant
        mine = [trial for trial in trials if trial.variant == variant]
        values = sorted({trial.config[tuning.swept] for trial in mine})
        assert len(values) >= 4
        if max(trial.metrics.get("validation_accuracy", 0) for trial in mine) > 0.11:  # Else none beat chance.
            assert values[0] < winner[tuning.swept] < values[-1], variant


# Publishing, on made-up evidence of a toy


@pytest.fixture(autouse=True)
def commits(monkeypatch):
    """This commit there is, and no other, whatever checkout the tests run in."""
    monkeypatch.setattr(publishable, "is_commit", lambda name: name == COMMIT)


def evidence_of(experiment=guess.EXPERIMENT, seeds=range(1, 11), **fields) -> Evidence:
    """Evidence of the toy as its command line writes it."""
    records = [
        made_up.record(variant, seed, metrics=guess.metrics(variant, seed), settings=experiment.settings(variant))
        for seed in seeds
        for variant in guess.VARIANTS
    ]
    origin = {
        "recipe": "guess", "code": experiment.code, "parts": experiment.parts, "commit": COMMIT, "keras": KERAS,
        "data_digest": SUBSET_DIGEST, "config": vars(experiment.config()),
        "command": "python -m tests.toys.guess --seeds 10 --logdir /home/me",
    }  # fmt: skip
    return made_up.evidence(records, **{**origin, **fields})


def write(folder: Path, found: Evidence, stamp: str = "20260101-000000") -> Path:
    path = folder / "logs" / "guess" / stamp / "evidence.json"
    write_json(path, found)
    return path


@pytest.fixture
def clean(tmp_path):
    """A file of evidence that may be published."""
    return write(tmp_path, evidence_of())


@pytest.fixture
def results(clean, tmp_path):
    """A folder in which it is published."""
    assert publish.publish(guess.EXPERIMENT, [clean], tmp_path / "results") == "generated from its evidence"
    return tmp_path / "results"


def front(folder):
    """A README with a place for all that is generated."""
    page = folder / "page.md"
    page.write_text("\n".join(line for part in front_page.PARTS for line in front_page.marks(part)))
    return page


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_a_command_measures_may_be_published(started, tmp_path):
    assert commands.run(guess.EXPERIMENT, ["--seeds", "10", "--no-log", "--logdir", str(tmp_path)]) == 0
    (path,) = tmp_path.rglob("evidence.json")
    write_json(path, structs.replace(read(path, Evidence), commit=COMMIT))
    assert publishable.objections(guess.EXPERIMENT, path) == []


def test_evidence_becomes_a_card_a_figure_and_a_summary(results, tmp_path):
    assert set(contents(results / "guess")) == {"evidence.json", CARD, "figure.png", SUMMARY}
    assert drift(guess.EXPERIMENT, results) == []
    command = read(results / "guess" / "evidence.json", Evidence).command
    assert command == "python -m tests.toys.guess --seeds 10"  # One that anyone may give.
    page = front(tmp_path)
    publish.publish_front(results, page)
    assert "1 measured recipe, 1 claim: 1 undecided." in page.read_text()
    text = (results / "README.md").read_text()
    assert "## [guess](guess/README.md): Do coins land heads up?" in text
    row = "| A loaded coin wins (us). | **undecided (the same difference at every seed)** | test accuracy: +30.0 points"
    assert f'<a id="x1"></a>X1 {row}' in text
    assert front_drift(results, page) == []
    assert "![optimizers]" not in (results / "gallery.md").read_text()  # What is published alone.


def test_drift_of_each_page_and_picture_is_noticed(results, tmp_path):
    page = front(tmp_path)
    publish.publish_front(results, page)
    for name in (CARD, SUMMARY, "figure.png"):
        path = results / "guess" / name
        before = path.read_bytes()
        after = (results / publish.PICTURE).read_bytes() if name.endswith("png") else before.replace(b"10", b"11", 1)
        path.write_bytes(after)
        assert drift(guess.EXPERIMENT, results) == [name]
        path.write_bytes(before)
    for name in ("README.md", "gallery.md", "claims.csv", "claims.json", publish.PICTURE):
        path = results / name
        before = path.read_bytes()
        path.write_bytes((results / "guess" / "figure.png").read_bytes() if name.endswith("png") else before + b"x")
        assert front_drift(results, page) == [name]
        path.write_bytes(before)
    slower = evidence_of()
    slower.records[0].seconds["total"] = 99.0
    write_json(results / "guess" / "evidence.json", slower)
    assert SUMMARY in drift(guess.EXPERIMENT, results)


@pytest.fixture
def advising(tmp_path, monkeypatch):
    """The toy with an answer, whose docstring is in a file of its own."""
    source = tmp_path / "guess.py"
    source.write_text('"""Do coins land heads up?\n\nOld.\n\nRun       python -m tests.toys.guess\n"""\n')
    monkeypatch.setattr(guess, "__file__", str(source))
    answer = "Loaded ones do: {test_accuracy.loaded - test_accuracy.fair} more often."
    return dataclasses.replace(
        guess.EXPERIMENT, answer=answer, advice=["**Load it** to {test_accuracy.loaded}."]
    ), source


def test_the_answer_is_filled_in_on_the_card_and_in_the_docstring_and_its_drift_is_noticed(advising, clean, tmp_path):
    (experiment, source), results = advising, tmp_path / "results"
    publish.publish(experiment, [clean], results)
    text = source.read_text()
    assert text.splitlines()[2:5] == [
        "Loaded ones do: 30.0 points more often.",
        "",
        "Run       python -m tests.toys.guess",
    ]
    card_lines = (results / "guess" / CARD).read_text().splitlines()
    assert card_lines[2] == "**Loaded ones do: 30.0 points more often.**"
    assert card_lines[6].startswith("- **Load it** to 79.9 %.")
    assert drift(experiment, results) == []
    source.write_text(text.replace("30.0", "31.0"))
    assert drift(experiment, results) == ["guess.py"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"answer": "It is {test_accuracy.bent}."}, "{test_accuracy.bent}"),
        ({"advice": ["It is {test_accuracy.bent}."]}, "{test_accuracy.bent}"),
        ({"rests_on": ["X7"]}, "X7: there is no such claim"),
    ],
)
def test_advice_that_the_evidence_does_not_support_is_not_published(advising, clean, tmp_path, changes, why):
    (experiment, source), results = advising, tmp_path / "results"
    before = source.read_text()
    with pytest.raises(EvidenceError, match=re.escape(why)):
        publish.publish(dataclasses.replace(experiment, **changes), [clean], results)
    assert not results.exists()
    assert source.read_text() == before


def test_where_evidence_is_of_earlier_code_the_docstring_stays_and_what_does_not_fit_is_gone(advising, clean, tmp_path):
    (experiment, source), results = advising, tmp_path / "results"
    publish.publish(experiment, [clean], results)
    write_json(results / "guess" / "evidence.json", evidence_of(code="0123456789abcdef"))
    source.write_text(before := source.read_text().replace("30.0", "31.0"))
    publish.publish(experiment, [], results)
    assert source.read_text() == before
    assert drift(experiment, results) == []
    assert "**Loaded ones do: 30.0 points" in (results / "guess" / CARD).read_text()
    other = dataclasses.replace(experiment, answer="It is {test_accuracy.bent}.")
    publish.publish(other, [], results)
    assert "It is" not in (results / "guess" / CARD).read_text()
    assert read(results / "guess" / SUMMARY, Summary).answer == ""


def test_evidence_whose_code_has_changed_is_labelled_and_the_label_goes_when_it_is_measured_again(
    results, clean, tmp_path
):
    fresh = (results / "guess" / CARD).read_text()
    parts = {f"lab/core/run.py: part_{number}": "0" for number in range(12)}
    write_json(results / "guess" / "evidence.json", evidence_of(code="0123456789abcdef", parts=parts))
    assert CARD in drift(guess.EXPERIMENT, results)
    assert "labeled" in publish.publish(guess.EXPERIMENT, [], results)
    label, _, rest = (results / "guess" / CARD).read_text().partition("\n\n")
    assert label.startswith("> **Measured with an earlier version of this recipe**")
    assert rest.partition("## Environment")[0] == fresh.partition("## Environment")[0]
    publish.publish_front(results, front(tmp_path))
    assert "(earlier version)" in (results / "README.md").read_text()
    assert drift(guess.EXPERIMENT, results) == []
    state, *lines = publish.status_of(guess.EXPERIMENT, results)
    assert state.startswith("evidence  stale")
    changed = [name for line in lines if "changed in" in line for name in line.partition(": ")[2].split(", ")]
    assert len(changed) == publish.MOST_CHANGED
    assert f"and {len(guess.EXPERIMENT.parts) + 12 - publish.MOST_CHANGED} more" in " ".join(lines)
    assert any(guess.EXPERIMENT.measure_again in line for line in lines)
    publish.publish(guess.EXPERIMENT, [clean], results)
    assert (results / "guess" / CARD).read_text() == fresh
    assert publish.status_of(guess.EXPERIMENT, results)[0] == "evidence  current"


def test_a_publish_that_was_stopped_on_the_way_is_mended_by_the_next(clean, tmp_path, monkeypatch):
    results = tmp_path / "results"
    publish.publish(guess.EXPERIMENT, [write(tmp_path, evidence_of(seeds=range(1, 21)), "20250101-000000")], results)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(publish, "write_whole", full)
        with pytest.raises(OSError, match="No space left"):
            publish.publish(guess.EXPERIMENT, [clean], results)
    assert drift(guess.EXPERIMENT, results) != []
    publish.publish(guess.EXPERIMENT, [], results)
    assert drift(guess.EXPERIMENT, results) == []
    assert read(results / "guess" / SUMMARY, Summary).seeds == 10


def test_the_strong_baseline_is_published_before_the_cards_that_show_it():
    assert publish.in_order(["shuffling", "sequential"]) == ["shuffling", "sequential"]
    names = publish.in_order(["shuffling", "strong_baseline"])
    assert names[:2] == ["strong_baseline", "shuffling"]
    assert {"optimizers", "schedules", "regularization"} < set(names)
    assert len(set(names)) == len(names)
    assert "gradients" not in names  # None of its claims is measured there.


def test_what_the_strong_baseline_says_stands_beside_and_an_answer_must_hold_there(clean, tmp_path, monkeypatch):
    results, there = tmp_path / "results", dice.EXPERIMENT
    monkeypatch.setattr(publish, "load", {"strong_baseline": there}.__getitem__)
    counterpart = dataclasses.replace(guess.CLAIMS[0], strong="D1", exact=True)
    experiment = dataclasses.replace(guess.EXPERIMENT, claims=[counterpart], rests_on=["X1"])

    def strong(clear, seeds=10):
        """Evidence of the strong baseline in which a claim's variant has this accuracy, and the other one a half."""
        accuracies = {"fair": 0.5, "clear": clear, "faint": 0.5, "unclaimed": 0.5}
        records = [
            made_up.record(name, seed, metrics={"test_accuracy": value + 0.001 * seed * (name == "fair")})
            for seed in range(1, seeds + 1)
            for name, value in accuracies.items()
        ]
        fields = {"recipe": "dice", "code": there.code, "config": dataclasses.asdict(there.config())}
        write_json(results / "dice" / "evidence.json", made_up.evidence(records, **fields))

    publish.publish(experiment, [clean], results)
    assert "strong baseline" not in (results / "guess" / CARD).read_text()  # Nothing was measured there.
    strong(0.6)
    publish.publish(experiment, [clean], results)
    (claim,) = read(results / "guess" / SUMMARY, Summary).claims
    assert [(found.budget, found.verdict) for found in claim.findings] == [
        ("quick", "supported"),
        ("strong", "supported"),
    ]
    assert claim.strongest.effects[0].b == "fair"
    assert "| strong baseline" in (results / "guess" / CARD).read_text()
    assert drift(experiment, results) == []
    strong(0.4)
    with pytest.raises(EvidenceError, match="rests on X1, and it reads contradicted"):
        publish.publish(experiment, [clean], results)
    strong(0.4, seeds=5)  # These decide nothing, but it is clear which way they point.
    with pytest.raises(EvidenceError, match="supported here and has the opposite sign on the strong baseline"):
        publish.publish(experiment, [], results)
    strong(0.504)
    with pytest.raises(EvidenceError, match=r"reads no real difference|is undecided on the strong baseline"):
        publish.publish(experiment, [], results)
    publish.publish(dataclasses.replace(experiment, rests_on=[]), [], results)


def of_images(**fields):
    return Images(**{"source": "subset", "train_images": None, "split_seed": None, **fields})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"code": "0"}, "stale"),
        ({"budget": "smoke"}, "budget is smoke"),
        ({"recipe": "optimizers"}, "of recipe 'optimizers'"),
        ({"commit": f"{COMMIT}+changes"}, "not committed"),
        ({"commit": "0" * 40}, "no commit"),
        ({"commit": None}, "no commit"),
        ({"data_digest": "rotated labels"}, "by their digest"),
        ({"keras": {**KERAS, "floatx": "float16"}}, "settings of Keras"),
        ({"model": "mine.py:build 0"}, "own model"),
        ({"config": {"seconds": 1.0}}, "Its seconds are not those"),
        ({"data": of_images(train_images=1000)}, "images are not those"),
        ({"data": of_images(split_seed=3)}, "images are not those"),
        ({"seeds": range(1, 4)}, "at least 10"),
        ({"seeds": range(2, 12)}, "from 1 on"),
    ],
)
def test_unfit_evidence_is_refused(clean, fields, why):
    write_json(clean, evidence_of(**fields))
    assert why in " ".join(publishable.objections(guess.EXPERIMENT, clean))


def test_what_is_refused_changes_nothing(results, clean):
    before = contents(results / "guess")
    write_json(clean, evidence_of(model="mine.py:build 0"))
    with pytest.raises(EvidenceError, match="own model"):
        publish.publish(guess.EXPERIMENT, [clean], results)
    assert contents(results / "guess") == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda found: found["records"].pop(), "records"),
        (lambda found: found.update(schema=99), "schema"),
        (lambda found: found["records"][0].update(status="failed", metrics={}), "failed runs"),
        (lambda found: found["records"][0]["metrics"].update(test_accuracy=50.0), "share"),
        (lambda found: found.update(variants=["fair"]), "records"),
    ],
)
def test_evidence_that_is_not_whole_is_refused(clean, change, why):
    found = read_json(clean)
    change(found)
    write_json(clean, found)
    assert why in " ".join(publishable.objections(guess.EXPERIMENT, clean))


def test_evidence_tuned_otherwise_is_of_earlier_settings(clean, monkeypatch):
    monkeypatch.setattr(guess, "RATES", {"fair": 1.0, "loaded": 1.0}, raising=False)
    assert staleness.tuned_otherwise(guess.EXPERIMENT, read(clean, Evidence).records) == ["fair", "loaded"]
    records = evidence_of().records  # With the settings of now.
    assert staleness.tuned_otherwise(guess.EXPERIMENT, records) == []
    monkeypatch.setattr(guess, "RATES", {"fair": 1.0, "loaded": 0.1})
    assert staleness.tuned_otherwise(guess.EXPERIMENT, records) == ["loaded"]


def test_only_variants_that_are_not_timed_may_end_after_ten_seeds(clean):
    found = evidence_of(seeds=range(1, 21))
    records = [record for record in found.records if record.variant == "fair" or record.seed <= 10]
    write_json(clean, structs.replace(found, records=records))
    why = "It lacks seeds of variants that are timed: loaded."
    assert publishable.objections(guess.EXPERIMENT, clean) == [why]
    assert publishable.objections(dataclasses.replace(guess.EXPERIMENT, apart=("loaded",)), clean) == []
    write_json(clean, structs.replace(found, records=records, until_decided=20))
    assert publishable.objections(guess.EXPERIMENT, clean) == []


def test_evidence_of_some_variants_is_refused(clean):
    found = read(clean, Evidence)
    fair = [record for record in found.records if record.variant == "fair"]
    write_json(clean, structs.replace(found, variants=["fair"], records=fair))
    assert publishable.objections(guess.EXPERIMENT, clean) == ["It lacks some of the variants: loaded."]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda found: found["data"].update(source="folder:/home/me"), "images are not those"),
        (lambda found: found.update(data_digest="0"), "by their digest"),
        (lambda found: found.update(model="mine.py:f 0"), "own model"),
        (lambda found: found.update(commit="HEAD"), "no commit"),
        (lambda found: found["winners"]["fair"].update(rate=7), "winners"),
        (lambda found: found["search"][0]["metrics"].update(test_accuracy=50.0), "share"),
        (lambda found: found["search"][0].update(status="failed"), "failed runs"),
        (lambda found: found["config"].update(seconds=1.0), "Its seconds are not those"),
        (lambda found: found["variants"].pop(), "lacks some of the variants"),
    ],
)
def test_unfit_sweeps_are_refused(tmp_path, change, why):
    experiment = guess.EXPERIMENT
    trials = [
        Trial(variant=variant, seed=seed, config={"rate": rate}, status="finished", cause=None, metrics=metrics)
        for variant in guess.VARIANTS
        for seed in (SEED, *FINAL_SEEDS)
        for rate in (0.1, 1.0, 10.0)
        for metrics in [guess.metrics(variant, seed, rate)]
    ]
    sweep = evidence_of(kind="tuning", command="python -m tests.toys.guess tune")
    origin = {name: getattr(sweep, name) for name in Origin.__struct_fields__}
    ran = {
        "variants": list(guess.VARIANTS),
        "winners": experiment.tuning.winners(trials),
        "search": trials,
        "curve": [],
    }
    path = tmp_path / "tuning.json"
    write_json(path, TuningSweep(**origin, **ran, worker_seconds=1.0))
    assert publishable.objections(experiment, path) == []
    change(found := read_json(path))
    write_json(path, found)
    assert why in " ".join(publishable.objections(experiment, path))


def test_newer_evidence_that_may_not_be_published_is_named(clean, tmp_path):
    newer = write(tmp_path, evidence_of(seeds=range(1, 3)), "20270101-000000")
    # Nobody means these to be published: runs for floors, and those of a reader's own model or images.
    write(tmp_path, evidence_of(budget="smoke"), "20270101-000001")
    write(tmp_path, evidence_of(model="mine.py:build"), "20270101-000002")
    own = Images(source="folder:digits", train_images=None, split_seed=None)
    write(tmp_path, evidence_of(data=own), "20270101-000003")
    broken = newer.parents[1] / "20280101-000000" / "evidence.json"
    broken.parent.mkdir()
    broken.write_text("{")
    path, passed_over = publishable.find(guess.EXPERIMENT, clean.parents[2], "evidence.json")
    assert path == clean
    assert [sentence.split()[0] for sentence in passed_over] == [str(broken), str(newer)]


def test_each_part_that_is_stale_or_missing_has_the_command_that_mends_it():
    for name in NAMES:
        lines = publish.status_of(load(name))
        for part, remedy in itertools.pairwise([*lines, ""]):
            if "stale" in part or "not measured" in part:
                command = "tune" if part.startswith("tuning") else "floors" if part.startswith("floors") else ""
                assert (
                    f"`python -m {f'lab floors {name}' if command == 'floors' else f'recipes.{name} {command}'}"
                    in remedy
                )


@pytest.mark.parametrize("logdir", [[], ["--logdir", "elsewhere"]])
def test_floors_that_were_interrupted_say_how_to_go_on(capsys, monkeypatch, logdir):
    asked = []
    monkeypatch.setattr(laboratory, "run_all", lambda names, flags: asked.append((names, flags)) or 130)
    assert laboratory.main(["floors", "sequential", *logdir]) == 130
    again = f"python -m lab floors sequential {' '.join([*logdir, '--resume'])}\n"
    assert again in capsys.readouterr().err
    assert laboratory.main(again.split()[3:]) == 130
    (_, first), (_, second) = asked
    assert second == [*first, "--resume"]


def test_a_recipe_without_floors_says_so(capsys):
    assert laboratory.main(["floors", "search"]) == 0
    assert "Without a floor" in capsys.readouterr().out


def test_publishing_from_a_folder_that_is_not_there_says_so(capsys, tmp_path, monkeypatch, results):
    monkeypatch.setattr(publish, "README", front(tmp_path))
    monkeypatch.setattr(published, "RESULTS", results)
    assert laboratory.publish(("sequential",), logdir=tmp_path / "nowhere") == 1
    assert str(tmp_path / "nowhere") in capsys.readouterr().err


@pytest.mark.parametrize("part", front_page.PARTS)
def test_a_readme_without_a_place_for_what_is_generated(part, tmp_path):
    page, (begin, end) = front(tmp_path), front_page.marks(part)
    whole = page.read_text()
    for text in (whole.replace(begin, ""), whole.replace(end, ""), whole.replace(f"{begin}\n{end}", f"{end}\n{begin}")):
        with pytest.raises(EvidenceError, match=part):
            front_page.readme(text, {})


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", "[x](http://e.example)", "a | b", "`code` *b*", "\x1b[31m"]
)
def test_text_in_evidence_is_escaped_on_the_card(hostile):
    said = f"before {hostile} after"
    machine = structs.replace(made_up.MACHINE, cpu=said, system=said, gpus=[said])
    found = evidence_of(machine=machine, command=said, versions={said: said}, table=said)
    page = card.markdown(Report(guess.EXPERIMENT, found, None))
    assert page.count("before") >= 6
    if hostile not in ("a | b", "`code` *b*"):
        assert hostile not in re.sub(r"`[^`\n]*`", "", page)
    assert "before a | b" not in page
    assert "before `code`" not in page
    assert "\x1b" not in page


def test_claims_and_answers_keep_names_as_code_and_nothing_else():
    assert pages.prose("`fit_a` is *1.5* <b>") == r"`fit_a` is \*1.5\* &lt;b&gt;"
    assert pages.prose("a|b `c|d` `") == r"a\|b `c\|d` \`"


# Floors


def floors_from(values, fails=()):
    records = [made_up.record("a", seed, metrics={"test_accuracy": value}) for seed, value in enumerate(values, 1)]
    return floors.floors(records, "test_accuracy", fails, 0.1, 4000)["a"]


def test_a_floor_is_five_deviations_below_the_mean_and_a_ceiling_as_many_above():
    values = [0.40, 0.41, 0.42, 0.39, 0.38]
    assert floors_from(values).floor == pytest.approx(0.40 - 5 * 0.0158113883)
    found = floors_from(values, ["a"])
    assert (found.floor, found.ceiling) == (None, pytest.approx(0.40 + 5 * 0.0158113883))
    assert floors_from([0.1] * 5, ["a"]).ceiling == pytest.approx(0.1 + 5 * 0.0047434165)


def test_a_floor_is_never_below_one_and_a_half_times_chance():
    values = [0.30, 0.34, 0.38, 0.42, 0.26]  # A deviation of 0.063: five of them below the mean lies 0.024.
    assert floors_from(values).floor == pytest.approx(0.15)
    with pytest.raises(EvidenceError, match="A floor of a"):
        floors_from([0.1, 0.3, 0.5, 0.2])


def test_floors_are_stored_with_what_they_come_from(tmp_path):
    path = write(tmp_path, evidence_of(budget="smoke"))
    floors.write_floors(guess.EXPERIMENT, path, tmp_path)
    found = published.floors_of(guess.EXPERIMENT, tmp_path)
    assert {name: floor.values for name, floor in found.items()} == {
        name: [guess.metrics(name, seed)["test_accuracy"] for seed in range(1, 11)] for name in guess.VARIANTS
    }
    for fields in ({"budget": "quick"}, {"budget": "smoke", "seeds": range(1, 10)}):
        with pytest.raises(EvidenceError, match="gives no floors"):
            floors.write_floors(guess.EXPERIMENT, write(tmp_path, evidence_of(**fields)), tmp_path)


def test_the_list_shows_verdicts_and_what_is_stale():
    from rich.console import Console

    console = Console(width=200, file=io.StringIO())
    console.print(listing(NAMES))
    text = console.file.getvalue()
    assert all(name in text for name in NAMES)
    assert ("with an earlier version" in text) == any(Published.read(load(n)).stale for n in PUBLISHED)


@pytest.mark.parametrize(("seeds", "commit", "said"), [(10, "+changes", 1), (10, "", 0), (3, "+changes", 0)])
def test_a_long_measurement_of_what_is_not_committed_says_so_before_it_begins(monkeypatch, seeds, commit, said):
    monkeypatch.setattr(measurement, "run_jobs", lambda *_: None)
    invocation = SimpleNamespace(
        experiment=guess.EXPERIMENT,
        settings=SimpleNamespace(seeds=tuple(range(seeds)), data=None, model="", backend="local"),
        config=None,
        variants=(),
        plan=lambda *_: [],
        header=SimpleNamespace(commit="a" * 40 + commit),
    )
    sentences: list[str] = []
    measurement.run_comparison(invocation, sentences.append, None)
    assert len(sentences) == said
