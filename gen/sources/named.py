"""Images whose file names say what is known of them, as in UTKFace: `25_1_3_20170104222823975.jpg` is a woman of 25.

    options: { pattern: "{age}_{gender}_{race}_*", label: gender, classes: [male, female], attributes: [age] }

A field may be the class, or a number; the others only have to be there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from string import Formatter

from gen.data.sample import Collection
from gen.errors import DataError, nearest
from gen.sources.common.fields import labels_of, number, sorted_classes
from gen.sources.common.listing import SUFFIXES, Item, collection, directory, few, images_in, read_item
from gen.sources.common.splits import split_folders

Fields = Mapping[str, str]


def named(
    path: Path,
    *,
    pattern: str,
    label: str = "",
    attributes: Sequence[str] = (),
    classes: Sequence[str] = (),
    skip_unmatched: bool = False,
    folders: Mapping[str, str] | None = None,
) -> Collection:
    """Image files, in any depth, whose names follow a pattern.

    Args:
        path: the folder.
        pattern: see :func:`compiled`. It is held against the file's name, without the suffix unless the pattern ends
            in one. A pattern with a ``/``, such as ``{kind}/{age}_*``, is held against the folder's name too.
        label: the field that is the class; none if empty.
        attributes: fields that are numbers.
        classes: names of the classes, in the order of the labels; the field then holds a name or its index from 0 on.
            By default the values themselves, sorted, whole numbers by size.
        skip_unmatched: leave out files that do not match, instead of an error.
        folders: by split, its sub-folder, see :func:`~gen.sources.common.splits.split_folders`.

    Raises:
        DataError: the pattern is none, a field is not in it, a name does not match, or a value is not as it must be.
    """
    root = directory(path)
    regex = compiled(pattern)
    for key, fields in {"label": [label] if label else [], "attributes": attributes}.items():
        for field in fields:
            if field not in regex.groupindex:
                raise DataError(
                    f"{root}: {key}: found '{field}', allowed are the fields of the pattern '{pattern}': "
                    f"{', '.join(regex.groupindex) or 'none'}.{nearest(field, regex.groupindex)}"
                )
    if classes and not label:
        raise DataError(f"{root}: classes: found {few(classes)} without `label`. Name the field that is the class.")

    matched: dict[str, dict[str, Fields]] = {}
    unmatched: list[str] = []
    for split, place in split_folders(root, folders).items():
        matched[split] = {}
        for name in images_in(root, place):
            match = regex.fullmatch(_told(name, pattern))
            if match:
                matched[split][name] = match.groupdict()
            else:
                unmatched.append(name)
        if not matched[split] or (unmatched and not skip_unmatched):
            raise DataError(
                f"{root}: pattern: '{pattern}' does not match {len(unmatched):,} files, such as {few(unmatched)}. "
                "Correct the pattern or the names; `skip_unmatched: true` leaves some such files out, not all of them."
            )

    values = {found[label] for split in matched.values() for found in split.values()} if label else set()
    names = list(classes) or sorted_classes(values)
    labels = labels_of(values, names)
    strangers = sorted(values - labels.keys())
    if strangers:
        raise DataError(
            f"{root}: label: the field '{label}' holds {few(strangers)}, allowed are the names in `classes` "
            f"({', '.join(names)}) or else their indices, 0 to {len(names) - 1}. Correct `classes`, `pattern` or the "
            "names of the files."
        )
    items = {
        split: [
            Item(
                name,
                labels[found[label]] if label else None,
                attributes=tuple(_attribute(root / name, key, found[key]) for key in attributes),
            )
            for name, found in files.items()
        ]
        for split, files in matched.items()
    }
    left_out = f"; {len(unmatched):,} files with other names are left out" if unmatched else ""
    origin = f"image files of a folder, with names like {pattern}{left_out}"
    return collection(path, origin, read_item, items, classes=names, attributes=attributes)


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern, with a group for each field.

    ``{field}`` is the text, at least one character, up to the first place where what follows it in the pattern occurs;
    ``*`` is any text, also none; neither crosses a ``/``. Everything else stands for itself (``{{`` for a brace).

    Raises:
        DataError: a field has no name or one that is used twice, or follows another without a text between.
    """

    def refuse(reason: str) -> DataError:
        return DataError(
            f"pattern: found '{pattern}': {reason}. Allowed are fields {{name}} with different names, * and texts "
            "between them, as in '{age}_{gender}_{race}_*'."
        )

    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        raise refuse(str(error).lower()) from None
    regex, names = "", set[str]()
    for k, (text, name, spec, conversion) in enumerate(parts):
        regex += "[^/]*?".join(map(re.escape, text.split("*")))
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion or name in names:
            raise refuse(f"the field '{name}' has no proper name of its own")
        names.add(name)
        ends = parts[k + 1][0].split("*")[0] if k + 1 < len(parts) else ""
        if k + 1 < len(parts) and not ends:
            raise refuse(f"the field '{name}' must be followed by a text")
        # Atomic: where a field ends is decided once, so that no name takes long to be refused.
        stop = f"(?!{re.escape(ends)})" if ends else ""
        regex += f"(?P<{name}>(?>(?:{stop}[^/])+))"
    return re.compile(regex, re.DOTALL)


def _told(name: str, pattern: str) -> str:
    """The part of a file's path that the pattern is about."""
    path = PurePosixPath(name)
    if not pattern.lower().endswith(SUFFIXES):
        path = path.with_suffix("")
    return "/".join(path.parts[-pattern.count("/") - 1 :])


def _attribute(file: Path, field: str, text: str) -> float:
    try:
        return number(text)
    except ValueError:
        raise DataError(
            f"{file}: found '{text}' for the attribute '{field}', allowed a number. Correct the name of the file, or "
            "the pattern."
        ) from None
