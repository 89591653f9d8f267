"""How fast are images read, written and resumed, and in how much memory? Against three peers, in the same run.

    pip install -e '.[bench]'                       # LitData; without it that peer is left out
    python -m benchmarks.data [--quick] [--json FILE]

Images of 28 x 28 grey levels and of 32 x 32 and 64 x 64 colours, stored as raw arrays, PNG and JPEG; with 0, 1 and 2
workers: threads that read ahead in ours, processes in the others. Everyone reads the same bytes in batches of 64 and
gives uint8 images with their labels. All take turns; medians over the rounds are printed. The images are synthetic, or
MNIST and CIFAR-10 where ``GEN_REAL_DATA`` names the directory that holds them. Compared:

    mapped              our shards through their indices, in random order, the crc32 of every sample checked
    resident            our shards held in memory
    webdataset          the same tars, decoded and put into batches, in stored order
    webdataset, bytes   the same tars, only walked through
    folder              torchvision's DatasetFolder with a file for each image, and torch's DataLoader
    arrays              a data set like torchvision's CIFAR10: an array in memory, and torch's DataLoader
    tensors             torch's TensorDataset and DataLoader
    litdata             LitData's chunks and StreamingDataLoader

What is claimed:

(a) mapped raw images of 28 x 28 are read at least 20 times as fast as WebDataset reads them, or merely walks past them
(b) resident ones at least 5 times as fast as mapped, or as fast as memory allows: 70 % of a bare ``index_select``
(c) PNG and JPEG at least as fast per core as the fastest peer
(d) the first batch from the middle of an epoch is there within 50 ms, the shards opened anew
(e) reading and writing take at most 16 MB and 400 bytes for each sample, also at ten times the data
(f) writing, by one process or two, is at least 3 times as fast as a ShardWriter of WebDataset, which is one process, or
    as fast as the disk allows: 70 % of plain files, synced. Two ShardWriters at once are shown too

Rates of (a) to (c) are without workers and count CPU seconds, which other programs on the machine disturb least. Where
torchvision's own operators cannot be loaded (a build of torch for CPUs beside torchvision from PyPI) the peers decode
with Pillow; where they can, LitData uses them, and ``folder`` is measured with both. MosaicML Streaming is no peer:
what it requires (NumPy below 2.2, transformers, the libraries of three clouds) cannot be installed beside the rest.
"""

from __future__ import annotations

if __name__ == "__main__":  # and only then: the processes that write import this file again, and need nothing of it
    from benchmarks.data.report import main

    main(__doc__)
