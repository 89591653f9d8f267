"""``gen data``: pull and shard data sets, check, look at, browse and repair their shards."""

from __future__ import annotations

import argparse
import inspect
import json
from pathlib import Path
from typing import Any

from gen.errors import DataError, RecipeError
from pipelines.command import adder
from pipelines.data.tables import human_bytes, printable
from pipelines.layout import Layout

EPILOG = """\
exit codes:
  0 sound and done   2 the command or params.yaml is wrong   3 data missing or damaged   75 busy, try again
"""
_SHOWN = 10  # lost samples in a text; all are in the JSON


def add_data_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands to the parser of ``gen data``, which prints its help without one."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(work=lambda arguments, layout: parser.print_help())
    command = adder(parser.add_subparsers(title="commands", metavar="COMMAND"), json=True)

    sources = command("sources", _sources, "list the kinds of sources", "Or show one in full, with its options.")
    sources.add_argument("source", nargs="?", metavar="SOURCE")

    pull = command("pull", _pull, "fetch a data set of params.yaml", "What the stage `pull` does.")
    pull.add_argument("name", metavar="NAME", help="a name under `datasets` in params.yaml")

    shard = command("shard", _shard, "write a pulled data set as shards", "What the stage `shard` does.")
    shard.add_argument("name", metavar="NAME", help="a name under `datasets` in params.yaml")
    shard.add_argument("--writers", type=int, metavar="N", help="processes that write (default: one for each core)")

    verify = command("verify", _verify, "find every damage to shards", "Exits with 3 if there is any.")
    verify.add_argument("names", nargs="*", metavar="NAME", help="data sets or directories (default: all with shards)")
    verify.add_argument("--fast", action="store_true", help="look at names, sizes and indices; do not read the tars")

    look = command("inspect", _inspect, "show what a data set holds", "Numbers, a contact sheet and mean images.")
    look.add_argument("name", metavar="NAME", help="a data set, or a directory of shards")
    look.add_argument("--split", help="to draw (default: train)")
    look.add_argument("--out", type=Path, metavar="DIR", help="where the pictures go (default: inspect-NAME)")
    look.add_argument("--seed", type=int, default=0, help="of the samples that are drawn (default: 0)")

    browse = command("ls", _ls, "browse a tar without unpacking it", "Also a tar without an index.")
    browse.add_argument("name", metavar="NAME|TAR", help="a data set, a directory of shards, or a tar")
    browse.add_argument("--split", help="of the data set (default: train)")
    browse.add_argument("--shard", type=int, metavar="K", help="number of the shard (default: 0, or that of the key)")
    browse.add_argument("--limit", type=int, default=20, metavar="N", help="samples to list (default: 20)")
    browse.add_argument("--key", help="show this sample in full")
    browse.add_argument("--save", type=Path, metavar="FILE", help="write a member of that sample to a new file")
    browse.add_argument("--member", metavar="EXT", help="which one (default: the image)")

    mend = command("repair", _repair, "mend what the source still allows", "Exits with 3 if anything stays damaged.")
    mend.add_argument("name", metavar="NAME", help="a name under `datasets` in params.yaml")
    mend.add_argument("--writers", type=int, metavar="N", help="processes that write (default: one for each core)")
    mend.add_argument("--dry-run", action="store_true", help="say what would be done; change nothing")


def _print(as_json: bool, facts: Any, text: str) -> None:
    print(json.dumps(facts, indent=2) if as_json else text)


def _sources(arguments: argparse.Namespace, layout: Layout) -> None:
    from gen.sources.catalogue import SOURCES, options, source, wants

    def first_line(name: str) -> str:
        return (inspect.getdoc(inspect.getmodule(SOURCES[name])) or "").partition("\n")[0]

    if arguments.source is None:
        facts: Any = [{"source": name, "summary": first_line(name)} for name in SOURCES]
        _print(arguments.json, facts, "\n".join(f"{each['source']:18} {each['summary']}" for each in facts))
        return
    function, name = source(arguments.source), arguments.source
    facts = {
        "source": name,
        "path": "required" if wants(name).required else "optional" if wants(name).kind else "none",
        "options": {
            key: "required" if each.default is each.empty else repr(each.default) for key, each in options(name).items()
        },
    }
    text = "\n\n".join(inspect.getdoc(part) or "" for part in (inspect.getmodule(function), function))
    listed = "\n".join(f"  {key} = {value}" for key, value in facts["options"].items())
    _print(arguments.json, facts, f"{text}\n\npath: {facts['path']}\noptions:\n{listed or '  none'}")


