"""``gen data``: pull, shard, verify, inspect, ls and repair, on a tiny project in this process."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from gen.data.manifest import read_manifest
from gen.data.reader import open_split
from gen.data.sample import Arrays, in_memory
from gen.shards.summary import draw, mean_images, summarize, within_reach
from gen.shards.verify import verify
from gen.shards.write import Format, write_shards
from gen.sources.catalogue import SOURCES
from pipelines import cli
from pipelines.data import drawing, pictures
from tests.data.tiny import SOURCE, tiny, tree
from tests.remote.servers import http_server

SETS: dict[str, Any] = {
    "pets": {
        "source": "captioned",
        "path": "photos",
        "options": {"label": "kind", "attributes": ["age"]},
        "splits": {"test": 4},
        "shards": {"samples": 6, "encode": "png"},
        "licence": "all theirs",
        "damaged": "quarantine(0.1)",
    },
    "empty": {"source": "folder", "path": "nothing"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a data set of 24 pictures, one of which cannot be read: pulled and sharded."""
    root = tmp_path_factory.mktemp("made") / "project"
    (root / "photos").mkdir(parents=True)
    rng, lines = np.random.default_rng(0), []
    for k in range(24):
        Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8)).save(root / "photos" / f"{k:02}.png")
        row = {"file_name": f"{k:02}.png", "kind": ("cat", "dog")[k % 2], "text": f"no. {k}, très joli", "age": k}
        lines.append(json.dumps(row))
    (root / "photos" / "07.png").write_bytes(b"\x89PNG nothing")
    (root / "photos" / "metadata.jsonl").write_text("\n".join(lines))
    with (root / "params.yaml").open("w") as file:
        YAML().dump({"datasets": SETS}, file)
    for words in (["pull", "pets"], ["shard", "pets", "--writers", "1"]):
        assert cli.main(["--root", str(root), "data", *words]) == 0
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "project"))


