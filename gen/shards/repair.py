"""Mending damaged shards with what is still known: the manifest, the sound files, and the source.

    for each in repair(Path("data/shards/digits"), lambda: Plan(digits())):
        print(each.damage.file, each.problem or "mended")

A file is replaced only by bytes that are proven to be the right ones. The manifest names the sha256 of every tar and
index, and shards are written the same anywhere and at any time, so the proof is equality. A manifest itself is proven
by the digest it carries, or by tars that are all, byte for byte, what the source gives.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gen.data.manifest import MANIFEST, FileInfo, Manifest, read_manifest
from gen.errors import DataError, StoreError
from gen.files import sha256, write_bytes, writing
from gen.shards.rewrite import Plan, Source, Watch
from gen.shards.scan import scan
from gen.shards.shard import Run
from gen.shards.verify import Damage, verify
from gen.shards.workbench import Workbench, beside


@dataclass(frozen=True, slots=True)
class Mending:
    """What becomes of a damage.

    Attributes:
        damage: what was found.
        action: how it is mended.
        problem: why it could not be; empty where it was.
    """

    damage: Damage
    action: str
    problem: str = ""


@contextmanager
def _unwatched(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


def outlook(root: Path, *, watch: Watch = _unwatched) -> list[Mending]:
    """What :func:`repair` would try; nothing is changed."""
    damages = _verify(root, watch)
    return [Mending(damage, _action(damage, damages, root)) for damage in damages]


def repair(root: Path, source: Callable[[], Plan], *, run: Run = map, watch: Watch = _unwatched) -> list[Mending]:
    """Find every damage to the shards below ``root``, and mend what can be mended.

    Nothing changes before all that can be had is written and proven. Nobody else may write there in the meantime.

    Args:
        root: the directory that holds the manifest.
        source: opens what the shards were written from, or raises :class:`DataError`; called only if it is needed.
        run: does the writing.
        watch: shows progress.

    Returns:
        The damages, and what became of them; empty if the shards are sound.

    Raises:
        DataError: there are no shards, or they cannot be written.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: is not there, so there is nothing to repair. Write the shards: `gen data shard NAME`."
        )
    root = root.resolve()  # what is prepared beside it must be on its disk
    mender = _Mender(root, Source(source, run, watch))
    found: dict[Path, Mending] = {}
    try:
        with writing(root):
            while damages := _verify(root, watch):  # a damage may hide behind another
                for damage in damages:
                    found.setdefault(damage.file, Mending(damage, _action(damage, damages, root)))
                if not mender.mend(damages):
                    break
            mender.bench.clear()
    except StoreError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"{root}: could not be repaired: {error}. Put that right and repair it again.") from error
    left = {damage.file: mender.problems.get(damage.file, "nothing that is left proves it") for damage in damages}
    return [Mending(each.damage, each.action, left.get(file, "")) for file, each in found.items()]


def _verify(root: Path, watch: Watch) -> list[Damage]:
    with watch("check", "samples") as update:
        return verify(root, progress=update)


def _action(damage: Damage, damages: Collection[Damage], root: Path) -> str:
    """How a damage is mended, in words."""
    match damage.kind:
        case "extra":
            return f"move it to {beside(root, 'removed')}"
        case "manifest" | "statistics":
            return "make it anew, if the tars are what the source gives"
        case "index" if damage.file not in {other.file.with_suffix(".idx.npz") for other in damages}:
            return "make it anew from its tar"
    return "write it again from the source"