def _pull(arguments: argparse.Namespace, layout: Layout) -> None:
    from gen.files import read_json
    from gen.sources.pull import RECEIPT
    from pipelines.pull import pull

    pull(arguments.name, layout)
    path = layout.raw(arguments.name) / RECEIPT
    receipt = read_json(path, error=DataError)
    files, size = len(receipt["files"]), sum(size for size, _ in receipt["files"].values())
    facts = {"name": arguments.name, "receipt": str(path), "counts": receipt["counts"], "files": files, "bytes": size}
    counts = ", ".join(f"{count:,} {split}" for split, count in receipt["counts"].items())
    held = f" in {files:,} files, {human_bytes(size)}" if files else ""
    _print(arguments.json, facts, f"{arguments.name}: {counts}{held}")


def _shard(arguments: argparse.Namespace, layout: Layout) -> None:
    from gen.data.manifest import read_manifest
    from pipelines.shard import shard

    shard(arguments.name, layout, processes=arguments.writers)
    root = layout.shards(arguments.name)
    manifest = read_manifest(root)
    shards = [each for split in manifest.splits.values() for each in split.shards]
    facts = {
        "name": arguments.name,
        "root": str(root),
        "digest": manifest.digest,
        "samples": {name: split.samples for name, split in manifest.splits.items()},
        "quarantined": {name: len(split.quarantined) for name, split in manifest.splits.items()},
        "shards": len(shards),
        "bytes": sum(each.tar.bytes for each in shards),
    }
    counts = ", ".join(f"{split.samples:,} {name}" for name, split in manifest.splits.items())
    left_out = sum(len(split.quarantined) for split in manifest.splits.values())
    more = f"; {left_out:,} samples could not be read: `gen data inspect` lists them" if left_out else ""
    _print(
        arguments.json,
        facts,
        f"{arguments.name}: {counts} in {len(shards):,} tars, {human_bytes(facts['bytes'])}{more}\n{manifest.digest}",
    )


def _verify(arguments: argparse.Namespace, layout: Layout) -> int:
    from gen.shards.verify import verify
    from pipelines.data.places import all_places, place
    from pipelines.progress import Bar

    places = [place(name, layout) for name in arguments.names] or all_places(layout)
    found, lines = [], []
    for each in places:
        with Bar(f"verify {each.name}", unit="samples") as bar:
            damages = verify(each.root, arguments.fast, progress=bar.update)
        found.append(
            {
                "name": each.name,
                "root": str(each.root),
                "sound": not damages,
                "damages": [
                    {"kind": one.kind, "file": str(one.file), "message": one.message, "lost": list(one.lost)}
                    for one in damages
                ],
            }
        )
        lines += [f"{each.name}: {one.kind}: {printable(one.message)}{_lost(one.lost)}" for one in damages]
        if not damages:
            lines.append(f"{each.name}: {'looks sound' if arguments.fast else 'sound'}")
    sound = all(each["sound"] for each in found)
    _print(arguments.json, {"sound": sound, "fast": arguments.fast, "datasets": found}, "\n".join(lines))
    return 0 if sound else DataError.exit_code


def _lost(keys: tuple[str, ...]) -> str:
    more = f" and {len(keys) - _SHOWN:,} more (--json)" if len(keys) > _SHOWN else ""
    return f"\n    lost: {printable(', '.join(keys[:_SHOWN]))}{more}" if keys else ""


def _inspect(arguments: argparse.Namespace, layout: Layout) -> None:
    from pipelines.data.inspection import inspect
    from pipelines.data.places import place

    found = place(arguments.name, layout)
    out = arguments.out or Path(f"inspect-{found.root.resolve().name}")
    facts, text = inspect(found.name, found.root, out, split=arguments.split, seed=arguments.seed)
    _print(arguments.json, facts, text)


def _ls(arguments: argparse.Namespace, layout: Layout) -> int:
    from pipelines.data.browse import ls, save, show
    from pipelines.data.places import opened_tar

    if arguments.limit < 1:
        raise RecipeError(f"--limit: found {arguments.limit}; it must be at least 1.")
    if arguments.key is None and (arguments.save or arguments.member):
        raise RecipeError("--save and --member: say which sample with --key.")
    with opened_tar(arguments.name, layout, split=arguments.split, number=arguments.shard, key=arguments.key) as opened:
        if arguments.save:
            size = save(opened, arguments.key, arguments.member, arguments.save)
            _print(arguments.json, {"file": str(arguments.save), "bytes": size}, f"{arguments.save}: {size:,} bytes")
            return 0
        facts, text, sound = ls(opened, arguments.limit) if arguments.key is None else show(opened, arguments.key)
    _print(arguments.json, facts, text)
    return 0 if sound else DataError.exit_code


def _repair(arguments: argparse.Namespace, layout: Layout) -> int:
    from pipelines.data.repairing import repair

    facts, text, sound = repair(arguments.name, layout, processes=arguments.writers, dry_run=arguments.dry_run)
    _print(arguments.json, facts, text)
    return 0 if sound else DataError.exit_code
