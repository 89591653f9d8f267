"""Headers are those of Python's own tar writer, samples are those of WebDataset, and no cut goes unseen."""

from __future__ import annotations

import io
import itertools
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from webdataset import ShardWriter
from webdataset.tariterators import group_by_keys, tar_file_iterator

from gen.shards import tar

CONTENTS = {"0001.jpg": b"j" * 700, "0001.cls": b"3", "sub/0002.jpg": b"k" * 512, "sub/0002.cls": b""}


def packed(files: dict[str, bytes] | list[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for name, contents in files.items() if isinstance(files, dict) else files:
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            archive.addfile(info, io.BytesIO(contents))
    return file.getvalue()


def found(contents: bytes) -> list[tuple[str, dict[str, bytes]]]:
    """The samples, with what their members hold."""
    return [
        (key, {extension: contents[m.start : m.start + m.size] for extension, m in members.items()})
        for key, members in tar.samples(io.BytesIO(contents))
    ]


def with_webdataset(contents: bytes) -> list[tuple[str, dict[str, bytes]]]:
    files = ({**one, "__url__": ""} for one in tar_file_iterator(io.BytesIO(contents)))
    return [
        (sample["__key__"], {name: value for name, value in sample.items() if not name.startswith("__")})
        for sample in group_by_keys(files)
    ]


# ---- written ---------------------------------------------------------------------------------------------------------


@given(name=st.from_regex(r"[0-9a-z./_-]{1,100}", fullmatch=True), size=st.integers(0, 8 * 2**30 - 1))
@example(name="a" * 100, size=8 * 2**30 - 1)
def test_a_header_is_that_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    assert tar.header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(("name", "size"), [("a" * 101, 0), ("a", 8 * 2**30)])
def test_what_does_not_fit_a_header_is_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="at most 100 bytes and contents less than 8 GiB"):
        tar.header(name, size)


def test_names_in_headers_are_ascii() -> None:
    with pytest.raises(ValueError, match="ascii"):
        tar.header("größe", 0)


@given(contents=st.lists(st.binary(max_size=1100), max_size=4))
def test_members_are_found_where_they_were_put(contents: list[bytes]) -> None:
    pieces = [tar.header(f"{k:08d}.bin", len(c)) + c + tar.padding(len(c)) for k, c in enumerate(contents)]
    whole = b"".join(pieces) + tar.END
    assert len(tar.END) == 1024 and not any(tar.END)  # two blocks of binary zeros (POSIX.1-1988, ustar)
    members = list(tar.members(io.BytesIO(whole)))
    assert [whole[m.start : m.start + m.size] for m in members] == contents
    assert [m.stop - m.offset for m in members] == [len(piece) for piece in pieces]
    assert all(len(piece) % tar.BLOCK == 0 for piece in pieces)


# ---- read ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_all_kinds(format: int) -> None:
    assert found(packed(CONTENTS, format)) == with_webdataset(packed(CONTENTS, format))


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(format: int) -> None:
    """They take headers of their own, which belong to the member."""
    names = [f"{'folder/' * 20}{k:04d}-{'x' * 90}-größe" for k in range(3)]
    contents = packed({f"{name}.{extension}": name.encode() for name in names for extension in ("jpg", "txt")}, format)
    assert found(contents) == [(name, {"jpg": name.encode(), "txt": name.encode()}) for name in names]
    members = list(tar.members(io.BytesIO(contents)))
    assert members[0].offset == 0
    assert all(a.stop == b.offset for a, b in itertools.pairwise(members)), "gaps between members"
    assert members[0].start > 3 * tar.BLOCK - 1


@settings(max_examples=200)
@given(data=st.data())
def test_members_are_those_of_tarfile(data: st.DataObject) -> None:
    """Ordinary or not, in any order: times with fractions, long names, comments, folders, another's rights."""
    file, expected = io.BytesIO(), []
    format = data.draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for number in range(data.draw(st.integers(0, 6))):
            kind = data.draw(st.sampled_from(["plain", "time", "long", "folder", "comment", "user", "slash"]))
            name = {"long": f"{'folder/' * 12}{'x' * 60}", "slash": "a/"}.get(kind, "") + f"{number}"
            info = tarfile.TarInfo(name)
            info.mtime = 1e9 + 0.25 if kind == "time" else 7
            info.uname, info.mode = ("größe", 0o600) if kind == "user" else ("", 0o644)
            info.pax_headers = {"comment": "hello"} if kind == "comment" else {}
            info.type = tarfile.DIRTYPE if kind == "folder" else tarfile.REGTYPE
            contents = b"" if kind == "folder" else data.draw(st.binary(max_size=600))
            info.size = len(contents)
            archive.addfile(info, io.BytesIO(contents))
    with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as archive:
        expected = [tar.Member(i.name, i.offset, i.offset_data, i.size) for i in archive if i.isfile()]
    assert list(tar.members(file)) == expected


def test_what_webdataset_writes_is_ordinary(tmp_path: Path) -> None:
    """It puts the time, with its fraction, into a header of its own before every member."""
    with ShardWriter(f"{tmp_path}/%d.tar", verbose=0) as writer:
        for k in range(3):
            writer.write({"__key__": f"{k}", "cls": k, "txt": "größe"})
    contents = (tmp_path / "0.tar").read_bytes()
    assert b"mtime=" in contents
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tarfile.TarInfo, "_proc_member", lambda *_: pytest.fail("left to tarfile"))
        assert [key for key, _ in found(contents)] == ["0", "1", "2"]


