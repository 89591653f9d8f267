"""The two copies of the audit log, and how they stay one.

    tags gen.audit.000001, ...        of the registered model: what every machine sees
    promotions/<model>.jsonl          in the project, to be committed: what nobody changes unseen

Every entry goes to the registry first and to the file after that. So a crash, or a colleague who promotes from another
machine, leaves the file behind the registry, at worst with half a line at its end, and the file is completed from the
registry. Nothing that can happen by accident leaves it ahead or different: then somebody should look.

One file serves several registries (an embedded one, the team's server): a model in another registry was made at another
time, which every entry says, and each has its own chain.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gen.errors import StoreError
from gen.files import fsync, writing
from pipelines.promotion.audit import LONGEST, Entry, check
from pipelines.tracking.shelf import Model, Shelf

TAG = "gen.audit."
KEY = re.compile(re.escape(TAG) + r"(\d+)")


def log_path(root: Path, name: str) -> Path:
    """The copy in the project."""
    return root / "promotions" / f"{name}.jsonl"


@dataclass(frozen=True, slots=True)
class Reading:
    """Both copies, compared.

    Attributes:
        entries: of the registry, up to the first that is wrong.
        missing: entries that the file lacks, as a crash or another machine leaves it.
        whole: bytes of the file that are whole lines; what is behind them is half a line of the first missing one.
        torn: whether there is such half a line.
        findings: what neither explains; with any of these, nothing may be written.
    """

    entries: Sequence[Entry]
    missing: Sequence[Entry]
    whole: int
    torn: bool
    findings: Sequence[str]


def read_log(model: Model, path: Path) -> Reading:
    """Read and compare the copies. Nothing is changed."""
    numbered = sorted((int(found[1]), text) for key, text in model.tags.items() if (found := KEY.fullmatch(key)))
    entries, findings = check("registry", numbered)
    findings += [
        f"registry: entry {entry.seq}: it is of {entry.model}, made at {entry.created}: copied from another log"
        for entry in entries
        if (entry.model, entry.created) != (model.name, model.created)
    ]
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    mine: list[tuple[int | None, str]] = []
    others: dict[int, list[tuple[int | None, str]]] = {}
    for text in content[:whole].decode(errors="replace").splitlines():
        created = _created(text)
        here = created is None or created == model.created
        (mine if here else others.setdefault(created or 0, [])).append((None, text))
    filed, wrong = check(path.name, mine)
    findings += wrong
    for created, chain in others.items():
        findings += check(f"{path.name}, registry of {created}", chain)[1]
    findings += _differences(entries, filed, path.name)
    missing = entries[len(filed) :]
    half = content[whole:].rstrip(b"\0")  # a file system may fill what it did not write with zeros
    if half and not (missing and missing[0].line().encode().startswith(half)):
        findings.append(
            f"{path.name}: its end is half a line that the registry does not know. If it was written for another "
            "registry, run `gen history` there"
        )
    return Reading(entries, missing, whole, torn=len(content) > whole, findings=findings)


def _created(text: str) -> int | None:
    """The registry that a line is about; ``None`` if it cannot be read."""
    try:
        created = json.loads(text)["created"]
    except (ValueError, KeyError, TypeError):
        return None
    return created if isinstance(created, int) else None


def _differences(entries: Sequence[Entry], filed: Sequence[Entry], place: str) -> list[str]:
    for ours, theirs in zip(entries, filed, strict=False):
        if ours.hash != theirs.hash:
            return [
                f"entry {ours.seq}: the registry has {ours.action} of version {ours.version} by {ours.actor} at "
                f"{ours.time}, {place} has {theirs.action} of version {theirs.version} by {theirs.actor} at "
                f"{theirs.time}: one was written anew"
            ]
    if len(filed) > len(entries):
        return [
            f"registry: entries {len(entries) + 1} to {len(filed)} are in {place} only: removed from the registry, or "
            f"it was restored from an older state (then move {place} aside: it is written anew from the registry)"
        ]
    return []


def complete(reading: Reading, path: Path) -> None:
    """Bring the file up to the registry. Raises :class:`StoreError` if they cannot both be true."""
    if reading.findings:
        shown = "\n  ".join(reading.findings)
        raise StoreError(
            f"{path}: the audit log is damaged or was tampered with; nothing was changed:\n  {shown}\n"
            f"`git log -p {path.parent.name}/{path.name}` shows what it was; `gen history {path.stem} --verify` "
            "checks it."
        )
    if not reading.missing and not reading.torn:
        return
    if reading.torn:
        print(f"{path}: completing the half line at its end from the registry", file=sys.stderr, flush=True)
    _write(path, "".join(entry.line() + "\n" for entry in reading.missing), at=reading.whole)


def append(shelf: Shelf, path: Path, entry: Entry) -> None:
    """Write an entry behind the last one, whose holder has read the log since it took the lock."""
    line = entry.line()
    assert len(line) <= LONGEST, f"entry {entry.seq} has {len(line)} characters"  # its parts are bounded
    shelf.set_tag(entry.model, f"{TAG}{entry.seq:06}", line)
    _write(path, line + "\n", at=path.stat().st_size if path.exists() else 0)


def _write(path: Path, text: str, *, at: int) -> None:
    """Put text at a place of a file, cut off what is behind it, and wait until the disk has it."""
    with writing(path):
        new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.ftruncate(handle, at)
            left = memoryview(text.encode())
            while left:
                written = os.pwrite(handle, left, at)
                at, left = at + written, left[written:]
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            fsync(path.parent)
