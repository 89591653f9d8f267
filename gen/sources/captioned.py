"""Images with a table that says more of them: the field's `imagefolder` convention.

    PATH/train/metadata.jsonl    {"file_name": "0001.png", "text": "a red square", "size": 3, "kind": "square"}
    PATH/train/0001.png ...

Instead of metadata.jsonl there may be metadata.csv, with a line of headings.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from gen.data.sample import Collection
from gen.errors import DataError, nearest
from gen.sources.common.fields import class_of, number, sorted_classes
from gen.sources.common.listing import Item, collection, directory, few, images_in, read_item
from gen.sources.common.splits import split_folders

_TABLES = ("metadata.jsonl", "metadata.csv")
_KEY = "file_name"

Row = dict[str, Any]


class _Columns(NamedTuple):
    """The columns that are used."""

    text: str
    attributes: Sequence[str]
    label: str


def captioned(
    path: Path,
    *,
    text: str = "text",
    attributes: Sequence[str] = (),
    label: str = "",
    folders: Mapping[str, str] | None = None,
) -> Collection:
    """Image files, in any depth, with a table in each split's folder. The table and the files must agree.

    Args:
        path: the folder.
        text: the column that is the caption; none if empty.
        attributes: columns that are numbers.
        label: the column that is the class, a text or a whole number; none if empty. The classes are the values that
            occur in any split, sorted, whole numbers by size.
        folders: by split, its sub-folder, see :func:`~gen.sources.common.splits.split_folders`.

    Raises:
        DataError: a table is missing or damaged, a file is in the table and not in the folder or the other way round,
            or a value is not as it must be.
    """
    root = directory(path)
    columns, tables, splits = _Columns(text, attributes, label), [], {}
    for split, place in split_folders(root, folders).items():
        table = _table(root, place)
        rows = _by_file(root, place, table)
        splits[split] = [_item(name, where, row, columns) for name, (where, row) in rows.items()]
        tables.append(table)
    classes = sorted_classes({kind for items in splits.values() for _, kind in items}) if label else []
    labels = {name: k for k, name in enumerate(classes)}
    return collection(
        path,
        "image files of a folder, with metadata",
        read_item,
        {split: [item._replace(label=labels.get(kind)) for item, kind in items] for split, items in splits.items()},
        classes=classes,
        attributes=attributes,
        also=tables,
    )


def _table(root: Path, place: str) -> str:
    found = [name for name in _TABLES if (root / place / name).is_file()]
    if len(found) != 1:
        raise DataError(
            f"{root / place}: found {' and '.join(found) or 'no table'}, allowed one of {' and '.join(_TABLES)} in the "
            "folder of each split. Write or remove one; images without a table are read by `source: folder`."
        )
    return (PurePosixPath(place) / found[0]).as_posix()


def _by_file(root: Path, place: str, table: str) -> dict[str, tuple[str, Row]]:
    """The table's lines by file, in the order of the files; each with what to call it in a message."""
    images, rows = images_in(root, place), dict[str, tuple[str, Row]]()
    path = root / table
    start = f"{path}: line "
    for line, row in _jsonl(path) if path.suffix == ".jsonl" else _csv(path):
        where = f"{start}{line}"
        name = row.get(_KEY)
        if not isinstance(name, str) or not name:
            raise DataError(f"{where}: found {name!r} as `{_KEY}`, allowed the name of an image file. Write it there.")
        file = (PurePosixPath(place) / name).as_posix()
        if file in rows:
            raise DataError(f"{where}: {name} is also in {rows[file][0].rpartition(': ')[2]}. Remove one of the lines.")
        rows[file] = (where, row)
    known = set(images)
    missing = [name for name in rows if name not in known]
    if missing:
        raise DataError(
            f"{path}: names {len(missing):,} images that are not there ({few(missing)}). Restore the images or "
            "remove their lines."
        )
    unnamed = [name for name in images if name not in rows]
    if unnamed:
        raise DataError(
            f"{path}: does not name {len(unnamed):,} of {len(images):,} images in its folder ({few(unnamed)}). "
            "Add a line for each of them, or remove them."
        )
    return {name: rows[name] for name in images}


def _item(name: str, where: str, row: Row, columns: _Columns) -> tuple[Item, str]:
    """What a line says of a file, and the name of its class, as the labels are known only when all lines are."""

    def column(option: str, key: str) -> Any:
        if key not in row:
            none = f' (`{option}: ""` for none)' if option != "attributes" else ""
            raise DataError(
                f"{where}: found no column '{key}', which `{option}` names; its columns are {few(row, 10)}."
                f"{nearest(key, row)} Correct `{option}`{none}, or the table."
            )
        return row[key]

    caption = column("text", columns.text) if columns.text else None
    if columns.text and not isinstance(caption, str):
        raise DataError(
            f"{where}: found {caption!r} in column '{columns.text}', allowed a text as caption. Correct the line."
        )
    numbers = []
    for key in columns.attributes:
        value = column("attributes", key)
        try:
            numbers.append(number(value))
        except ValueError:
            raise DataError(
                f"{where}: found {value!r} in column '{key}', allowed a finite number as attribute. Correct the line."
            ) from None
    kind = column("label", columns.label) if columns.label else ""
    try:
        return Item(name, caption=caption, attributes=tuple(numbers)), class_of(kind) if columns.label else ""
    except ValueError:
        raise DataError(
            f"{where}: found {kind!r} in column '{columns.label}', allowed a text or a whole number as label. "
            "Correct the line."
        ) from None


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text, as they are; raises :class:`DataError` if it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # it may begin with a byte order mark
            yield from file
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not a text in UTF-8 ({error.reason}). Convert it to UTF-8.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}. Restore it, or pull the data again.") from None


def _jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    for line, contents in enumerate(_lines(path), start=1):
        if not contents.strip():
            continue
        try:
            row = json.loads(contents)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {line}: is not valid JSON: {error}. Correct the line.") from None
        if not isinstance(row, dict):
            raise DataError(
                f"{path}: line {line}: found {contents.strip()[:40]}, allowed {{...}} in each line. Correct it."
            )
        yield line, row


def _csv(path: Path) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(_lines(path), strict=True)
    try:
        headings = list(reader.fieldnames or ())
        if len(set(headings)) < len(headings):
            raise DataError(f"{path}: line 1: found a heading twice among {few(headings, 10)}. Rename or remove one.")
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"{path}: line {reader.line_num}: found more or fewer values than the {len(headings)} headings, "
                    "allowed one for each. Correct the line."
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{path}: line {reader.reader.line_num}: is not valid CSV: {error}. Correct the line."
        ) from None
