"""Archives are unpacked whole or not at all; hostile ones are refused by name, early, and without a trace."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import re
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gen.errors import DataError
from gen.sources.unpack.archives import SUFFIXES, extract
from gen.sources.unpack.inflate import Limits

FILES = {
    "readme.txt": b"hello",
    "images/0.png": random.Random(0).randbytes(700),
    "images/deep/er/1.png": random.Random(1).randbytes(1_200_000),
    "images/empty": b"",
    "names/größe 畫像 (1).jpg": b"x",
    "names/" + "long" * 50: b"y",
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lambda contents: lzma.compress(contents, preset=0),
}


def tar_of(members: Iterable[tuple[tarfile.TarInfo | str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for member, contents in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(contents)
            tar.addfile(info, io.BytesIO(contents))
    return buffer.getvalue()


def zip_of(members: Iterable[tuple[zipfile.ZipInfo | str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for info, contents in members:
            archive.writestr(info, contents)
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def with_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def everything(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def refuse(tmp_path: Path, contents: bytes, reason: str, limits: Limits | None = None) -> str:
    """The archive is refused for that reason, and nothing else is in the folder afterwards; the message."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    (home / "archive").write_bytes(contents)
    before = everything(tmp_path)
    with pytest.raises(DataError, match=reason) as error:
        extract(home / "archive", home / "into", **({} if limits is None else {"limits": limits}))
    assert everything(tmp_path) == before
    assert str(home / "archive") in str(error.value) and "Nothing was unpacked" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_honest_tar(tmp_path: Path, form: int, compression: str) -> None:
    members = [(name, contents) for name, contents in FILES.items() if form != tarfile.USTAR_FORMAT or len(name) < 100]
    (tmp_path / "x").write_bytes(COMPRESS[compression](tar_of(members, form)))
    extract(tmp_path / "x", tmp_path / "into")
    assert tree(tmp_path / "into") == dict(members)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["into", "x"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_honest_zip(tmp_path: Path, method: int) -> None:
    (tmp_path / "x").write_bytes(zip_of([("images/", b""), *FILES.items()], method))
    extract(tmp_path / "x", tmp_path / "into")
    assert tree(tmp_path / "into") == FILES


def test_what_the_tools_of_the_system_write(tmp_path: Path) -> None:
    """`tar -C folder .` names everything ./NAME, and stores modes, owners and folders."""
    for name, contents in FILES.items():
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_bytes(contents)
    (tmp_path / "from" / "readme.txt").chmod(0o4777)
    (tmp_path / "from" / "images").chmod(0o700)
    for flag, suffix in (("", ".tar"), ("z", ".tgz"), ("j", ".tbz2"), ("J", ".txz")):
        assert suffix in SUFFIXES
        subprocess.run(["tar", f"c{flag}f", tmp_path / f"x{suffix}", "-C", tmp_path / "from", "."], check=True)
        mask = os.umask(0o077)
        extract(tmp_path / f"x{suffix}", tmp_path / suffix)
        os.umask(mask)
        assert tree(tmp_path / suffix) == FILES
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / suffix).rglob("*")}
        assert modes == {0o644, 0o755} and stat.S_IMODE((tmp_path / suffix / "readme.txt").stat().st_mode) == 0o644


