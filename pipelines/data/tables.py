"""Plain text for terminals: aligned columns, sizes in bytes, and nothing that a terminal would obey."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], *, right: bool = False) -> str:
    """Rows of cells in aligned columns; with ``right`` all but the first are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        aligned = [cell.rjust(width) if right else cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        return "  ".join([row[0].ljust(widths[0]), *aligned[1:]]).rstrip()

    return "\n".join(map(line, rows))


def human_bytes(count: int) -> str:
    """A size as people read it: ``13.2 MB``."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{count} byte{'s' * (count != 1)}" if unit == "bytes" else f"{size:.1f} {unit}"


def printable(text: str) -> str:
    """A text from somebody else's file, safe to print: control characters become visible."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
