"""Write golden losses anew and show what changed.

python -m tests.golden.update [MODEL ...]        all models by default
"""

from __future__ import annotations

import argparse
import difflib
import tempfile
from pathlib import Path

from gen.registry import list_models
from gen.sources.digits import digits
from tests.golden.losses import losses, path, write
from tests.toys import write_toys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(list_models())}")
    names = parser.parse_args().models or list_models()
    if unknown := set(names) - set(list_models()):
        parser.error(f"unknown: {', '.join(sorted(unknown))}. Allowed: {', '.join(list_models())}.")
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        write_toys(digits(), shards)
        for name in names:
            file = path(name)
            before = file.read_text() if file.exists() else ""
            after = write(name, losses(name, shards))
            file.write_text(after)
            lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="", n=0)
            print(f"{name}: {'unchanged' if before == after else 'written'}", *lines, sep="\n")


if __name__ == "__main__":
    main()