def test_zip64_and_streamed_zips(tmp_path: Path) -> None:
    """Lengths in the zip64 extension; lengths that follow the contents, as of a zip written to a pipe."""

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("big", "w", force_zip64=True) as file:
        file.write(b"contents")
    with (tmp_path / "pipe").open("wb") as file:
        piped = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
        with piped.stdin, zipfile.ZipFile(piped.stdin, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("big", b"contents")
        piped.wait()
    for k, contents in enumerate(
        (buffer.getvalue(), (tmp_path / "pipe").read_bytes(), wide(zip_of([("big", b"contents")])))
    ):
        (tmp_path / "x").write_bytes(contents)
        extract(tmp_path / "x", tmp_path / str(k))
        assert tree(tmp_path / str(k)) == {"big": b"contents"}


def wide(contents: bytes) -> bytes:
    """A zip of one member with all its numbers where zip64 has them."""
    at = contents.index(b"PK\x01\x02")
    fixed = list(struct.unpack("<4s6H3L5H2L", contents[at : at + 46]))
    name = contents[at + 46 : at + 46 + fixed[10]]
    extra = struct.pack("<2H3Q", 1, 24, fixed[9], fixed[8], fixed[16])
    fixed[8] = fixed[9] = fixed[16] = 0xFFFFFFFF
    fixed[11] = len(extra)
    directory = struct.pack("<4s6H3L5H2L", *fixed) + name + extra
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(directory), at)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at + len(directory), 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return contents[:at] + directory + end64 + locator + end


names = st.lists(st.sampled_from(["a", "b", "ä b", "c.d"]), min_size=1, max_size=3).map("/".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(names, st.binary(max_size=1500), min_size=1), data=st.data())
def test_any_tree_comes_back_and_any_damage_is_an_error(tmp_path_factory, files, data) -> None:
    """As the standard library unpacks it; flip or cut anything and it is an error, or another whole tree."""
    files = {name: contents for name, contents in files.items() if not any(f.startswith(f"{name}/") for f in files)}
    root = tmp_path_factory.mktemp("any")
    kind = data.draw(st.sampled_from(["zip", *COMPRESS]))
    contents = zip_of(files.items()) if kind == "zip" else COMPRESS[kind](tar_of(files.items()))
    (root / "x").write_bytes(contents)
    extract(root / "x", root / "into")
    assert tree(root / "into") == files
    place = data.draw(st.integers(0, len(contents) - 1))
    flip = data.draw(st.integers(0, 255))  # 0: cut there
    damaged = contents[:place] + (bytes([contents[place] ^ flip]) + contents[place + 1 :] if flip else b"")
    (root / "x").write_bytes(damaged)
    try:
        extract(root / "x", root / "again")
    except DataError:
        assert sorted(path.name for path in root.iterdir()) == ["into", "x"]
    else:
        assert kind in ("", "zip") or tree(root / "again") == files, "a compressed tar has checksums"
        assert flip or tree(root / "again") == files, "what was cut is noticed"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/..", "..", "/etc/x", "//x", "a\\..\\x", "a\nb", "a\x1b[2Jb"])
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    for contents in (
        tar_of([("good", b""), (name, b"evil")]),
        zip_of([("good", b""), (name, b"evil")]),
    ):
        said = refuse(tmp_path, contents, "has a(n absolute)? name")
        assert "\x1b" not in said and "\n" not in said


def test_names_that_are_too_long_or_too_deep(tmp_path: Path) -> None:
    refuse(tmp_path, tar_of([("x" * 256, b"")]), "has a name of 256 bytes, allowed 1,024, and 255 for each part")
    refuse(tmp_path, tar_of([("/".join(["d" * 100] * 11), b"")]), "has a name of 1,110 bytes")
    refuse(tmp_path, tar_of([("/".join("d" * 33), b"")]), "lies in 32 folders, allowed 31")
    refuse(tmp_path, tar_of([("d/" * 400, b"")], tarfile.GNU_FORMAT), "lies in 399 folders")
    refuse(tmp_path, tar_of([(b"caf\xe9".decode("utf-8", "surrogateescape"), b"")], tarfile.GNU_FORMAT), "not UTF-8")
    refuse(tmp_path, tar_of([(".", b"")]), "without a name")
    info = tarfile.TarInfo("good")
    info.pax_headers = {"path": "good\0../evil"}
    refuse(tmp_path, tar_of([(info, b"")]), "control characters")