@pytest.fixture
def gen(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(root: Path, *words: str) -> tuple[int, str, str]:
        """``gen data ...``: exit code, stdout, stderr."""
        capsys.readouterr()
        code = cli.main(["--root", str(root), "data", *words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def facts(gen) -> Callable[..., Any]:
    def run(root: Path, *words: str, expect: int = 0) -> Any:
        """The JSON of ``gen data ... --json``, which has stdout for itself."""
        code, out, err = gen(root, *words, "--json")
        assert code == expect, err
        return json.loads(out)

    return run


def shards(root: Path) -> Path:
    return root / "data" / "shards" / "pets"


def break_tar(root: Path) -> Path:
    path = shards(root) / "train" / "shard-000001.tar"
    path.write_bytes(path.read_bytes()[:3000])
    return path


# ---- the command itself ---------------------------------------------------------------------------------------------


def test_without_a_command_it_prints_its_help(tmp_path: Path, gen) -> None:
    code, out, _ = gen(tmp_path)
    assert code == 0
    assert all(name in out for name in ("pull", "shard", "verify", "inspect", "ls", "repair", "exit codes:"))


@pytest.mark.parametrize("command", ["pull", "shard", "verify", "inspect", "ls", "repair"])
def test_a_wrong_name_gets_the_nearest(made: Path, gen, command: str) -> None:
    code, out, err = gen(made, command, "pet")
    assert (code, out) == (2, "")
    assert "Did you mean 'pets'?" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shard", "pets", "--writers", "0"], "--writers: found 0; it must be at least 1"),
        (["ls", "pets", "--limit", "0"], "--limit: found 0; it must be at least 1"),
        (["ls", "pets", "--split", "tset"], "no split 'tset'. Splits: train, test. Did you mean 'test'?"),
        (["ls", "pets", "--shard", "9"], "--shard: found 9; "),
        (["ls", "pets", "--save", "x"], "--save and --member: say which sample with --key"),
        (["ls", "pets", "--key", "0000000"], "holds no sample '0000000', but 19 others, 00000000 to 00000019."),
        (["inspect", "pets", "--split", "x"], "no split 'x'"),
    ],
)
def test_what_is_impossible_is_said(made: Path, gen, words: list[str], message: str) -> None:
    code, out, err = gen(made, *words)
    assert (code, out) == (2, "")
    assert message in err


# ---- pull and shard -------------------------------------------------------------------------------------------------


def test_sources_are_listed_and_shown(tmp_path: Path, gen, facts) -> None:
    listed = facts(tmp_path, "sources")
    assert [each["source"] for each in listed] == list(SOURCES)
    assert all(each["summary"].endswith(".") and each["summary"] != "." for each in listed)
    shown = facts(tmp_path, "sources", "named")
    assert shown["path"] == "required" and shown["options"]["pattern"] == "required"
    assert facts(tmp_path, "sources", "moving_digits")["path"] == "optional"
    code, _, error = gen(tmp_path, "sources", "nmaed")
    assert code == 2 and "Did you mean 'named'" in error


def test_pull_and_shard_do_what_the_stages_do(project: Path, facts) -> None:
    before = tree(shards(project))
    pulled = facts(project, "pull", "pets")
    assert pulled == {
        "name": "pets",
        "receipt": str(project / "data/raw/pets/receipt.json"),
        "counts": {"train": 24},
        "files": 25,
        "bytes": sum(path.stat().st_size for path in (project / "photos").iterdir()),
    }
    written = facts(project, "shard", "pets", "--writers", "1")
    assert tree(shards(project)) == before
    manifest = read_manifest(shards(project))
    assert written == {
        "name": "pets",
        "root": str(shards(project)),
        "digest": manifest.digest,
        "samples": {"train": 19, "test": 4},
        "quarantined": {"train": 1, "test": 0},
        "shards": 5,
        "bytes": sum(path.stat().st_size for path in shards(project).rglob("*.tar")),
    }


def test_pull_of_what_is_not_there(made: Path, gen) -> None:
    code, _, err = gen(made, "pull", "empty")
    assert code == 3
    assert "nothing: is not there" in err


# ---- verify ---------------------------------------------------------------------------------------------------------


def test_verify(project: Path, gen, facts) -> None:
    assert facts(project, "verify") == {
        "sound": True,
        "fast": False,
        "datasets": [{"name": "pets", "root": str(shards(project)), "sound": True, "damages": []}],
    }
    assert gen(project, "verify", "--fast")[:2] == (0, "pets: looks sound\n")
    path = break_tar(project)
    (damage,) = verify(shards(project))
    for words in ([], ["pets"], ["pets", "--fast"], [str(shards(project))]):
        found = facts(project, "verify", *words, expect=3)
        assert found["sound"] is False
        assert found["datasets"][0]["damages"] == [
            {"kind": "size", "file": str(path), "message": damage.message, "lost": list(damage.lost)}
        ]
    code, out, _ = gen(project, "verify")
    assert code == 3
    assert f"pets: size: {path}: was cut" in out
    assert f"lost: {', '.join(damage.lost)}" in out


def test_verify_checks_every_data_set_that_has_shards(project: Path, facts) -> None:
    write_shards(tiny(), project / "data/shards/other")
    (project / "data/shards/.pets.removed").mkdir()
    (project / "data/shards/other/manifest.json").unlink()
    found = facts(project, "verify", expect=3)["datasets"]
    assert [(each["name"], each["sound"]) for each in found] == [("other", False), ("pets", True)]


def test_verify_without_any_shards(tmp_path: Path, gen) -> None:
    code, _, err = gen(tmp_path, "verify")
    assert code == 3
    assert "there are no shards yet. `gen data shard NAME`" in err


# ---- inspect --------------------------------------------------------------------------------------------------------


def test_inspect(made: Path, tmp_path: Path, gen, facts) -> None:
    found = facts(made, "inspect", "pets", "--out", str(tmp_path / "out"))
    assert set(found) == {
        *("name", "root", "source", "digest", "fields", "preparation", "damaged", "splits", "unreadable", "pictures")
    }
    assert found["source"]["licence"] == "all theirs"
    assert found["fields"]["image"] == {"shape": [8, 10, 3], "extensions": ["image.png"]}
    train = found["splits"]["train"]
    assert set(train) == {
        *("samples", "shards", "bytes", "class_counts", "mean", "std", "attributes", "caption_bytes", "quarantined")
    }
    assert train["samples"] + found["splits"]["test"]["samples"] == 23
    assert sum(train["class_counts"].values()) == 19
    assert 0 <= train["attributes"]["age"]["least"] < train["attributes"]["age"]["greatest"] <= 23
    assert train["caption_bytes"]["least"] == len("no. 0, très joli".encode())
    (bad,) = train["quarantined"]
    assert "07.png: cannot be decoded as PNG" in bad["reason"]
    for path in found["pictures"].values():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.width >= 640
    code, out, _ = gen(made, "inspect", str(shards(made)), "--split", "test", "--out", str(tmp_path / "again"))
    assert code == 0
    assert all(text in out for text in ("class cat", "age", "caption bytes", "left out when the shards were written"))
    assert (tmp_path / "again" / "samples.png").read_bytes() != (tmp_path / "out" / "samples.png").read_bytes()


def test_equal_seeds_give_equal_pictures(made: Path, tmp_path: Path, gen) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert gen(made, "inspect", "pets", "--seed", seed, "--out", str(tmp_path / name))[0] == 0
    a, b, c = ((tmp_path / name / "samples.png").read_bytes() for name in "abc")
    assert a == b != c


def test_inspect_of_damaged_shards(project: Path, tmp_path: Path, gen) -> None:
    break_tar(project)
    code, out, err = gen(project, "inspect", "pets", "--out", str(tmp_path / "out"))
    assert (code, out) == (3, "")
    assert "was cut" in err
    assert "`gen data verify` lists them" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("shape", "classes", "target"),
    [
        ((5, 6, 1), 0, None),
        ((3, 8, 8, 3), 2, None),
        ((30, 9, 9, 1), 25, None),
        ((6, 6, 3), 0, 2),
        ((300, 400, 2), 1, 300),
    ],
)
def test_pictures_of_every_kind(tmp_path: Path, shape: tuple[int, ...], classes: int, target: int | None) -> None:
    """Grey, colour, two channels; images, videos, pairs, maps of labels; few, many and no classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, *shape), np.uint8)
    data = Arrays(
        images,
        rng.permutation(np.arange(30) % classes) if classes else None,
        None if target is None else rng.integers(0, min(target, 256), (30, *shape[-3:-1], 1)).astype(np.uint8),
        attributes=rng.random((30, 5)),
    )
    names = [f"a_class_with_a_long_name_{k}" for k in range(classes)]
    write_shards(in_memory(SOURCE, {"train": data}, classes=names, attributes="abcde"), tmp_path / "x")
    reader = open_split(tmp_path / "x", "train", resident_bytes=0)
    told: list[tuple[int, int]] = []
    paths = pictures.draw_pictures(reader, "train", tmp_path, progress=lambda *done: told.append(done))
    assert told[-1] == (30, 30)
    for path in paths.values():
        with Image.open(path) as image:
            assert 640 <= image.width <= 1400
            colours = image.getcolors(1 << 24)
            assert colours is not None
            assert len(colours) > 20


def test_mean_images_and_draws_are_those_of_the_samples(tmp_path: Path) -> None:
    raw = tiny({"train": 600}, classes=3)
    write_shards(raw, tmp_path / "x", form=Format(samples=100))
    reader, split = open_split(tmp_path / "x", "train", resident_bytes=0), raw.splits["train"]
    assert isinstance(split.samples, Arrays)
    images, labels = split.samples.images.transpose(0, 3, 1, 2), split.labels
    assert labels is not None
    means = mean_images(reader, np.arange(600), [0, 2])
    np.testing.assert_allclose(means.overall, images.mean(0))
    assert sorted(means.by_class) == [0, 2]
    np.testing.assert_allclose(means.by_class[2], images[labels == 2].mean(0))
    drawn = draw(labels, np.arange(50, 600), [0, 1, 2], 7, seed=3)
    for label, rows in drawn.items():
        assert len(set(rows.tolist())) == 7
        assert set(labels[rows]) == {label}
        assert rows.min() >= 50
    assert len(draw(labels, np.arange(10), [0], 99)[0]) == (labels[:10] == 0).sum()
    counts = summarize(tmp_path / "x").splits["train"].class_counts
    assert counts == {f"class {k}": int((labels == k).sum()) for k in range(3)}


def test_texts_are_cut_to_their_room() -> None:
    text = "a caption with many words, " * 20
    lines = drawing.wrapped(text, drawing.NOTE, 168)
    assert len(lines) == drawing.LINES
    assert lines[-1].endswith("…")
    assert all(drawing._length(line, drawing.NOTE) <= 168 for line in lines)
    assert drawing.wrapped("short", drawing.NOTE, 168) == ["short"]
    assert drawing.wrapped("  two\n\x1b[31mlines ", drawing.NOTE, 168) == ["two [31mlines"]
    assert "".join(drawing.wrapped("x" * 40, drawing.NOTE, 168)) == "x" * 40
    assert drawing.wrapped("", drawing.NOTE, 168) == drawing.wrapped("\n", drawing.NOTE, 168) == []


def test_small_pictures_grow_by_whole_factors_and_labels_get_colours() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 1), np.uint8)
    large = np.asarray(drawing.enlarged(pixels, 112))
    assert large.shape == (112, 80, 3)
    np.testing.assert_array_equal(large[::16, ::16, :1], pixels)
    palette = drawing.coloured(np.arange(24, dtype=np.uint8).reshape(4, 6, 1)).reshape(-1, 3).astype(int)
    apart = np.abs(palette[:, None] - palette[None]).sum(-1) + 999 * np.eye(24, dtype=int)
    assert apart.min() > 60


# ---- ls -------------------------------------------------------------------------------------------------------------


def test_ls(made: Path, gen, facts) -> None:
    found = facts(made, "ls", "pets", "--limit", "2")
    assert set(found) == {"tar", "samples", "more", "damages"}
    assert found["tar"] == str(shards(made) / "train" / "shard-000000.tar")
    assert (found["more"], found["damages"]) == (4, [])
    first = found["samples"][0]
    assert set(first) == {"key", "label", "caption", "members", "sound"}
    assert (first["key"], first["label"], first["sound"]) == ("00000000", "0 (cat)", True)
    assert first["caption"].endswith("très joli")
    assert [each["extension"] for each in first["members"]] == ["cls", "txt", "json", "image.png"]
    code, out, _ = gen(made, "ls", "pets", "--split", "test", "--shard", "0")
    assert code == 0
    assert "1 (dog)" in out
    assert "très joli" in out
    (named,) = (facts(made, "ls", str(shards(made) / "train/shard-000003.tar"))["samples"],)
    assert [each["key"] for each in named] == ["00000018", "00000019"]


def test_ls_shows_one_sample_in_full_and_saves_a_member(made: Path, tmp_path: Path, gen, facts) -> None:
    found = facts(made, "ls", "pets", "--key", "00000013")
    assert found["tar"].endswith("shard-000002.tar")
    assert found["members"]["image.png"]["shape"] == [8, 10, 3]
    assert found["members"]["json"]["json"].keys() == {"age"}
    assert "très joli" in found["members"]["txt"]["text"]
    target = tmp_path / "saved.png"
    assert gen(made, "ls", "pets", "--key", "00000013", "--save", str(target))[0] == 0
    member = found["members"]["image.png"]
    tar = Path(found["tar"]).read_bytes()
    assert target.read_bytes() == tar[member["offset"] : member["offset"] + member["bytes"]]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for path in (target, link, tmp_path):
        code, _, err = gen(made, "ls", "pets", "--key", "00000013", "--member", "txt", "--save", str(path))
        assert code == 2
        assert "is there already" in err
    assert not (tmp_path / "elsewhere").exists()
    code, _, err = gen(made, "ls", "pets", "--key", "00000013", "--member", "exe", "--save", str(tmp_path / "y"))
    assert code == 2
    assert "has cls, txt, json, image.png; name one of them" in err


def test_ls_tells_damaged_samples(project: Path, gen, facts) -> None:
    path = shards(project) / "train" / "shard-000001.tar"
    content = bytearray(path.read_bytes())
    content[512] ^= 1  # of the first label
    path.write_bytes(content)
    found = facts(project, "ls", "pets", "--shard", "1", expect=3)
    assert [each["sound"] for each in found["samples"]] == [False, True, True, True, True]
    assert "DAMAGED" in gen(project, "ls", "pets", "--shard", "1")[1]
    path.write_bytes(content[:-2000])
    found = facts(project, "ls", str(path), expect=3)
    assert "was cut" in found["damages"][0]
    path.with_name("shard-000001.idx.npz").unlink()
    missing, cut = facts(project, "ls", str(path), expect=3)["damages"]
    assert "shard-000001.idx.npz: is not there" in missing
    assert found["damages"] == [cut]
    assert "is not there" in gen(project, "ls", str(path), "--key", found["samples"][1]["key"])[1]


class Bomb:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return Path.touch, (Path("unpickled"),)  # type: ignore[return-value]


def foreign(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in more:
            tar.addfile(info)
    return path


def test_ls_of_somebody_elses_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gen, facts) -> None:
    """Nothing is unpickled, nothing is written outside, nothing reaches the terminal that it would obey."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    objects = io.BytesIO()
    np.save(objects, np.array([Bomb()], dtype=object), allow_pickle=True)
    files = {
        "../../escape.txt": b"outside",
        "/absolute.txt": b"outside",
        "a.pyd": pickle.dumps(Bomb()),
        "a.pth": pickle.dumps(Bomb()),
        "a.npy": objects.getvalue(),
        "a.json": b"[" * 100_000,
        "a.cls": b"9" * 50_000,
        "a.txt": b"red \x1b[31m text\n" + b"x" * 10_000,
        "b\x1b]0;title\x07.txt": b"name",
        "c.json": b'{"nan": NaN}',
        "c.jpg": b"\xff\xd8\xff nothing",
    }
    path = foreign(tmp_path / "theirs.tar", files)
    found = facts(tmp_path, "ls", str(path))
    assert [each["key"] for each in found["samples"]] == ["../../escape", "/absolute", "a", "b\\x1b]0;title\\x07", "c"]
    assert all(each["sound"] is None for each in found["samples"])
    code, out, _ = gen(tmp_path, "ls", str(path))
    assert code == 0
    assert "no index: contents are not checked" in out
    for key in ("../../escape", "a", "b\x1b]0;title\x07", "c"):
        code, shown, err = gen(tmp_path, "ls", str(path), "--key", key)
        assert code == (3 if key in ("a", "c") else 0), (key, err)
        out += shown
    assert "\x1b" not in out
    assert "\x07" not in out
    assert len(out) < 20_000
    assert gen(tmp_path, "ls", str(path), "--key", "../../escape", "--member", "txt", "--save", "kept")[0] == 0
    assert Path("kept").read_bytes() == b"outside"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["here", "kept", "theirs.tar"]


