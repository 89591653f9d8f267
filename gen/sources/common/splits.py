"""Which part of a data set's files is which split: as the options say, or by the usual names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from gen.errors import DataError, nearest
from gen.sources.common.listing import NO_LINKS, entries, few, is_image, subfolders

ALIASES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
"""What publishers call the splits."""

SPLIT = "{split}"
"""In the name of a folder or an array: what the publisher calls the split."""

_SPLIT_OF = {alias: split for split, aliases in ALIASES.items() for alias in aliases}


def split_folders(root: Path, folders: Mapping[str, str] | None) -> dict[str, str]:
    """Which folder below ``root`` is which split.

    Args:
        root: the data set's folder.
        folders: by split, its folder below ``root`` (``.`` is ``root`` itself). ``None``: the sub-folders with one of
            the :data:`ALIASES` as their name, or else all of ``root`` as ``train``.

    Raises:
        DataError: a folder is not there, folders overlap, or some sub-folders are named like splits and others not.
    """
    if folders is None:
        folders = _named_like_splits(root)
    checked = {split: inside(root, name, key=f"folders.{split}") for split, name in folders.items()}
    apart(root, {f"folders.{split}": folder for split, folder in checked.items()})
    return checked


def _named_like_splits(root: Path) -> Mapping[str, str]:
    here = entries(root, ".")
    remedy = "Say which folder is which split, as in `folders: {train: FOLDER}`."
    found = recognised(root, [entry.name for entry in here if entry.is_dir()], remedy=remedy)
    if not found:
        return {"train": "."}
    loose = [entry for entry in here if entry.is_dir() or is_image(entry.name)]
    others = [entry.name for entry in loose if entry.name not in found.values()]
    if others:
        told = ", ".join(f"{split}: {name}" for split, name in found.items())
        raise DataError(
            f"{root}: found folders named like splits ({', '.join(found.values())}), and beside them {few(others)}. "
            f"Say which folder is which split: `folders: {{{told}}}` leaves the rest out, `folders: {{train: .}}` "
            "takes everything as one split."
        )
    return found


def recognised(where: Path, words: Iterable[str], *, remedy: str) -> dict[str, str]:
    """By split, the one of the words that is usual for it (see :data:`ALIASES`), in small or capital letters.

    Raises:
        DataError: two words mean the same split; it ends with the ``remedy``.
    """
    found: dict[str, str] = {}
    for word in words:
        split = _SPLIT_OF.get(word.lower())
        if split in found:
            raise DataError(
                f"{where}: found both '{found[split]}' and '{word}', allowed one of them, as both usually "
                f"mean the split {split}. {remedy}"
            )
        if split:
            found[split] = word
    return {split: found[split] for split in ALIASES if split in found}


def inside(root: Path, name: str, *, key: str) -> str:
    """A folder below ``root``, in its normal form. Raises :class:`DataError` if it is not there, or not inside."""
    folder = PurePosixPath(name)
    if folder.is_absolute() or ".." in folder.parts:
        raise DataError(f"{root}: {key}: found '{name}', allowed the path of a folder below it, without '..'.")
    if not (root / folder).is_dir():
        candidates = subfolders(root)
        raise DataError(
            f"{root}: {key}: found no folder '{name}' in it; its folders are {few(candidates)}."
            f"{nearest(name, candidates)} Correct `{key.partition('.')[0]}`."
        )
    if (root / folder).resolve() != root / folder:
        raise DataError(f"{root / folder}: is reached through a symbolic link. {NO_LINKS}")
    return folder.as_posix()


def apart(root: Path, folders: Mapping[str, str]) -> None:
    """Raise :class:`DataError` if one folder is another one or lies in it: its files would be taken twice."""
    for key, folder in folders.items():
        for other, above in folders.items():
            if key != other and PurePosixPath(folder).is_relative_to(above):
                raise DataError(
                    f"{root}: found '{folder}' ({key}) inside '{above}' ({other}), allowed folders without common "
                    "files. Name other folders, or move the files."
                )


def usual_words(where: Path, pattern: str, exists: Callable[[str], bool], *, remedy: str) -> dict[str, str]:
    """By split, the usual name that makes something exist when it takes the place of ``{split}`` in the pattern.

    A pattern without ``{split}`` is about ``train`` alone, with an empty name.

    Raises:
        DataError: nothing exists for any usual name, or for two of one split; it ends with the ``remedy``.
    """
    if SPLIT not in pattern:
        return {"train": ""}
    usual = [word for words in ALIASES.values() for word in words]
    found = recognised(where, [word for word in usual if exists(pattern.replace(SPLIT, word))], remedy=remedy)
    if not found:
        raise DataError(
            f"{where}: found nothing named '{pattern}', where {{split}} is one of {', '.join(usual)}. {remedy}"
        )
    return found
