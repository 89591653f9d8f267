"""``gen data ls``: look into a tar without unpacking it.

Works on any uncompressed tar, also on one without an index that nobody vouches for. Names and texts are shown with
their control characters visible, and never more of them than fits; nothing is unpickled, and the only file that is
ever written is the one that was asked for, under the name that was asked for.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from gen.data.decoding import LIMITS, decode
from gen.data.images import decode_npy
from gen.data.index import Index
from gen.errors import DataError, RecipeError, nearest
from gen.files import writing
from gen.shards import tar
from gen.shards.scan import NAMES, PICTURES
from pipelines.data.tables import human_bytes, printable, table

TEXTS = ("cls", "txt", "caption", "json", "text", "index", "id")
LINE, PAGE = 60, 4_096  # letters of a text in a list, and in full
LARGEST = 1 << 20  # bytes of a JSON that is parsed
_COMPARED = 10_000  # keys among which the nearest is looked for
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A tar to look into.

    Attributes:
        file: open for reading.
        name: what the user calls it.
        index: its index, where there is one that is trusted.
        classes: names of the classes, where they are known.
        problems: what is wrong with it, as far as that is known.
    """

    file: IO[bytes]
    name: str
    index: Index | None = None
    classes: Sequence[str] = ()
    problems: Sequence[str] = ()

    def samples(self) -> Iterator[tuple[str, dict[str, tar.Member]]]:
        """Its samples, as far as it is sound; raises :class:`DataError` where it is not."""
        self.file.seek(0)
        try:
            yield from tar.samples(self.file)
        except (tarfile.TarError, ValueError, OSError) as error:
            raise DataError(f"{self.name}: {printable(str(error))}.") from error

    def read(self, member: tar.Member, most: int = -1) -> bytes:
        """The contents of a member, or their beginning."""
        self.file.seek(member.start)
        return self.file.read(member.size if most < 0 else min(most, member.size))

    def sound(self, key: str, members: Mapping[str, tar.Member]) -> bool | None:
        """Whether a sample is what was indexed; ``None`` without an index."""
        if self.index is None:
            return None
        rows = np.flatnonzero(self.index.key == key)
        if len(rows) != 1:
            return False
        start, stop = min(m.offset for m in members.values()), max(m.stop for m in members.values())
        self.file.seek(start)
        found = (start, stop - start, zlib.crc32(self.file.read(stop - start)))
        row = int(rows[0])
        return found == (int(self.index.offset[row]), int(self.index.size[row]), int(self.index.crc32[row]))


def ls(opened: Opened, limit: int) -> tuple[dict[str, Any], str, bool]:
    """The first samples of a tar: for machines, for people, and whether all that was seen is sound."""
    found, damages, more = list[dict[str, Any]](), list(opened.problems), 0
    try:
        for key, members in opened.samples():
            if len(found) < limit:
                found.append(_entry(opened, key, members))
            else:
                more += 1
    except DataError as error:
        damages.append(str(error))
    sound = not damages and all(entry["sound"] is not False for entry in found)
    facts = {"tar": opened.name, "samples": found, "more": more, "damages": damages}
    rows = [["key", "label", "members", "caption"]]
    for entry in found:
        shown = [f"{each['extension']} {each['bytes']:,}" for each in entry["members"]]
        mark = "  DAMAGED" if entry["sound"] is False else ""
        rows.append([entry["key"] + mark, entry["label"] or "", ", ".join(shown), entry["caption"] or ""])
    kept = [k for k in range(4) if k in (0, 2) or any(row[k] for row in rows[1:])]
    lines = [f"{opened.name}{'' if opened.index else ' (no index: contents are not checked)'}"]
    lines.append(table([[row[k] for k in kept] for row in rows]))
    if more:
        lines.append(f"{more:,} more: --limit shows them, --key KEY shows one in full")
    return facts, "\n".join(lines + [f"DAMAGED: {printable(each)}" for each in damages]), sound


def _entry(opened: Opened, key: str, members: Mapping[str, tar.Member]) -> dict[str, Any]:
    """A sample in a list."""
    texts = {extension.lower(): member for extension, member in members.items()}
    caption = next((texts[name] for name in NAMES["caption"] if name in texts), None)
    label = _short(opened.read(texts["cls"], 4 * LINE)) if "cls" in texts else None
    if label is not None and label.isascii() and label.isdigit() and int(label) < len(opened.classes):
        name = opened.classes[int(label)]
        label = label if name == label else f"{label} ({printable(name)})"
    return {
        "key": printable(key),
        "label": label,
        "caption": None if caption is None else _short(opened.read(caption, 4 * LINE)),
        "members": [
            {"extension": printable(extension), "offset": member.start, "bytes": member.size}
            for extension, member in members.items()
        ],
        "sound": opened.sound(key, members),
    }