KINDS = {
    "a symbolic link": [special("evil", tarfile.SYMTYPE, "/etc")],
    "a symbolic link that stays": [special("evil", tarfile.SYMTYPE, "good")],
    "a hard link": [special("evil", tarfile.LNKTYPE, "../outside")],
    "a device": [special("evil", tarfile.CHRTYPE)],
    "a device of blocks": [special("evil", tarfile.BLKTYPE)],
    "a pipe": [special("evil", tarfile.FIFOTYPE)],
    "a sparse file": [special("evil", tarfile.GNUTYPE_SPARSE)],
    "of the unknown kind": [special("evil", b"Z")],
    "a symbolic link, then a file through it": [special("evil", tarfile.SYMTYPE, ".."), "evil/outside"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_neither_file_nor_folder(tmp_path: Path, kind: str) -> None:
    (tmp_path / "outside").write_text("precious")
    contents = tar_of([("good", b"good"), *((info, b"evil") for info in KINDS[kind])])
    for compress in COMPRESS.values():
        reason = kind.partition(" that")[0].partition(" of b")[0].partition(",")[0]
        refuse(tmp_path, compress(contents), f"member 'evil' is {reason}")
    assert (tmp_path / "outside").read_text() == "precious"


def test_a_sparse_file_of_pax(tmp_path: Path) -> None:
    info = tarfile.TarInfo("evil")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(10 << 30)}
    refuse(tmp_path, tar_of([(info, b"1\n0\n0\n")]), "member 'evil' is a sparse file")


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (stat.S_IFLNK, "a symbolic link"),
        (stat.S_IFCHR, "a device"),
        (stat.S_IFIFO, "a pipe"),
        (stat.S_IFSOCK, "special"),
    ],
)
def test_what_is_neither_file_nor_folder_in_a_zip(tmp_path: Path, mode: int, kind: str) -> None:
    refuse(tmp_path, zip_of([("good", b""), (with_mode("evil", mode | 0o777), b"/etc")]), f"member 'evil' is {kind}")


def test_twins(tmp_path: Path) -> None:
    same = [("a/x", b"one"), ("a/./x", b"one"), ("a/", b"")]
    (tmp_path / "x").write_bytes(zip_of(same))
    extract(tmp_path / "x", tmp_path / "into")
    assert tree(tmp_path / "into") == {"a/x": b"one"}
    for other in (b"two", b"on", b"one more", b""):
        refuse(tmp_path, tar_of([("a/x", b"one"), ("a//x", other)]), "member 'a//x' is there twice")
    refuse(tmp_path, tar_of([("a", b"one"), ("a/x", b"two")]), "member 'a/x' needs a folder where there is a file, 'a'")
    refuse(tmp_path, tar_of([("a/x", b"one"), ("a", b"two")]), "member 'a' is a file where there is a folder")


def test_limits(tmp_path: Path) -> None:
    ten = [(f"{k}.txt", b"0123456789") for k in range(10)]
    for contents in (tar_of(ten), zip_of(ten)):
        refuse(tmp_path, contents, r"member '5\.txt' is one more than the 5 files", Limits(members=5))
    refuse(tmp_path, zip_of([("a/b/c/d", b"")]), "one more than the 3 files and folders", Limits(members=3))
    refuse(tmp_path, zip_of(ten), r"member '5\.txt' unpacks to more than 50 bytes", Limits(bytes=50))
    refuse(tmp_path, tar_of(ten), "unpacks to more than 5,000 bytes", Limits(bytes=5000))


def test_encrypted_and_exotic_zips(tmp_path: Path) -> None:
    contents = bytearray(zip_of([("good", b""), ("secret", b"x" * 100)]))
    second = contents.rindex(b"PK\x01\x02")
    contents[second + 8] |= 1
    refuse(tmp_path, bytes(contents), "member 'secret' is encrypted")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refuse(tmp_path, zip_of([("x", b"x")], method), f"member 'x' is compressed by method {method}; allowed are")