def test_long_names_of_old_tars() -> None:
    """They have a field for the folder."""
    names = [f"{'folder/' * 18}{k:04d}-{'x' * 60}" for k in range(3)]
    contents = packed({f"{name}.jpg": name.encode() for name in names}, tarfile.USTAR_FORMAT)
    assert found(contents) == [(name, {"jpg": name.encode()}) for name in names]


def test_tars_older_than_the_standard() -> None:
    """Without its magic; a folder is a file whose name ends with a slash."""
    pieces = []
    for name, data in {"a/": b"", "a/1.jpg": b"j", "a/1.cls": b"3"}.items():
        block = bytearray(tar.header(name, len(data)))
        block[156:157], block[257:265], block[148:156] = b"\0", bytes(8), b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        pieces += [bytes(block), data, tar.padding(len(data))]
    assert found(b"".join([*pieces, tar.END])) == [("a/1", {"jpg": b"j", "cls": b"3"})]


def test_folders_are_passed_over_and_tell_keys_apart() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for folder in ("a", "b"):
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
            archive.addfile(tarfile.TarInfo(f"{folder}/1.jpg"))
    assert [key for key, _ in found(file.getvalue())] == ["a/1", "b/1"]


NAMES = st.from_regex(r"(a/|b\.c/|)(\.|__|)[12]?(\.(jpg|JPG|cls|seg\.png))?", fullmatch=True).filter(
    lambda name: name and not name.endswith("/") and not name.startswith("a/.")  # see the test after this one
)


@settings(max_examples=300)
@given(names=st.lists(NAMES, max_size=8))
@example(names=["1.jpg", ".DS_Store", "1.cls", "README", "a/1.jpg", "b.c/.hidden", "a/1.cls"])
@example(names=["1.jpg", "2.jpg", "1.cls"])
@example(names=["1.jpg", "1.JPG"])
def test_samples_are_those_of_webdataset(names: list[str]) -> None:
    """Or an error, where the members of one sample are apart or two of them have one name."""
    contents = packed([(name, name.encode()) for name in names])
    try:
        expected = with_webdataset(contents)
    except ValueError:
        expected = None
    keys = [key for key, _ in expected or ()]
    if expected is None or len(set(keys)) < len(keys):
        with pytest.raises(ValueError, match=r"not next to each other|two members are called"):
            found(contents)
    else:
        assert found(contents) == expected


def test_hidden_files_of_folders_are_no_samples() -> None:
    """WebDataset makes one of them, called ``a/``, and breaks the sample in which it lies into two."""
    contents = packed({"a/1.jpg": b"j", "a/._1.jpg": b"", "a/1.cls": b"3"})
    assert len(with_webdataset(contents)) == 3
    assert found(contents) == [("a/1", {"jpg": b"j", "cls": b"3"})]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("1.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ValueError, match=r"'1\.jpg' is not a plain file"):
        found(file.getvalue())


def test_sparse_files_are_refused() -> None:
    info = tarfile.TarInfo("1.jpg")
    info.type = tarfile.GNUTYPE_SPARSE
    with pytest.raises(ValueError, match="not a plain file"):
        found(info.tobuf(tarfile.GNU_FORMAT) + tar.END)


def test_names_that_are_not_utf8_are_refused() -> None:
    contents = packed({"größe.jpg": b""}, tarfile.GNU_FORMAT)
    raw = bytearray(contents)
    raw[:10] = "größe.jpg".encode("latin-1").ljust(10, b"\0")
    with pytest.raises((ValueError, tarfile.TarError)):
        found(bytes(raw))
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("größe.jpg"))
    with pytest.raises(ValueError, match="utf-8"):
        found(file.getvalue())


# ---- damaged ---------------------------------------------------------------------------------------------------------


def test_every_cut_is_seen() -> None:
    """Where the first block of the end is gone too; what a cut takes of the rest of the end holds nothing."""
    contents = packed(CONTENTS)
    whole = found(contents)
    stop = max(member.stop for member in tar.members(io.BytesIO(contents)))
    for length in range(0, len(contents), 32):
        if length >= stop + tar.BLOCK:
            assert found(contents[:length]) == whole
        else:
            with pytest.raises((ValueError, tarfile.TarError)):
                found(contents[:length])


def test_every_flipped_byte_of_a_header_is_seen() -> None:
    contents = packed(CONTENTS, tarfile.USTAR_FORMAT)
    for member in tar.members(io.BytesIO(contents)):
        for position in range(member.offset, member.start, 3):
            if member.offset + 148 <= position < member.offset + 156:
                continue  # the checksum's own field may be written in several ways
            flipped = contents[:position] + bytes([contents[position] ^ 1]) + contents[position + 1 :]
            with pytest.raises((ValueError, tarfile.TarError)):
                found(flipped)


def test_blocks_overwritten_with_zeros_are_seen() -> None:
    """Other readers take them for the end."""
    contents = packed({**CONTENTS, "sub/0002.txt": b"text"})
    for member in tar.members(io.BytesIO(contents)):
        overwritten = contents[: member.offset] + bytes(tar.BLOCK) + contents[member.offset + tar.BLOCK :]
        with pytest.raises(ValueError, match="more behind the end"):
            found(overwritten)


@pytest.mark.parametrize("behind", [b"x", packed(CONTENTS), bytes(10240) + b"\1"])
def test_what_lies_behind_the_end_is_seen(behind: bytes) -> None:
    with pytest.raises(ValueError, match="more behind the end"):
        found(packed(CONTENTS) + behind)


@pytest.mark.parametrize("contents", [b"", b"hello", bytes(100), b"\x1f\x8b" + bytes(1000)])
def test_what_is_no_tar_is_refused(contents: bytes) -> None:
    with pytest.raises((ValueError, tarfile.TarError)):
        found(contents)