def _short(contents: bytes) -> str:
    text = printable(contents.decode(errors="replace").strip())
    return text if len(text) <= LINE else f"{text[: LINE - 3]}..."


def find(opened: Opened, key: str) -> dict[str, tar.Member]:
    """The members of a sample. Raises :class:`RecipeError` with the nearest key if there is none."""
    keys = []
    for found, members in opened.samples():
        if found == key:
            return members
        keys.append(printable(found))
    raise no_sample(opened.name, key, keys)


def no_sample(where: str, key: str, keys: Sequence[str]) -> RecipeError:
    """The error for a key that is none of these."""
    others = f"{len(keys):,} others, {keys[0]} to {keys[-1]}" if keys else "none at all"
    return RecipeError(
        f"--key: {where} holds no sample '{printable(key)}', but {others}.{nearest(key, keys[:_COMPARED])}"
    )


def show(opened: Opened, key: str) -> tuple[dict[str, Any], str, bool]:
    """One sample in full: for machines, for people, and whether it is sound."""
    members = find(opened, key)
    shown = {printable(extension): _contents(opened, extension, member) for extension, member in members.items()}
    sound = opened.sound(key, members)
    facts = {
        "tar": opened.name,
        "key": printable(key),
        "members": shown,
        "sound": sound,
        "damages": list(opened.problems),
    }
    lines = [f"{opened.name}: {printable(key)}{'  DAMAGED' if sound is False else ''}"]
    for extension, contents in shown.items():
        lines.append(f"\n{extension}  {human_bytes(contents['bytes'])}")
        if "json" in contents:
            lines.append(json.dumps(contents["json"], indent=2))
        else:
            lines += [contents[kind] for kind in ("text", "pixels", "damage", "begins") if kind in contents]
    lines += [f"DAMAGED: {printable(each)}" for each in opened.problems]
    broken = opened.problems or any("damage" in contents for contents in shown.values())
    return facts, "\n".join(lines), sound is not False and not broken


def _contents(opened: Opened, extension: str, member: tar.Member) -> dict[str, Any]:
    """What a member holds, as far as it can be shown without running anything."""
    facts: dict[str, Any] = {"offset": member.start, "bytes": member.size}
    kind = extension.lower().rpartition(".")[2]
    what = f"{opened.name}: {printable(member.name)}"
    if kind == "json" and member.size <= LARGEST:
        try:
            return {**facts, "json": json.loads(opened.read(member), parse_constant=_no_number)}
        except (ValueError, RecursionError) as error:
            return {**facts, "damage": printable(f"is not valid JSON: {error}")}
    if kind in TEXTS:
        lines = opened.read(member, PAGE).decode(errors="replace").splitlines()
        text = "\n".join(map(printable, lines))
        return {**facts, "text": text if member.size <= PAGE else f"{text}..."}
    if kind in PICTURES and member.size <= LIMITS.bytes:
        try:
            pixels = decode_npy(opened.read(member), what) if kind == "npy" else decode(opened.read(member), what=what)
        except DataError as error:
            return {**facts, "damage": printable(str(error))}
        span = f"{pixels.min()} ... {pixels.max()}, mean {pixels.mean():.1f}"
        return {**facts, "pixels": f"{pixels.dtype} {pixels.shape}, {span}", "shape": list(pixels.shape)}
    return {**facts, "begins": opened.read(member, 32).hex(" ")}


def _no_number(text: str) -> None:
    raise ValueError(f"found {text}")


def save(opened: Opened, key: str, extension: str | None, path: Path) -> int:
    """Write a member of a sample, byte for byte, to a file that must not be there yet; its bytes."""
    members = find(opened, key)
    if extension is None:
        extension = next((each for each in members if each.lower() in NAMES["image"]), None)
    if extension not in members:
        raise RecipeError(
            f"--member: sample '{printable(key)}' has {', '.join(map(printable, members))}; name one of them."
        )
    member = members[extension]
    opened.file.seek(member.start)
    try:
        with writing(path), path.open("xb") as out:  # neither replaces a file nor follows a link
            for start in range(0, member.size, _CHUNK):
                out.write(opened.file.read(min(_CHUNK, member.size - start)))
    except FileExistsError:
        raise RecipeError(f"--save: {path} is there already. Name another file.") from None
    except FileNotFoundError:
        raise RecipeError(f"--save: {path.parent} is not there. Make it, or name another file.") from None
    return member.size