def test_zips_that_lie(tmp_path: Path) -> None:
    honest = zip_of([("x", bytes(5000))])
    at = honest.index(b"PK\x01\x02")

    def lie(offset: int, value: int, form: str = "<L") -> bytes:
        contents = bytearray(honest)
        struct.pack_into(form, contents, at + offset, value)
        return bytes(contents)

    refuse(tmp_path, lie(24, 10), "member 'x' holds more than the 10 bytes it claims to")
    refuse(tmp_path, lie(24, 6000), "member 'x' is damaged: found 5,000 bytes.* expected 6,000")
    refuse(tmp_path, lie(16, 1), "member 'x' is damaged: found 5,000 bytes of crc32")
    refuse(tmp_path, lie(20, 3), "member 'x' is damaged: it was cut")
    refuse(tmp_path, lie(42, 7), "member 'x' is damaged: it is not where the directory says")
    refuse(tmp_path, lie(24, 0xFFFFFFFF), "its directory lacks a length")
    refuse(tmp_path, lie(46, ord("y"), "<B"), "member 'y' is damaged: in another place it is called b'x'")
    refuse(tmp_path, b"PK\x03\x04" + honest, "its directory is not where it should be")
    refuse(tmp_path, honest + b"more", "its directory is not where it should be")
    refuse(tmp_path, honest[:-30], "a zip without its directory")


def test_tars_that_lie(tmp_path: Path) -> None:
    honest = tar_of([("x", bytes(5000))], tarfile.USTAR_FORMAT)
    for cut in (0, 100, 512, 3000, 512 + 5120):  # the last one between the member and the end
        refuse(tmp_path, honest[:cut], "was cut")
    refuse(tmp_path, honest[:30] + b"7" + honest[31:], "is not a zip, nor a tar")
    refuse(tmp_path, tar_of([("a", b"")])[:512] + b"x" * 512, "is damaged: invalid header")
    refuse(tmp_path, gzip.compress(b"no tar at all" * 100), "is not a zip, nor a tar")
    refuse(tmp_path, bytes(10240), "holds nothing")
    negative = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    negative[124:136] = b"\xff" * 11 + b"\xfe"
    refuse(tmp_path, checksummed(negative) + bytes(1024), "member 'x' is damaged: its length is b'-2'")
    for records in (b"9999 path=x\n", b"5 a=b", b"nonsense", b"0 path=x\n", b"12 path=xyz\0"):
        header = tarfile.TarInfo("pax")
        header.type, header.size = tarfile.XHDTYPE, len(records)
        refuse(tmp_path, header.tobuf() + records.ljust(512, b"\0"), "pax header is not made of records")
    header.size = 1 << 30
    refuse(tmp_path, header.tobuf() + bytes(4096), "member 'pax' has a header of 1,073,741,824 bytes")


def checksummed(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_the_destination(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(tar_of([("a", b"new")]))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("precious")
    for place in ("mine", "mine/thesis"):
        with pytest.raises(DataError, match=f"{place}: exists; x is not unpacked over it"):
            extract(tmp_path / "x", tmp_path / place)
    assert tree(tmp_path / "mine") == {"thesis": b"precious"}
    (tmp_path / "empty").mkdir()
    extract(tmp_path / "x", tmp_path / "empty")
    extract(tmp_path / "x", tmp_path / "made" / "on the way")
    assert tree(tmp_path / "empty") == tree(tmp_path / "made" / "on the way") == {"a": b"new"}
    with pytest.raises(DataError, match="none"):
        extract(tmp_path / "none", tmp_path / "y")


BOMB_BYTES = 4 << 30
PIECE = 32 << 20


def repeated(head: bytes, piece: bytes, tail: bytes = b"") -> bytes:
    return head + piece * (BOMB_BYTES // PIECE) + tail


def big_header() -> bytes:
    info = tarfile.TarInfo("bomb")
    info.size = BOMB_BYTES
    return info.tobuf(tarfile.GNU_FORMAT)


def zip_bomb() -> bytes:
    """One deflate stream of 4 GiB less a little: pieces that end on a byte (a full flush) may be repeated."""
    squeezer = zlib.compressobj(9, wbits=-15)
    piece = squeezer.compress(bytes(PIECE)) + squeezer.flush(zlib.Z_FULL_FLUSH)
    stream = piece * (BOMB_BYTES // PIECE - 1) + zlib.compressobj(wbits=-15).flush()
    size = BOMB_BYTES - PIECE
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 33, 0, len(stream), size, 4, 0) + b"bomb"
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 33, 0, len(stream), size, 4, 0, 0, 0, 0, 0, 0)
    place = len(local) + len(stream)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entry) + 4, place, 0)
    return local + stream + entry + b"bomb" + end


