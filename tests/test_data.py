"""The bundled subset, its splits, what is kept of it, and bad input."""

import dataclasses
import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image

from pipelines import cifar10, image_cache, sources, splits
from pipelines.errors import DataError, RequestError
from pipelines.sources import Request, Split


@pytest.fixture(scope="module")
def data():
    return sources.load()


def test_sizes_balance_and_types(data):
    for part, per_class in ((data.train, 800), (data.validation, 200), (data.test, 400)):
        assert part.images.shape == (10 * per_class, 32, 32, 3)
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int32
        assert (np.bincount(part.labels) == per_class).all()
    assert data.shape == (32, 32, 3)
    assert data.classes == cifar10.CLASS_NAMES


def test_parts_are_disjoint(data):
    ids = [set(part.ids) for part in (data.train, data.validation, data.test)]
    assert len(set.union(*ids)) == sum(map(len, ids)) == 14_000
    pictures = [{hashlib.sha256(image).digest() for image in part.images} for part in (data.train, data.test)]
    assert not pictures[0] & pictures[1]


def test_the_split_is_the_same_on_every_machine(data):
    """Digests of the ids, recorded: a version or platform that splits otherwise would make evidence incomparable."""
    digests = [hashlib.sha256(" ".join(part.ids).encode()).hexdigest()[:12] for part in (data.train, data.validation)]
    assert digests == ["d0d22bedf2d9", "1cd0c5bffe51"]
    assert data.digest == "d8817bbd963782f8"
    other = sources.load(Request(split_seed=1))
    assert set(other.validation.ids) != set(data.validation.ids)


def test_smaller_training_parts_nest_and_leave_the_rest_alone(data):
    small, smaller = (sources.load(Request(train_images=n)) for n in (2000, 1000))
    assert set(smaller.train.ids) < set(small.train.ids) < set(data.train.ids)
    assert (np.bincount(small.train.labels) == 200).all()
    assert (small.validation.ids == data.validation.ids).all()
    assert (small.test.ids == data.test.ids).all()


def test_a_split_is_stratified_disjoint_and_of_the_share_asked_for():
    labels = np.repeat([0, 1, 2], [50, 30, 10]).astype(np.int32)
    pool = Split(np.zeros((90, 2, 2, 3), np.uint8), labels, np.array([f"{i:03}" for i in range(90)]))
    rest, out = splits.split(pool, 0.2, seed=0)
    assert np.bincount(out.labels).tolist() == [10, 6, 2]
    assert sorted([*rest.ids, *out.ids]) == sorted(pool.ids)


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (Request(train_images=8010), "multiple of 10 from 10 to 8,000"),
        (Request(train_images=15), "15 training images"),
        (Request(train_images=0), "0 training images"),
        (Request("imagenet"), "'imagenet'"),
        (Request("folder:"), "'folder:'"),
        (Request(image_size=64), "'subset' are 32 × 32"),
        (Request("folder:x", image_size=4), "not 4"),
    ],
)
def test_impossible_requests(request_, names):
    with pytest.raises(RequestError, match=names):
        sources.load(request_)


def test_while_a_run_is_under_way_the_test_set_is_closed(data):
    with sources.test_set(closed=True), pytest.raises(RuntimeError, match=r"is read by `run\.scores` alone"):
        _ = data.test
    assert len(data.test) == 4000


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The subset in a folder of the test's own. Decoded images are those of other tests: they have the same key."""
    folder = tmp_path / "subset"
    shutil.copytree(cifar10.SUBSET_FOLDER, folder)
    monkeypatch.setattr(cifar10, "SUBSET_FOLDER", folder)
    return folder


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def sums_made_anew(path):
    """A file is altered and its sum in the list as well: only a digest of the list itself tells."""
    flip_a_byte(path)
    listed = path.parent / "SHA256SUMS"
    lines = [line.split("  ", 1)[1] for line in listed.read_text().splitlines()]
    sums = {name: hashlib.sha256((path.parent / name).read_bytes()).hexdigest() for name in lines}
    listed.write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        flip_a_byte,
        lambda path: path.write_bytes(b""),
        lambda path: (path.parent / "SHA256SUMS").unlink(),
        lambda path: (path.parent / "SHA256SUMS").write_text("nonsense"),
        lambda path: (path.parent / "SHA256SUMS").write_text(""),
        sums_made_anew,
    ],
    ids=["missing", "truncated", "one byte flipped", "empty", "no sums", "broken sums", "empty sums", "new sums"],
)
def test_damaged_data_is_noticed_at_every_load(copy, damage):
    sources.load()
    damage(copy / "cifar10_subset-test.tfrecord-00000-of-00001")
    for check in (sources.load, lambda: sources.verify(Request())):
        with pytest.raises(DataError) as error:
            check()
        assert str(copy) in str(error.value)
        assert "pipelines.subset" in str(error.value)


