"""Fidelity: what there is to say about samples: distance, classes, memorisation, speed."""

from __future__ import annotations

from torch import Tensor

from gen.evaluate.bench import Bench, Measured, Score, paired
from gen.evaluate.classes import class_balance
from gen.evaluate.distances import density_coverage, frechet_distance, kernel_distance, precision_recall
from gen.evaluate.memorisation import memorisation
from gen.evaluate.samples import draw, independent_pixels, random_rows, sampling_speed
from gen.model import Samples

SHOWN = 64


def samples(model: Samples, bench: Bench) -> Measured:
    """Distance to test images, class balance, memorisation and speed of the samples."""
    n, batch, train = bench.num_samples, bench.batch_size, bench.train_view
    fake = draw(model, bench.spec, n, seed=bench.seed, batch_size=batch, condition=bench.conditions)
    candidates = {
        "": ("samples", fake),
        "_floor": ("training images", train[random_rows(len(train), n, seed=bench.seed)]),
        "_independent": ("independent pixels", independent_pixels(train, n, seed=bench.seed)),
    }
    scores: dict[str, Score] = {}
    real, classes = bench.judged(bench.test_view)
    if bench.test[1] is not None:
        scores |= _agreement(bench, "judge_accuracy", classes, bench.test[1])
    for suffix, (fakes, images) in candidates.items():
        features, classes = bench.judged(images)
        found = _distances(bench, real, features, fakes) | _classes(bench, classes, fakes)
        scores |= {f"{name}{suffix}": score for name, score in found.items()}
        if fakes == "samples" and bench.conditions is not None:
            scores |= _agreement(bench, "class_accuracy", classes, bench.conditions)
    ratio = scores["fid"]["value"] / scores["fid_independent"]["value"]
    scores["fid_ratio"] = Score(value=ratio, protocol=scores["fid"]["protocol"] | {"over": "fid_independent"})
    copied, neighbours = _memorisation(bench, fake)
    return scores | copied | _speed(model, bench), {"samples": fake[:SHOWN], "neighbours": neighbours}


def _agreement(bench: Bench, name: str, probabilities: Tensor, labels: Tensor) -> dict[str, Score]:
    """Share of images that the judge puts into the class they should be in."""
    share = float((probabilities.argmax(dim=1) == labels.cpu()).double().mean())
    return bench.scores({name: share}, n=len(labels), extractor=bench.extractor)


def _distances(bench: Bench, real: Tensor, fake: Tensor, fakes: str) -> dict[str, Score]:
    """FID and KID on all features; neighbour scores on as many real as fake, without which they mean little."""
    shared = {"split": "test", "extractor": bench.extractor, "fakes": fakes}
    everything = {"n_real": len(real), "n_fake": len(fake), **shared}
    kid = kernel_distance(real, fake, seed=bench.seed)
    subsets = {"subsets": kid.subsets, "subset_size": kid.subset_size}
    n = min(len(real), len(fake))
    even_real, even_fake = (x[random_rows(len(x), n, seed=bench.seed)] for x in (real, fake))
    precision, recall = precision_recall(even_real, even_fake, k=3)
    density, coverage = density_coverage(even_real, even_fake, k=5)
    even = {"n_real": n, "n_fake": n, **shared}
    return {
        **bench.scores({"fid": frechet_distance(real, fake)}, **everything),
        **bench.scores({"kid": kid.mean, "kid_std": kid.std}, **everything, **subsets),
        **bench.scores({"precision": precision, "recall": recall}, **even, k=3),
        **bench.scores({"density": density, "coverage": coverage}, **even, k=5),
    }


def _classes(bench: Bench, probabilities: Tensor, fakes: str) -> dict[str, Score]:
    """How the classes are balanced, against the labels of the training split; nothing where there are none."""
    labels = bench.train[1]
    if labels is None:
        return {}
    balance = class_balance(probabilities, labels)
    return bench.scores(
        {
            "min_class_share": balance.min_share,
            "class_kl": balance.kl,
            "classes_present": balance.present,
            "judge_confidence": balance.confidence,
        },
        n_real=len(labels),
        n_fake=len(probabilities),
        split="train",
        extractor=bench.extractor,
        fakes=fakes,
        shares=balance.shares,
        present_from=balance.threshold,
    )


def _memorisation(bench: Bench, fake: Tensor) -> tuple[dict[str, Score], Tensor]:
    """Scores in features and in pixels; and the samples nearest to training images, each before its neighbour."""
    train, test = bench.train_view, bench.test_view
    held_out = test[random_rows(len(test), len(fake), seed=bench.seed)]
    train_features, fake_features, held_out_features = (bench.judged(x)[0] for x in (train, fake, held_out))
    facts = {"n_train": len(train), "n_fake": len(fake), "n_held_out": len(held_out), "split": "train"}
    scores: dict[str, Score] = {}
    spaces = {
        "": (bench.extractor, train_features, fake_features, held_out_features),
        "_pixels": ("pixels", train.flatten(1), fake.flatten(1).float(), held_out.flatten(1).float()),
    }
    for suffix, (extractor, bank, of_samples, of_held_out) in spaces.items():
        found = memorisation(bank, of_samples, of_held_out)
        floor = memorisation(bank, of_held_out, of_held_out)
        values = {
            f"nearest_ratio{suffix}": found.ratio,
            f"auth_pct{suffix}": found.auth_pct,
            f"auth_pct{suffix}_floor": floor.auth_pct,
        }
        scores |= bench.scores(values, **facts, extractor=extractor)
        if not suffix:
            closest = found.distance.argsort()[: SHOWN // 2]
            neighbours = paired(fake[closest], train[found.neighbour[closest]])
    return scores, neighbours


def _speed(model: Samples, bench: Bench) -> dict[str, Score]:
    """Images per second, drawn singly and 64 at a time, up to 8-bit images on the CPU."""
    scores: dict[str, Score] = {}
    for batch in (1, 64):
        labels = None if bench.conditions is None else bench.conditions.repeat(batch)[:batch]
        speed = sampling_speed(model, bench.spec, batch, condition=labels)
        facts = {"batch": batch, "repeats": speed.repeats, "threads": speed.threads, "device": bench.home.device.type}
        scores |= bench.scores({f"images_per_second_{batch}": speed.images_per_second}, **facts)
    return scores
