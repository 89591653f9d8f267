"""What can be mended is mended to the very bytes; what cannot is said; a killed repair loses nothing."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gen.data.index import read_index
from gen.data.manifest import MANIFEST, read_manifest
from gen.data.sample import Collection, Listed, Sample, Source, Split
from gen.errors import DataError
from gen.files import sha256
from gen.shards import repair as repairing
from gen.shards.adopt import AdoptionPlan, adopt_tars
from gen.shards.repair import Mending, outlook, repair
from gen.shards.verify import verify
from gen.shards.workbench import Workbench
from gen.shards.write import Format, Plan, write_shards
from tests.data.tiny import tiny, tree
from tests.shards.test_damage import DAMAGES, KINDS, MIDDLE, damage

FORM = Format(samples=5)
INDEX = "shard-000001.idx.npz"


@pytest.fixture
def raw() -> Collection:
    return tiny()


@pytest.fixture
def root(raw: Collection, tmp_path: Path) -> Path:
    """Three shards of five samples."""
    write_shards(raw, tmp_path / "x", form=FORM)
    return tmp_path / "x"


def cut(size: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:size]


def flip(position: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def broken(root: Path, change: Callable[[bytes], bytes], name: str = f"train/{MIDDLE}") -> Path:
    path = root / name
    path.write_bytes(change(path.read_bytes()))
    return path


def swap(a: Path, b: Path) -> None:
    a.rename(a.with_name("c"))
    b.rename(a)
    a.with_name("c").rename(b)


def mended(root: Path, raw: Collection) -> list[Mending]:
    return repair(root, lambda: Plan(raw, form=FORM))


def gone() -> Plan:
    raise DataError("the folder is not there")


def left(root: Path) -> list[str]:
    """What a repair leaves beside the data set."""
    return sorted(path.name for path in root.parent.iterdir() if path.name.startswith("."))


# ---- every damage ---------------------------------------------------------------------------------------------------


def test_sound_shards_are_left_alone(root: Path) -> None:
    before = tree(root)
    assert repair(root, gone) == outlook(root) == []
    assert tree(root) == before
    assert left(root) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_tar_is_written_again(tmp_path: Path, name: str, kind: str) -> None:
    raw, form = KINDS[kind][0](0), Format(samples=5, encode=KINDS[kind][1])
    root = tmp_path / "x"
    write_shards(raw, root, form=form)
    before = tree(root)
    damage(root, DAMAGES[name][0])
    (found,) = repair(root, lambda: Plan(raw, form=form))
    assert (found.damage.file.name, found.action, found.problem) == (MIDDLE, "write it again from the source", "")
    assert tree(root) == before
    assert left(root) == []


OTHERS: dict[str, Callable[[Path], object]] = {
    "a missing tar": lambda root: (root / "train" / MIDDLE).unlink(),
    "a missing split": lambda root: shutil.rmtree(root / "train"),
    "a folder in the place of a tar": lambda root: (
        (root / "train" / MIDDLE).unlink(),
        (root / "train" / MIDDLE).mkdir(),
    ),
    "an index and a tar": lambda root: ((root / "train" / INDEX).unlink(), broken(root, cut(100))),
    "every tar": lambda root: [path.write_bytes(b"") for path in (root / "train").glob("*.tar")],
    "all but the manifest": lambda root: [path.write_bytes(b"x") for path in (root / "train").iterdir()],
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_source_gives_again(root: Path, raw: Collection, name: str) -> None:
    before = tree(root)
    OTHERS[name](root)
    assert mended(root, raw)
    assert tree(root) == before
    assert verify(root) == []


@pytest.mark.parametrize("change", [None, cut(0), cut(700), flip(400), lambda content: content + b"x"])
def test_an_index_is_made_from_its_tar_alone(root: Path, change) -> None:
    before, path = tree(root), root / "train" / INDEX
    content = path.read_bytes()
    path.unlink() if change is None else path.write_bytes(change(content))
    (found,) = repair(root, gone)
    assert (found.action, found.problem) == ("make it anew from its tar", "")
    assert tree(root) == before


@pytest.mark.parametrize("together", [False, True])
def test_swapped_shards_change_back_without_the_source(root: Path, together: bool) -> None:
    before = tree(root)
    for suffix in ("tar", "idx.npz") if together else ("tar",):
        swap(root / "train" / f"shard-000001.{suffix}", root / "train" / f"shard-000002.{suffix}")
    assert [each.problem for each in repair(root, gone)] == [""] * (4 if together else 2)
    assert tree(root) == before


def test_a_tar_under_another_name_is_found_without_the_source(root: Path) -> None:
    before, folder = tree(root), root / "train"
    (folder / MIDDLE).rename(folder / f"{MIDDLE}.bak")
    assert {each.damage.kind: each.problem for each in repair(root, gone)} == {"missing": "", "extra": ""}
    assert tree(root) == before


def test_what_nobody_listed_is_moved_aside_and_never_lost(root: Path) -> None:
    before, folder = tree(root), root / "train"
    for content in (b"first", b"second"):
        (folder / "notes.txt").write_bytes(content)
        shutil.copytree(folder, root / "train2", dirs_exist_ok=True)
        found = repair(root, gone)
        assert {each.damage.file.name for each in found} == {"notes.txt", "train2"}
        assert all(".x.removed" in each.action and not each.problem for each in found)
    assert tree(root) == before
    removed = root.with_name(".x.removed")
    assert (removed / "train/notes.txt").read_bytes() == b"first"
    assert (removed / "train/notes.txt.2").read_bytes() == b"second"
    assert (removed / "train2.2/notes.txt").read_bytes() == b"second"


def test_links_to_a_store_are_replaced_and_not_followed(root: Path, raw: Collection) -> None:
    """DVC may link a file to its cache, from which other data sets come."""
    before, path, cached = tree(root), root / "train" / MIDDLE, root.parent / "cached"
    path.rename(cached)
    damaged = cut(3000)(cached.read_bytes())
    cached.write_bytes(damaged)
    path.symlink_to(cached)
    mended(root, raw)
    assert tree(root) == before
    assert not path.is_symlink()
    assert cached.read_bytes() == damaged


# ---- the manifest ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [None, cut(0), cut(500), lambda c: c.replace(b'"samples": 15', b'"samples": 16')])
def test_a_damaged_manifest_is_made_anew(root: Path, raw: Collection, change) -> None:
    before, path = tree(root), root / MANIFEST
    damaged = None if change is None else change(path.read_bytes())
    path.unlink() if damaged is None else path.write_bytes(damaged)
    (found,) = mended(root, raw)
    assert (found.action, found.problem) == ("make it anew, if the tars are what the source gives", "")
    assert tree(root) == before
    if damaged is not None:
        assert (root.with_name(".x.removed") / MANIFEST).read_bytes() == damaged


def test_the_digest_in_a_damaged_manifest_proves_the_rest(root: Path, raw: Collection) -> None:
    before, path = tree(root), root / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"samples": 15', b'"samples": 16'))
    broken(root, cut(100))
    (root / "train" / INDEX).unlink()
    (root / "train" / "extra").touch()
    assert len(mended(root, raw)) == 4
    assert tree(root) == before


def test_without_a_manifest_a_damaged_tar_proves_nothing(root: Path, raw: Collection) -> None:
    (root / MANIFEST).unlink()
    broken(root, flip(2000))
    before = tree(root)
    (found,) = mended(root, raw)
    assert found.damage.file == root / MANIFEST
    assert f"other bytes than 1 of the tars hold (train/{MIDDLE}, ...)" in found.problem
    assert "gen data shard" in found.problem
    assert tree(root) == before


def test_a_stale_manifest_under_shards_of_the_source(root: Path, tmp_path: Path) -> None:
    """The tars are what the source gives; it is the manifest that is of another writing."""
    other = tiny(seed=1)
    write_shards(other, tmp_path / "y", form=FORM)
    before = tree(tmp_path / "y")
    shutil.copy(root / MANIFEST, tmp_path / "y" / MANIFEST)
    assert "stale" in {each.damage.kind for each in mended(tmp_path / "y", other)}
    assert tree(tmp_path / "y") == before
    assert tree(tmp_path / ".y.removed")[MANIFEST] == (root / MANIFEST).read_bytes()


def test_stale_shards_under_the_manifest_of_the_source(root: Path, raw: Collection, tmp_path: Path) -> None:
    write_shards(tiny(seed=1), tmp_path / "y", form=FORM)
    shutil.copy(root / MANIFEST, tmp_path / "y" / MANIFEST)
    assert "stale" in {each.damage.kind for each in mended(tmp_path / "y", raw)}
    assert tree(tmp_path / "y") == tree(root)


@pytest.mark.parametrize("field", ["mean", "std", "class_counts", "pixels_sha256"])
def test_statistics_of_other_images(root: Path, raw: Collection, field: str) -> None:
    before, manifest = tree(root), read_manifest(root)
    wrong = {"mean": (0.5,), "std": (0.5,), "class_counts": (5, 5, 5), "pixels_sha256": "0" * 64}[field]
    splits = {"train": dataclasses.replace(manifest.splits["train"], **{field: wrong})}
    (root / MANIFEST).write_text(dataclasses.replace(manifest, splits=splits).dump())
    assert [(each.damage.kind, each.problem) for each in mended(root, raw)] == [("statistics", "")]
    assert tree(root) == before


def test_a_manifest_that_vouches_for_a_wrong_index(root: Path, raw: Collection) -> None:
    before = tree(root)
    index = read_index(root / "train" / INDEX)[0]
    assert index.label is not None
    content = dataclasses.replace(index, label=(index.label + 1) % 3).dump()
    (root / "train" / INDEX).write_bytes(content)
    manifest = read_manifest(root)
    split = manifest.splits["train"]
    info = dataclasses.replace(split.shards[1].index, bytes=len(content), sha256=sha256(root / "train" / INDEX))
    forged = (split.shards[0], dataclasses.replace(split.shards[1], index=info), split.shards[2])
    splits = {"train": dataclasses.replace(split, shards=forged)}
    (root / MANIFEST).write_text(dataclasses.replace(manifest, splits=splits).dump())
    assert [each.kind for each in verify(root)] == ["index"]
    assert all(not each.problem for each in mended(root, raw))
    assert tree(root) == before


# ---- what cannot be mended ------------------------------------------------------------------------------------------


def test_without_the_source_the_rest_is_mended(root: Path) -> None:
    (root / "train" / "shard-000000.idx.npz").unlink()
    (root / "train" / "extra").touch()
    tar = broken(root, cut(3000))
    before = tar.read_bytes()
    found = {each.damage.file.name: each.problem for each in repair(root, gone)}
    assert found == {
        "shard-000000.idx.npz": "",
        "extra": "",
        MIDDLE: "the source cannot give it: the folder is not there",
    }
    assert [each.file for each in verify(root)] == [tar]
    assert tar.read_bytes() == before
    assert left(root) == [".x.removed"]


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (lambda: Plan(tiny(seed=1), form=FORM), "the source now gives other bytes (sha256 "),
        (lambda: Plan(tiny(), form=Format(samples=5, encode="png")), "params.yaml, the code or Pillow changed since"),
        (lambda: Plan(tiny(), form=Format(samples=15)), "the source, as params.yaml describes it, gives no such file"),
        (gone, "the source cannot give it: the folder is not there"),
    ],
)
def test_a_source_that_has_changed_is_not_believed(root: Path, plan, reason: str) -> None:
    broken(root, cut(3000))
    before = tree(root)
    (found,) = repair(root, plan)
    assert reason in found.problem
    assert tree(root) == before
    assert left(root) == []


def test_a_sample_that_the_source_cannot_read_any_more(root: Path, raw: Collection) -> None:
    split = raw.splits["train"]
    changed = Collection(raw.source, {"train": Split(Listed(range(15), _broken_at_7), split.labels)}, raw.classes)
    broken(root, cut(3000))
    (found,) = repair(root, lambda: Plan(changed, form=FORM))
    assert "other bytes" in found.problem
    assert len(verify(root)) == 1


def _broken_at_7(row: int) -> Sample:
    if row == 7:
        raise DataError("row 7: cannot be decoded. Replace it.")
    return tiny().splits["train"].samples[row]


def test_there_must_be_something(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there, so there is nothing to repair"):
        repair(tmp_path / "none", gone)


@pytest.mark.parametrize(
    ("number", "message"), [(28, "the disk is full"), (5, "could not be repaired: .Errno 5. what")]
)
def test_a_failing_disk_changes_nothing(
    root: Path, raw: Collection, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, "what")

    broken(root, cut(3000))
    before = tree(root)
    monkeypatch.setattr("gen.shards.shard.fsync", full)
    with pytest.raises(DataError, match=message):
        mended(root, raw)
    assert tree(root) == before


# ---- interruptions --------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Ends the process at the n-th of the operations that change files."""
    count = {"left": 10**9}

    def counted(function: Callable) -> Callable:
        def step(*args, **options):
            count["left"] -= 1
            if count["left"] < 0:
                raise Killed
            return function(*args, **options)

        return step

    for target, name in ((Path, "replace"), (Path, "rename"), (shutil, "copyfile"), (shutil, "rmtree")):
        monkeypatch.setattr(target, name, counted(getattr(target, name)))

    def after(number: int) -> None:
        count["left"] = number

    return after