def overlapping_zip() -> bytes:
    """Many members that are one and the same kernel, by itself no bomb (Fifield, WOOT 2019)."""
    contents = b"".join(bytes([letter]) * 120 for letter in random.Random(0).randbytes(10_000))
    kernel = zip_of([("bomb", contents)])
    assert 10 < len(contents) / len(kernel) < 200
    at = kernel.index(b"PK\x01\x02")
    entry = kernel[at : kernel.index(b"PK\x05\x06")]
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 4096, 4096, len(entry) * 4096, at, 0)
    return kernel[:at] + entry * 4096 + end


def longnames() -> bytes:
    """A hundred thousand long names in a row, of a member that never comes."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 20
    return gzip.compress(info.tobuf() + b"n" * (1 << 20)) * 4096


BOMBS: dict[str, Callable[[], bytes]] = {
    "gz": lambda: repeated(gzip.compress(big_header()), gzip.compress(bytes(PIECE))),
    "bz2": lambda: repeated(bz2.compress(big_header()), bz2.compress(bytes(PIECE))),
    "xz": lambda: repeated(lzma.compress(big_header()), lzma.compress(bytes(PIECE), preset=0)),
    "gz after the end": lambda: repeated(gzip.compress(tar_of([("a", b"")])), gzip.compress(bytes(PIECE))),
    "zip": zip_bomb,
    "zip of the same again": overlapping_zip,
    "long names": longnames,
    "many members": lambda: gzip.compress(b"".join(tarfile.TarInfo(f"{k}").tobuf() for k in range(6_000))),
    "huge dictionary": lambda: lzma.compress(
        bytes(1000), filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    ),
}
UNPACK = """
import sys
from pathlib import Path
from gen.errors import DataError
from gen.sources.unpack.archives import extract
from gen.sources.unpack.inflate import Limits

def peak():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)

for archive in sys.argv[1:]:
    before = peak()
    try:
        extract(Path(archive), Path(archive + " unpacked"), limits=Limits(members=5_000))
    except DataError as error:
        print(peak() - before, str(error).partition(": ")[2].partition(". Nothing")[0], sep="|")
"""


def test_bombs(tmp_path: Path) -> None:
    """4 GiB from a few MB, each refused with less than 200 MB of memory and of disk: more would kill the process.

    VmHWM is the peak of the process itself; ru_maxrss may be that of the parent it was forked from.
    """
    for name, make in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    room = 200 << 20
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n{UNPACK}"
    command = [sys.executable, "-c", code, *(str(tmp_path / name) for name in BOMBS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = dict(zip(BOMBS, done.stdout.splitlines(), strict=False))
    assert len(said) == len(BOMBS), done.stderr
    reasons = {
        "gz": "member 'bomb' .* decompression bomb",
        "bz2": "member 'bomb' .* decompression bomb",
        "xz": "member 'bomb' .* decompression bomb",
        "gz after the end": "decompression bomb",
        "zip": "member 'bomb' .* decompression bomb",
        "zip of the same again": "member 'bomb' .* decompression bomb",
        "long names": "decompression bomb",
        "many members": "member '5000' is one more than the 5,000",
        "huge dictionary": "[Mm]emory usage limit",
    }
    for name, line in said.items():
        growth, reason = line.split("|")
        assert int(growth) < 200 << 10, f"{name}: {int(growth):,} KiB"
        assert re.search(reasons[name], reason), f"{name}: {reason}"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(BOMBS), "nothing was left"