def of_the_list(text):
    return lambda path: (path.parent / "sums.json").write_text(text)


DAMAGE = [
    flip_a_byte,
    lambda path: path.write_bytes(b"x"),
    lambda path: path.write_bytes(b""),
    lambda path: path.unlink(),
]
DAMAGE += [of_the_list(text) for text in ("null", "3", "{}", "[]", '["a"]', "{")]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_what_is_kept_means_making_it_again(monkeypatch, tmp_path, damage):
    monkeypatch.setenv("KERAS_RECIPES_CACHE", str(tmp_path))
    made = []

    def make() -> image_cache.Arrays:
        made.append(len(made))
        return {"train_images": np.arange(6000, dtype="uint8").reshape(2, 3000), "classes": np.array(["cat", "dog"])}

    whole = make()
    for _ in range(2):
        image_cache.get("animals", make)
    assert made == [0, 1]  # The second time it was read.
    (path,) = tmp_path.rglob("train_images.npy")
    damage(path)
    for _ in range(2):
        found, _ = image_cache.get("animals", make)
        assert found.keys() == whole.keys()
        assert all(np.array_equal(found[name], whole[name]) for name in whole)
    assert made == [0, 1, 2]


def test_where_nothing_can_be_kept_images_are_made_each_time(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_RECIPES_CACHE", str(tmp_path / "file" / "below"))
    made = {"classes": np.array(["cat", "dog"])}
    assert image_cache.get("animals", lambda: made)[0] is made


def test_what_does_not_fit_in_memory_stays_on_disk(monkeypatch, data):
    monkeypatch.setattr(sources, "IN_MEMORY", 1_000_000)
    found = sources.verify(Request(train_images=1000))
    assert isinstance(found.train.images, sources.OnDisk)
    assert isinstance(found.validation.images, sources.OnDisk)
    smaller = found.train.take(np.arange(5))
    order = np.isin(data.train.ids, smaller.ids)
    assert np.array_equal(smaller.images[:], data.train.images[order])


def test_each_seed_has_a_split_of_its_own_unless_one_is_asked_for(tmp_path):
    """What a run of a seed is given, and that all variants of a seed are given the same."""
    from lab.core.perform import perform
    from lab.execute import job
    from tests.toys import guess

    def ids(seed, request):
        seen = []
        experiment = dataclasses.replace(
            guess.EXPERIMENT, train=lambda variant, config, run: seen.append(run.data) or {}
        )
        one = job.Job("tests.toys.guess", ("fair",), seed, {}, request, str(tmp_path))
        run = job._new_run(one, "fair", None, 0.0)
        perform(experiment, None, None, {"fair": run}, seed)
        data = sources.load(seen[0])
        return frozenset(data.validation.ids), frozenset(data.train.ids)

    own = [ids(seed, Request()) for seed in (1, 1, 2)]
    assert own[0] == own[1] != own[2]
    assert not own[0][0] & own[0][1]
    assert not own[2][0] & own[2][1]
    assert ids(1, Request(split_seed=7)) == ids(2, Request(split_seed=7))
    assert sources.load().digest == sources.load(Request(split_seed=3)).digest  # Of the images, whatever the split.


def test_the_test_part_of_ones_own_images_is_the_same_for_all_seeds(tmp_path):
    """What a saved model had not seen, a reader can load without knowing its seed."""
    for label, color in (("dark", 40), ("light", 200)):
        (tmp_path / label).mkdir()
        for number in range(30):
            Image.new("L", (4, 4), color + number).save(tmp_path / label / f"{number}.png")
    base, *others = [sources.load(Request(f"folder:{tmp_path}", split_seed=seed)) for seed in (None, 1, 2)]
    for other in others:
        assert other.test.ids.tolist() == base.test.ids.tolist()
        assert set(other.validation.ids) != set(base.validation.ids)
        assert not set(other.test.ids) & {*other.validation.ids, *other.train.ids}