def test_nothing_is_lost_wherever_a_repair_is_killed(root: Path, steps: Callable[[int], None], tmp_path: Path) -> None:
    """Swapped shards, a missing index, a file too many and no source: every byte that is needed exists once."""
    good = tree(root)
    swap(root / "train" / MIDDLE, root / "train" / "shard-000002.tar")
    (root / "train" / INDEX).unlink()
    (root / "train" / "notes.txt").write_bytes(b"mine")
    shutil.copytree(root, tmp_path / "damaged")
    damaged = tree(root)
    for number in range(1000):
        for name in ("x", ".x.repair", ".x.removed"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        shutil.copytree(tmp_path / "damaged", root)
        steps(number)
        try:
            repair(root, gone)
            break
        except Killed:
            steps(10**9)
        for name, content in tree(root).items():
            assert content in (damaged.get(name), good.get(name)), (number, name)
        assert [each.problem for each in repair(root, gone) if each.problem] == [], number
        assert tree(root) == good, number
        assert (tmp_path / ".x.removed/train/notes.txt").read_bytes() == b"mine", number
        assert left(root) == [".x.removed"]
    assert number > 10


def test_a_manifest_is_never_gone(root: Path, raw: Collection, steps: Callable[[int], None]) -> None:
    good, path = tree(root), root / MANIFEST
    damaged = path.read_bytes().replace(b'"samples": 15', b'"samples": 16')
    for number in range(1000):
        path.write_bytes(damaged)
        broken(root, cut(100))
        steps(number)
        try:
            mended(root, raw)
            break
        except Killed:
            steps(10**9)
        assert path.read_bytes() in (damaged, good[MANIFEST])
        assert all(not each.problem for each in mended(root, raw)), number
        assert tree(root) == good, number
    assert number > 5
    assert tree(root) == good


# ---- somebody else's tars, outlooks, helpers ------------------------------------------------------------------------


def test_tars_that_were_adopted(root: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for path in (root / "train").glob("*.tar"):
        shutil.copy(path, theirs)
    places = {"train": [str(path) for path in sorted(theirs.iterdir())]}
    source, classes = Source("theirs", "a folder"), ("a", "b", "c")
    adopt_tars(source, places, tmp_path / "y", classes=classes)
    before = tree(tmp_path / "y")

    def plan() -> AdoptionPlan:
        return AdoptionPlan(source, places, classes, (), "fail")

    broken(tmp_path / "y", flip(2000))
    (tmp_path / "y" / "train" / "shard-000000.idx.npz").unlink()
    (tmp_path / "y" / MANIFEST).write_bytes(before[MANIFEST].replace(b'"samples": 15', b'"samples": 16'))
    assert all(not each.problem for each in repair(tmp_path / "y", plan))
    assert tree(tmp_path / "y") == before
    (theirs / MIDDLE).unlink()
    broken(tmp_path / "y", flip(2000))
    (found,) = repair(tmp_path / "y", plan)
    assert f"{MIDDLE}: is not there" in found.problem


def test_an_outlook_changes_nothing(root: Path) -> None:
    (root / "train" / INDEX).unlink()
    (root / "train" / "shard-000000.idx.npz").unlink()
    (root / "train" / "extra").touch()
    broken(root, cut(100))
    before = tree(root)
    assert {each.damage.file.name: each.action for each in outlook(root)} == {
        INDEX: "write it again from the source",
        "shard-000000.idx.npz": "make it anew from its tar",
        "extra": f"move it to {root.with_name('.x.removed')}",
        MIDDLE: "write it again from the source",
    }
    assert tree(root) == before
    assert left(root) == []


def test_the_source_is_opened_only_for_what_needs_it_and_once(root: Path, raw: Collection) -> None:
    opened = []

    def plan() -> Plan:
        opened.append(1)
        return Plan(raw, form=FORM)

    (root / "train" / INDEX).unlink()
    repair(root, plan)
    assert not opened
    for path in (root / "train").glob("*.tar"):
        path.unlink()
    repair(root, plan)
    assert len(opened) == 1


def test_progress_is_told(root: Path, raw: Collection) -> None:
    told: dict[str, list[tuple[int, int]]] = {}

    @repairing.contextmanager
    def watch(what: str, unit: str):
        yield lambda done, total: told.setdefault(f"{what} {unit}", []).append((done, total))

    (root / "train" / MIDDLE).unlink()
    repair(root, lambda: Plan(raw, form=FORM), watch=watch)
    assert told == {"check samples": [(5, 15), (10, 15), (15, 15)] * 2, "write shards": [(1, 1)]}


@pytest.mark.parametrize("moved", [True, False])
def test_a_damaged_file_on_the_bench_is_not_used(root: Path, moved: bool) -> None:
    """A crash of the machine may leave a file under its right name with other bytes."""
    good, info = tree(root), read_manifest(root).splits["train"].shards[1].tar
    (root / "train" / MIDDLE).rename(root / "train" / "moved" if moved else root.parent / "lost")
    Workbench(root).scratch()
    (root.with_name(".x.repair") / info.sha256).write_bytes(bytes(info.bytes))
    assert [bool(each.problem) for each in repair(root, gone)] == ([False, False] if moved else [True])
    assert tree(root).get(f"train/{MIDDLE}") == (good[f"train/{MIDDLE}"] if moved else None)
