"""The course of the benchmark: who is measured on what, what is printed, and which claims hold."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.data import cases, machine, memory, readers, resume, writers

BATCH = 64
MAPPED, RESIDENT, WRITING, BANDWIDTH, RESUME_S = 20.0, 5.0, 3.0, 0.7, 0.05


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        read: images to read, by their height.
        written: images to write, by their height.
        seconds: that a reader is timed in a round.
        rounds: times that everyone has a turn.
        remembered: images of which memory is measured, and at ten times as many.
        workers: numbers of them to read with.
    """

    read: dict[int, int]
    written: dict[int, int]
    seconds: float
    rounds: int
    remembered: int
    workers: tuple[int, ...]


FULL = Scale({28: 8_192, 32: 8_192, 64: 4_096}, {28: 16_000, 32: 12_000, 64: 6_000}, 0.25, 3, 3_000, (0, 1, 2))
QUICK = Scale({28: 4_096, 32: 4_096, 64: 2_048}, {28: 6_000, 32: 4_000, 64: 3_000}, 0.1, 3, 500, (0,))


class Report:
    """Prints what is found and keeps it."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.claims: list[dict[str, Any]] = []

    def claim(self, what: str, found: str, holds: bool) -> None:
        """Print and keep what was found of a claim."""
        print(f"    {what}: {found}: {'holds' if holds else 'DOES NOT HOLD'}", flush=True)
        self.claims.append({"claim": what, "found": found, "holds": holds})


# ---- (a) to (c): reading ---------------------------------------------------------------------------------------------


def reading(report: Report, root: Path, scale: Scale) -> None:
    if find_spec("litdata") is None:
        print("without LitData, which is not installed: pip install -e '.[bench]'")
    copied = machine.copy_rate()
    print(f"memory to memory, one thread: {copied / 1e9:.1f} GB/s")
    report.results |= {"copied_bytes_per_s": copied, "reading": {}}
    for shape in cases.SHAPES:
        data = images_for(scale.read[shape[0]], shape)
        for encoding in cases.ENCODINGS:
            with tempfile.TemporaryDirectory(dir=root) as folder:
                case = cases.build(Path(folder), data, encoding)
                rates = readers.compare(case, BATCH, scale.workers, scale.seconds, scale.rounds)
                show_reading(case, rates)
                report.results["reading"][case.name] = {
                    name: {str(workers): rate._asdict() for workers, rate in found.items()}
                    for name, found in rates.items()
                }
                per_core = {name: found[0].cpu for name, found in rates.items()}
                if encoding == "npy":
                    claim_raw(report, case, per_core)
                else:
                    claim_decoded(report, case, per_core)
                if (shape, encoding) == (cases.SHAPES[0], "npy"):
                    resuming(report, case, scale)


def images_for(count: int, shape: tuple[int, int, int]) -> cases.Labelled:
    root = os.environ.get("GEN_REAL_DATA")
    return cases.real(Path(root), count, shape) if root else cases.synthetic(count, shape)


def show_reading(case: cases.Case, rates: readers.Reading) -> None:
    size = sum(map(len, case.files)) / len(case.files)
    print(f"\n{case.name}: {len(case.files):,} files of {size:,.0f} bytes; samples/s and, of mapped, times")
    print(f"    {'':24}" + "".join(f"{f'{workers} workers':>18}" for workers in rates["mapped"]))
    for name, found in rates.items():
        cells = [f"{rate.wall:11,.0f} {rates['mapped'][w].wall / rate.wall:5.1f}x" for w, rate in found.items()]
        print(f"    {name:24}" + "".join(f"{cell:>18}" for cell in cells))


def claim_raw(report: Report, case: cases.Case, per_core: dict[str, float]) -> None:
    mapped, resident = per_core["mapped"], per_core["resident"]
    if case.shape == cases.SHAPES[0]:
        ratio = mapped / max(per_core["webdataset"], per_core["webdataset, bytes"])
        what = f"(a) {case.name}: mapped at least {MAPPED:.0f} times webdataset"
        report.claim(what, f"{ratio:.1f} times", ratio >= MAPPED)
    bare = machine.gather_rate(torch.from_numpy(case.data.images).movedim(-1, 1).contiguous(), BATCH)
    report.results.setdefault("bare_index_select", {})[case.name] = bare
    moved = resident * case.data.images[0].nbytes
    report.claim(
        f"(b) {case.name}: resident at least {RESIDENT:.0f} times mapped, or {BANDWIDTH:.0%} of index_select",
        f"{resident / mapped:.1f} times, {resident / bare:.0%} ({moved / 1e9:.1f} GB/s)",
        resident >= RESIDENT * mapped or resident >= BANDWIDTH * bare,
    )


def claim_decoded(report: Report, case: cases.Case, per_core: dict[str, float]) -> None:
    peers = {name: rate for name, rate in per_core.items() if name != "mapped"}
    fastest = max(peers, key=lambda name: peers[name])
    ratio = per_core["mapped"] / peers[fastest]
    report.claim(f"(c) {case.name}: at least the fastest peer", f"{ratio:.2f} times {fastest}", ratio >= 1)


# ---- (d) to (f) ------------------------------------------------------------------------------------------------------


def resuming(report: Report, case: cases.Case, scale: Scale) -> None:
    seconds = resume.compare(case, BATCH, scale.rounds)
    million = resume.order_seconds(1_000_000)
    report.results["resume_s"] = {**seconds, "order of a million": million}
    print(f"    first batch from the middle of {len(case.files):,}: ", end="")
    print(", ".join(f"{name} {1e3 * value:,.1f} ms" for name, value in seconds.items()))
    report.claim(
        f"(d) within {1e3 * RESUME_S:.0f} ms",
        f"{1e3 * seconds['ours']:.1f} ms; a million images add {1e3 * million:.1f} ms",
        seconds["ours"] + million <= RESUME_S,
    )


def memory_taken(report: Report, root: Path, scale: Scale) -> None:
    print("\nmemory at the peak, 64 x 64 colour, npy")
    with tempfile.TemporaryDirectory(dir=root) as folder:
        found = memory.compare(Path(folder), scale.remembered)
    report.results["memory"] = {what: [peak._asdict() for peak in peaks] for what, peaks in found.items()}
    for what, peaks in found.items():
        for peak in peaks:
            print(f"    {what} {peak.samples:,} samples, {peak.stored / 1e6:,.0f} MB: ", end="")
            print(f"{peak.private / 1e6:.1f} MB; {peak.all / 1e6:.0f} MB with torch and cached pages of the tars")
        text = " and ".join(f"{peak.private / peak.bound:.0%} of {peak.bound / 1e6:.1f} MB" for peak in peaks)
        holds = all(peak.private <= peak.bound for peak in peaks)
        report.claim(f"(e) {what}: at most 16 MB and 400 bytes a sample", text, holds)


def writing(report: Report, root: Path, scale: Scale) -> None:
    with tempfile.TemporaryDirectory(dir=root) as folder:
        disk = writers.disk_rate(Path(folder), 1 << 24, 16)
    report.results["disk_bytes_per_s"], report.results["writing"] = disk, {}
    print(f"\nwriting, samples/s; plain files of 17 MB, synced: {disk / 1e6:,.0f} MB/s")
    for shape in cases.SHAPES:
        data = images_for(scale.written[shape[0]], shape)
        for encoding in ("npy", "png"):
            with tempfile.TemporaryDirectory(dir=root) as folder:
                rates, size = writers.compare(Path(folder), data, encoding, scale.rounds)
            name = cases.title(shape, encoding)
            report.results["writing"][name] = {who: rate._asdict() for who, rate in rates.items()}
            print(f"    {name:24}" + "".join(f"{who}: {rate.wall:,.0f}   " for who, rate in rates.items()))
            theirs = rates["webdataset, 1 writer"].wall
            for count in ("1 writer", "2 writers"):
                ours = rates[f"ours, {count}"].wall
                report.claim(
                    f"(f) {name}, {count}: at least {WRITING:.0f} times a ShardWriter, or {BANDWIDTH:.0%} of the disk",
                    f"{ours / theirs:.1f} times, {ours * size / disk:.0%}",
                    ours >= WRITING * theirs or ours * size >= BANDWIDTH * disk,
                )


def main(description: str) -> None:
    """Measure, print and judge everything."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes: fewer images, no workers")
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    scale, report = QUICK if arguments.quick else FULL, Report()
    report.results |= {
        "command": " ".join(["python -m benchmarks.data", *sys.argv[1:]]),
        "machine": machine.description(),
        "torchvision_decoders": readers.COMPILED,
        "images": "real" if "GEN_REAL_DATA" in os.environ else "synthetic",
        "batch": BATCH,
        "scale": asdict(scale),
    }
    with tempfile.TemporaryDirectory() as folder:
        reading(report, Path(folder), scale)
        memory_taken(report, Path(folder), scale)
        writing(report, Path(folder), scale)
    failed = [each["claim"] for each in report.claims if not each["holds"]]
    print(f"\n{len(report.claims) - len(failed)} of {len(report.claims)} claims hold", *failed, sep="\n    not: ")
    if arguments.json:
        arguments.json.write_text(json.dumps({**report.results, "claims": report.claims}, indent=1) + "\n")