@pytest.mark.parametrize("name", ["cut", "link", "gzip", "text", "empty"])
def test_ls_says_when_somebody_elses_tar_is_damaged(tmp_path: Path, facts, name: str) -> None:
    path = tmp_path / "theirs.tar"
    link = tarfile.TarInfo("c.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    foreign(path, {"a.txt": b"one", "b.txt": b"two" * 1000}, *([link] if name == "link" else []))
    content = path.read_bytes()
    if name == "gzip":
        with tarfile.open(path, "w:gz") as tar:
            tar.addfile(tarfile.TarInfo("a.txt"))
    elif name != "link":
        path.write_bytes({"cut": content[:2500], "text": b"no tar at all" * 100, "empty": b""}[name])
    found = facts(tmp_path, "ls", str(path), expect=3)
    assert found["damages"][0].startswith(f"{path}: ")
    assert [each["key"] for each in found["samples"]] == (["a"] if name in ("cut", "link") else [])


def test_tars_of_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gen, facts) -> None:
    """What is needed of them is fetched, and what cannot be had is said."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    write_shards(tiny({"train": 60}), tmp_path / "theirs", form=Format(samples=10))
    files = {path.name: path.read_bytes() for path in (tmp_path / "theirs" / "train").glob("*.tar")}
    with http_server(files) as server:
        options = {"splits": {"train": "shard-{000000..000005}.tar"}, "classes": ["a", "b", "c"]}
        with (tmp_path / "params.yaml").open("w") as file:
            YAML().dump({"datasets": {"far": {"source": "tars", "path": server.url(""), "options": options}}}, file)
        for words in (["pull", "far"], ["shard", "far", "--writers", "1"], ["verify", "far"]):
            assert gen(tmp_path, *words)[0] == 0, words
        assert not list((tmp_path / "data/shards/far").rglob("*.tar"))
        reader = open_split(tmp_path / "data/shards/far", "train", resident_bytes=0)
        near = within_reach(reader, "train")
        assert len(near) == 40
        assert set(np.bincount(near // 10, minlength=6)) == {0, 10}
        assert gen(tmp_path, "inspect", "far", "--out", str(tmp_path / "out"))[0] == 0
        found = facts(tmp_path, "ls", "far", "--shard", "2", "--limit", "1")
        assert found["tar"] == server.url("shard-000002.tar")
        assert found["samples"][0]["sound"] is True
        assert found["samples"][0]["label"] in ("0 (a)", "1 (b)", "2 (c)")
        before = tree(tmp_path / "data/shards/far")
        (tmp_path / "data/shards/far/train/shard-000003.idx.npz").unlink()
        assert gen(tmp_path, "repair", "far", "--writers", "1")[0] == 0
        assert tree(tmp_path / "data/shards/far") == before
        server.files["shard-000004.tar"] = files["shard-000003.tar"]
        found = facts(tmp_path, "repair", "far", "--writers", "1", expect=3)
        (damage,) = found["damages"]
        assert "shard-000004.tar" in damage["message"]
        assert damage["problem"].startswith("the tar lies elsewhere: restore it there")


# ---- repair ---------------------------------------------------------------------------------------------------------


def test_repair(project: Path, gen, facts) -> None:
    before = tree(shards(project))
    assert gen(project, "repair", "pets")[:2] == (0, "pets: sound\n")
    path = break_tar(project)
    (shards(project) / "test" / "shard-000000.idx.npz").unlink()
    (shards(project) / "extra.tar").touch()
    damaged = tree(shards(project))
    found = facts(project, "repair", "pets", "--dry-run", expect=3)
    assert set(found) == {"name", "root", "dry_run", "sound", "damages"}
    assert all(each["repaired"] is False for each in found["damages"])
    code, out, _ = gen(project, "repair", "pets", "--dry-run")
    assert code == 3
    assert "would write it again from the source" in out
    assert tree(shards(project)) == damaged

    found = facts(project, "repair", "pets", "--writers", "1")
    assert found["sound"] is True
    assert tree(shards(project)) == before
    by_file = {each["file"]: each for each in found["damages"]}
    assert by_file.keys() == {
        str(path),
        str(shards(project) / "test" / "shard-000000.idx.npz"),
        str(shards(project) / "extra.tar"),
    }
    assert set(by_file[str(path)]) == {"kind", "file", "message", "lost", "action", "repaired", "problem"}
    assert all(each["repaired"] and each["problem"] is None for each in by_file.values())
    assert (project / "data/shards/.pets.removed/extra.tar").is_file()
    assert facts(project, "verify")["sound"]


def test_repair_of_the_manifest(project: Path, gen) -> None:
    before = tree(shards(project))
    (shards(project) / "manifest.json").unlink()
    code, out, _ = gen(project, "repair", "pets", "--writers", "1")
    assert code == 0
    assert out.startswith(f"repaired: {shards(project) / 'manifest.json'}")
    assert tree(shards(project)) == before


def test_what_cannot_be_repaired_is_said(project: Path, gen, facts) -> None:
    """The source is not what was pulled any more: it is not believed, and the rest is repaired all the same."""
    path = break_tar(project)
    (shards(project) / "test" / "shard-000000.idx.npz").unlink()
    (project / "photos" / "03.png").write_bytes((project / "photos" / "04.png").read_bytes())
    found = facts(project, "repair", "pets", "--writers", "1", expect=3)
    assert found["sound"] is False
    problems = {Path(each["file"]).name: each["problem"] for each in found["damages"]}
    assert problems["shard-000000.idx.npz"] is None
    assert "the source cannot give it" in problems[path.name]
    assert "1 files changed, came or went since the data were pulled: 03.png" in problems[path.name]
    code, out, _ = gen(project, "repair", "pets", "--writers", "1")
    assert code == 3
    assert out.startswith(f"NOT REPAIRED: {path}")


def test_repair_where_there_is_nothing(made: Path, gen) -> None:
    code, _, err = gen(made, "repair", "empty")
    assert code == 3
    assert "there is nothing to repair. Write the shards: `gen data shard NAME`" in err
