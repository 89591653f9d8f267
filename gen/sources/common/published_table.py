"""The data sets of torchvision that :func:`gen.sources.torchvision.torchvision` gives, one row each.

Where a data set comes in several variants, each of them is a row of its own, such as `EMNIST/letters`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gen.sources.common.published_contents import (
    DIGITS,
    Contents,
    caltech,
    celeba,
    emnist,
    grey,
    listed,
    omniglot,
    pairs,
    pets,
    planes,
)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A data set of torchvision.

    Attributes:
        loader: name of its class in `torchvision.datasets`.
        splits: by our name of a split, the arguments that select it.
        contents: what the loader's object holds.
        files: patterns below the root folder of all files that belong to it, and of no others.
        licence: the terms, as far as they are stated anywhere.
        citation: what to cite.
    """

    loader: str
    splits: Mapping[str, Mapping[str, Any]]
    contents: Callable[[Any], Contents]
    files: tuple[str, ...]
    citation: str
    licence: str = "not stated"


_BY_FLAG = {"train": {"train": True}, "test": {"train": False}}
_BY_NAME = {"train": {"split": "train"}, "test": {"split": "test"}}
_VAL = {"train": {"split": "train"}, "validation": {"split": "val"}, "test": {"split": "test"}}
_VALID = {"train": {"split": "train"}, "validation": {"split": "valid"}, "test": {"split": "test"}}
_WHOLE: Mapping[str, Mapping[str, Any]] = {"train": {}}


def _mnist(name: str) -> tuple[str, ...]:
    """Files of MNIST and what is stored like it; old versions of torchvision kept them as `processed` tensors."""
    return f"{name}/raw/*-ubyte", f"{name}/processed/*.pt"


_EMNIST = "Cohen, Afshar, Tapson, van Schaik: EMNIST: Extending MNIST to handwritten letters. IJCNN 2017"
_KRIZHEVSKY = "Krizhevsky: Learning multiple layers of features from tiny images. Technical report, 2009"
_NETZER = "Netzer et al.: Reading digits in natural images with unsupervised feature learning. NIPS workshop, 2011"
_COATES = "Coates, Lee, Ng: An analysis of single-layer networks in unsupervised feature learning. AISTATS 2011"
_HUANG = "Huang, Ramesh, Berg, Learned-Miller: Labeled faces in the wild. UMass Amherst 07-49, 2007"