class _Mender:
    """One repair.

    Attributes:
        bench: where files are prepared.
        problems: by file, why it cannot be mended.
    """

    def __init__(self, root: Path, source: Source) -> None:
        self._root, self._source = root, source
        self.bench = Workbench(root)
        self.problems: dict[Path, str] = {}
        self._manifest_was_tried = False

    def mend(self, damages: Sequence[Damage]) -> bool:
        """Mend what can be; whether anything was changed."""
        try:
            manifest = read_manifest(self._root)
        except DataError:
            return self._mend_manifest()
        listed, wrong = _listed(manifest), dict[str, FileInfo]()
        extras = [damage.file for damage in damages if damage.kind == "extra"]
        doubted = any(damage.kind == "statistics" for damage in damages)
        for file in dict.fromkeys(each.file for each in damages if each.kind not in ("extra", "statistics")):
            name = file.relative_to(self._root).as_posix() if file.is_relative_to(self._root) else ""
            if name not in listed:
                self.problems[file] = "the tar lies elsewhere: restore it there, or pull and shard the data again"
            elif file.is_file() and sha256(file) == listed[name].sha256:
                doubted = True  # the manifest vouches for a file that is wrong
            else:
                wrong[name] = listed[name]
        self.bench.salvage(wrong.values(), [*(self._root / name for name in wrong), *extras])
        self._make_indices(wrong, manifest)
        doubted |= self._write_again({name: info for name, info in wrong.items() if not self.bench.has(info)})
        ready = [name for name, info in wrong.items() if self.bench.install(info, name)]
        for path in extras:
            self.bench.take_away(path)
        return (doubted and self._mend_manifest()) or bool(ready or extras)

    def _make_indices(self, wrong: Mapping[str, FileInfo], manifest: Manifest) -> None:
        """The indices of sound tars."""
        shapes = {name: field.shape for name, field in manifest.fields.items() if name != "caption"}
        for split, info in manifest.splits.items():
            for shard in info.shards:
                tar, index = f"{split}/{shard.tar.name}", f"{split}/{shard.index.name}"
                if index not in wrong or self.bench.has(shard.index):
                    continue
                path = self.bench.path(shard.tar) if tar in wrong else self._root / tar
                try:
                    found = scan(path, classes=len(manifest.classes), attributes=manifest.attributes, shapes=shapes)
                except DataError:  # its tar is not there, or not sound either
                    continue
                contents = found.index.dump()
                if hashlib.sha256(contents).hexdigest() == shard.index.sha256:
                    self.bench.write(contents, shard.index)

    def _write_again(self, missing: Mapping[str, FileInfo]) -> bool:
        """What only the source can give; whether it gives what is stored, and not what the manifest names."""
        doubted, absent = False, "the source, as params.yaml describes it, gives no such file"
        try:
            for name, file in self._source.write(self.bench.scratch(), missing):
                found, stored = sha256(file), self._root / name
                if found == missing[name].sha256:
                    self.bench.take(file, missing[name])
                    continue
                doubted |= stored.is_file() and sha256(stored) == found
                self.problems[stored] = (
                    f"the source now gives other bytes (sha256 {found[:12]}..., the manifest names "
                    f"{missing[name].sha256[:12]}...): the data, params.yaml, the code or Pillow changed since"
                )
        except DataError as error:
            absent = f"the source cannot give it: {error}"
        for name in missing:
            self.problems.setdefault(self._root / name, absent)
        return doubted

    def _mend_manifest(self) -> bool:
        """Make the manifest anew, if that can be proven; whether it was. The next round finds what else must change."""
        if self._manifest_was_tried:
            return False
        self._manifest_was_tried = True
        path, others = self._root / MANIFEST, []
        try:
            for name, file in self._source.write(self.bench.scratch()):
                stored = self._root / name
                if stored.is_file() and sha256(stored) == sha256(file):
                    file.unlink()
                elif file.suffix == ".tar":
                    others.append(name)
            manifest = self._source.manifest()
        except DataError as error:
            self.problems[path] = f"the source cannot give it: {error}"
            return False
        if others and manifest.digest != _recorded(path):
            self.problems[path] = (
                f"the source gives other bytes than {len(others)} of the tars hold ({others[0]}, ...), and nothing "
                "says which are right. Write the shards again: `gen data shard NAME`"
            )
            return False
        if path.is_file():
            self.bench.keep_copy(path)
        write_bytes(path, manifest.dump().encode())
        return True


def _listed(manifest: Manifest) -> dict[str, FileInfo]:
    """The files below the root that the manifest names."""
    return {
        f"{split}/{file.name}": file
        for split, info in manifest.splits.items()
        for shard in info.shards
        for file in ((shard.index,) if shard.place else (shard.tar, shard.index))
    }


def _recorded(path: Path) -> str:
    """The digest that a damaged manifest carries, if that can still be read."""
    try:
        match = re.search(rb'"digest": "([0-9a-f]{64})"', path.read_bytes())
    except OSError:
        return ""
    return match[1].decode() if match else ""
