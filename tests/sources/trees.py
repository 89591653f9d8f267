"""Small folders of images for the tests of sources that read files, and what must hold of every such source."""

import pickle
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from gen.data.sample import Collection, Sample


def png(value: int = 0, shape: tuple[int, ...] = (4, 5)) -> bytes:
    """A PNG of one grey value."""
    file = BytesIO()
    Image.fromarray(np.full(shape, value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def plant(root: Path, *names: str, contents: bytes | None = None) -> Path:
    """Write files; each image has contents of its own, so that none can be taken for another."""
    for k, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(k) if contents is None else contents)
    return root


def samples(collection: Collection, split: str = "train") -> list[Sample]:
    """All samples of a split, checked against what is known of it without reading."""
    found = collection.splits[split]
    read = [found.samples[k] for k in range(len(found))]
    labels = [sample.label for sample in read]
    assert labels == ([None] * len(read) if found.labels is None else found.labels.tolist())
    assert all(len(sample.attributes) == len(collection.attributes) for sample in read)
    return read


def origins(collection: Collection) -> dict[str, list[str]]:
    """What the source calls its samples, by split."""
    return {split: [sample.origin for sample in samples(collection, split)] for split in collection.splits}


_ELSEWHERE = """
import pickle, sys
split, k = sys.argv[1], int(sys.argv[2])
sample = pickle.load(sys.stdin.buffer).splits[split].samples[k]
sys.stdout.buffer.write(pickle.dumps(sample))
"""


def read_elsewhere(collection: Collection, split: str, k: int) -> Sample:
    """The sample as another process reads it, which works in another directory."""
    command = [sys.executable, "-c", _ELSEWHERE, split, str(k)]
    done = subprocess.run(command, input=pickle.dumps(collection), capture_output=True, check=True, cwd="/")
    found = pickle.loads(done.stdout)
    assert isinstance(found, Sample)
    return found


def same(a: Sample, b: Sample) -> bool:
    """Whether two samples are equal, pixel by pixel."""
    pictures = [(np.asarray(x), np.asarray(y)) for x, y in ((a.image, b.image), (a.target, b.target))]
    return all(np.array_equal(x, y) for x, y in pictures) and (a.label, a.caption, a.attributes, a.origin) == (
        b.label,
        b.caption,
        b.attributes,
        b.origin,
    )