CATALOGUE: Mapping[str, Row] = {
    "MNIST": Row(
        "MNIST",
        _BY_FLAG,
        grey,
        _mnist("MNIST"),
        "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition. "
        "Proceedings of the IEEE 86(11), 1998",
        "CC BY-SA 3.0 is the licence commonly attributed to the authors",
    ),
    "FashionMNIST": Row(
        "FashionMNIST",
        _BY_FLAG,
        lambda loaded: grey(loaded, loaded.classes),
        _mnist("FashionMNIST"),
        "Xiao, Rasul, Vollgraf: Fashion-MNIST. arXiv:1708.07747, 2017",
        "MIT",
    ),
    "KMNIST": Row(
        "KMNIST",
        _BY_FLAG,
        lambda loaded: grey(loaded, loaded.classes),
        _mnist("KMNIST"),
        "Clanuwat et al.: Deep learning for classical Japanese literature. arXiv:1812.01718, 2018",
        "CC BY-SA 4.0",
    ),
    "QMNIST": Row(
        "QMNIST",
        _BY_FLAG,
        lambda loaded: Contents(np.asarray(loaded.data)[..., None], loaded.targets[:, 0], DIGITS),
        ("QMNIST/raw/qmnist-*-ubyte", "QMNIST/raw/qmnist-*-int", "QMNIST/processed/*.pt"),
        "Yadav, Bottou: Cold case: The lost MNIST digits. NeurIPS 2019",
        "BSD-3-Clause",
    ),
    **{
        f"EMNIST/{split}": Row(
            "EMNIST",
            {name: {**flag, "split": split} for name, flag in _BY_FLAG.items()},
            emnist,
            (f"EMNIST/raw/emnist-{split}-*-ubyte", f"EMNIST/processed/*_{split}.pt"),
            _EMNIST,
        )
        for split in ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")
    },
    "USPS": Row(
        "USPS",
        _BY_FLAG,
        grey,
        ("usps.bz2", "usps.t.bz2"),
        "Hull: A database for handwritten text recognition research. IEEE TPAMI 16(5), 1994",
    ),
    "SEMEION": Row(
        "SEMEION",
        _WHOLE,
        lambda loaded: Contents(loaded.data[..., None], loaded.labels, DIGITS),
        ("semeion.data",),
        "Buscema: MetaNet: The theory of independent judges. Substance Use and Misuse 33(2), 1998",
    ),
    "Omniglot": Row(
        "Omniglot",
        {"train": {"background": True}, "test": {"background": False}},
        omniglot,
        ("omniglot-py/images_*/*/*/*.png",),
        "Lake, Salakhutdinov, Tenenbaum: Human-level concept learning through probabilistic program induction. "
        "Science 350, 2015",
        "MIT",
    ),
    "MovingMNIST": Row(
        "MovingMNIST",
        _WHOLE,
        lambda loaded: Contents(np.moveaxis(np.asarray(loaded.data), 2, -1)),
        ("MovingMNIST/mnist_test_seq.npy",),
        "Srivastava, Mansimov, Salakhutdinov: Unsupervised learning of video representations using LSTMs. ICML 2015",
    ),
    "CIFAR10": Row(
        "CIFAR10",
        _BY_FLAG,
        lambda loaded: Contents(loaded.data, loaded.targets, loaded.classes),
        ("cifar-10-batches-py/*_batch*", "cifar-10-batches-py/batches.meta"),
        _KRIZHEVSKY,
    ),
    "CIFAR100": Row(
        "CIFAR100",
        _BY_FLAG,
        lambda loaded: Contents(loaded.data, loaded.targets, loaded.classes),
        ("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta"),
        _KRIZHEVSKY,
    ),
    "SVHN": Row("SVHN", _BY_NAME, planes, ("train_32x32.mat", "test_32x32.mat"), _NETZER, "non-commercial use only"),
    "SVHN/extra": Row(
        "SVHN",
        {**_BY_NAME, "extra": {"split": "extra"}},
        planes,
        ("train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"),
        _NETZER,
        "non-commercial use only",
    ),
    "STL10": Row(
        "STL10",
        _BY_NAME,
        lambda loaded: planes(loaded, loaded.classes),
        ("stl10_binary/t*.bin", "stl10_binary/class_names.txt"),
        _COATES,
        "that of ImageNet: non-commercial research",
    ),
    "STL10/unlabelled": Row(
        "STL10",
        {"train": {"split": "unlabeled"}},
        lambda loaded: Contents(np.moveaxis(loaded.data, 1, -1)),
        ("stl10_binary/unlabeled_X.bin",),
        _COATES,
        "that of ImageNet: non-commercial research",
    ),
    "CelebA": Row(
        "CelebA",
        _VALID,
        celeba,
        ("celeba/*.txt", "celeba/img_align_celeba/*.jpg"),
        "Liu, Luo, Wang, Tang: Deep learning face attributes in the wild. ICCV 2015",
        "non-commercial research only",
    ),
    **{
        f"LFWPeople/{alignment}": Row(
            "LFWPeople",
            {name: {**split, "image_set": alignment} for name, split in _BY_NAME.items()},
            lambda loaded: Contents(loaded.data, loaded.targets, list(loaded.class_to_idx)),
            (f"lfw-py/{folder}/*/*.jpg", "lfw-py/peopleDev*.txt", "lfw-py/lfw-names.txt"),
            _HUANG,
        )
        for alignment, folder in {
            "original": "lfw",
            "funneled": "lfw_funneled",
            "deepfunneled": "lfw-deepfunneled",
        }.items()
    },
    "Caltech101": Row(
        "Caltech101",
        _WHOLE,
        lambda loaded: caltech(loaded, "101_ObjectCategories", lambda label, number: f"image_{number:04d}.jpg"),
        ("caltech101/101_ObjectCategories/[!B]*/*.jpg",),  # BACKGROUND_Google is no class
        "Fei-Fei, Fergus, Perona: Learning generative visual models from few training examples. CVPR workshop, 2004",
        "CC BY 4.0",
    ),
    "Caltech256": Row(
        "Caltech256",
        _WHOLE,
        lambda loaded: caltech(
            loaded, "256_ObjectCategories", lambda label, number: f"{label + 1:03d}_{number:04d}.jpg"
        ),
        ("caltech256/256_ObjectCategories/*/*.jpg",),
        "Griffin, Holub, Perona: Caltech-256 object category dataset. Technical report, 2007",
        "CC BY 4.0",
    ),
    "Flowers102": Row(
        "Flowers102",
        _VAL,
        listed,
        ("flowers-102/*.mat", "flowers-102/jpg/*.jpg"),
        "Nilsback, Zisserman: Automated flower classification over a large number of classes. ICVGIP 2008",
    ),
    "OxfordIIITPet": Row(
        "OxfordIIITPet",
        {"train": {"split": "trainval"}, "test": {"split": "test"}},
        pets,
        (
            "oxford-iiit-pet/images/*.jpg",
            "oxford-iiit-pet/annotations/t*.txt",
            "oxford-iiit-pet/annotations/trimaps/[!.]*.png",
        ),
        "Parkhi, Vedaldi, Zisserman, Jawahar: Cats and dogs. CVPR 2012",
        "CC BY-SA 4.0",
    ),
    "Food101": Row(
        "Food101",
        _BY_NAME,
        listed,
        ("food-101/meta/*.json", "food-101/images/*/*.jpg"),
        "Bossard, Guillaumin, Van Gool: Food-101: Mining discriminative components with random forests. ECCV 2014",
    ),
    "GTSRB": Row(
        "GTSRB",
        _BY_NAME,
        lambda loaded: pairs(loaded._samples, [f"{sign:05d}" for sign in range(43)]),
        ("gtsrb/GTSRB/Training/*/*.ppm", "gtsrb/GTSRB/Final_Test/Images/*.ppm", "gtsrb/GT-final_test.csv"),
        "Stallkamp, Schlipsing, Salmen, Igel: Man vs. computer. Neural Networks 32, 2012",
    ),
    "EuroSAT": Row(
        "EuroSAT",
        _WHOLE,
        lambda loaded: pairs(loaded.samples, loaded.classes),
        ("eurosat/2750/*/*.jpg",),
        "Helber, Bischke, Dengel, Borth: EuroSAT. IEEE J-STARS 12(7), 2019",
        "MIT",
    ),
    "DTD": Row(
        "DTD",
        _VAL,
        listed,
        ("dtd/dtd/labels/t*1.txt", "dtd/dtd/labels/val1.txt", "dtd/dtd/images/*/*.jpg"),
        "Cimpoi, Maji, Kokkinos, Mohamed, Vedaldi: Describing textures in the wild. CVPR 2014",
    ),
    **{
        f"Imagenette/{size}": Row(
            "Imagenette",
            {"train": {"split": "train", "size": size}, "validation": {"split": "val", "size": size}},
            lambda loaded: pairs(loaded._samples, [names[0] for names in loaded.classes]),
            (f"{folder}/train/*/*.JPEG", f"{folder}/val/*/*.JPEG"),
            "Howard: Imagenette. fast.ai, 2019; Deng et al.: ImageNet. CVPR 2009",
            "that of ImageNet: non-commercial research",
        )
        for size, folder in {"full": "imagenette2", "320px": "imagenette2-320", "160px": "imagenette2-160"}.items()
    },
    "FGVCAircraft": Row(
        "FGVCAircraft",
        _VAL,
        listed,
        ("fgvc-aircraft-2013b/data/*.txt", "fgvc-aircraft-2013b/data/images/*.jpg"),
        "Maji, Rahtu, Kannala, Blaschko, Vedaldi: Fine-grained visual classification of aircraft. arXiv, 2013",
        "non-commercial research only",
    ),
    "Country211": Row(
        "Country211",
        _VALID,
        lambda loaded: pairs(loaded.samples, loaded.classes),
        ("country211/*/*/*.jpg",),
        "Radford et al.: Learning transferable visual models from natural language supervision. ICML 2021",
    ),
}
