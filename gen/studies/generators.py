"""Generators: what does a random code become, in an autoencoder and in a VAE?

Both have a decoder, so both look as if they could draw: put in a random code, take out an image. But an autoencoder was
never told which codes belong to images. Its own lie in a cloud of a scale and shape of its choice, and N(0, I) misses
them; a Gaussian fitted to the codes has the right scale and misses the shape. The VAE paid for its codes with
reconstructions that are a little worse, and gets a cloud that N(0, I) fills [1].

Everything is seen as grey, the mean of the pixels given the code, and measured in the features of the judge: FID to the
test images, beside that of as many training images.

[1] D. Kingma, M. Welling. Auto-Encoding Variational Bayes. 2014.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen.evaluate.judge import Judge, extract
from gen.model import Encodes
from gen.studies.canvas import BLUE, FAINT, ORANGE, drawing, rows
from gen.studies.study import Figure, Findings, Trained, spread, study


@study("generators")
@torch.no_grad()
def generators(
    *, autoencoder: Trained[Encodes], vae: Trained[Encodes], judge: Judge, seed: int, shown: int = 10
) -> Findings:
    """See module.

    Args:
        autoencoder: codes without a prior.
        vae: codes with the prior N(0, I).
        judge: of their data set.
        seed: of all that is drawn.
        shown: images of either kind drawn.
    """
    from gen.evaluate.distances import frechet_distance  # brings torchvision

    test = autoencoder.split("test")[0]
    count = len(test)
    codes = autoencoder.model.encode(autoencoder.images("train", seed=seed))
    x = {"autoencoder": autoencoder.images("test", seed=seed), "VAE": vae.images("test", seed=seed)}
    noise = torch.randn(count, codes.shape[1]), torch.randn(count, vae.model.encode(x["VAE"][:1]).shape[1])
    drawn = {
        "autoencoder\nN(0, I)": grey(autoencoder, noise[0]),
        "autoencoder\nfitted Gaussian": grey(autoencoder, coloured(noise[0], codes)),
        "VAE\nN(0, I)": grey(vae, noise[1]),
    }
    rebuilt = {
        "autoencoder": grey(autoencoder, autoencoder.model.encode(x["autoencoder"])),
        "VAE": grey(vae, vae.model.encode(x["VAE"])),
    }
    real, train = extract(judge, test)[0], autoencoder.split("train")[0]
    fid = {name: frechet_distance(real, extract(judge, images)[0]) for name, images in drawn.items()}
    again = {name: frechet_distance(real, extract(judge, images)[0]) for name, images in rebuilt.items()}
    floor = frechet_distance(real, extract(judge, train[spread(len(train), count)])[0])
    error = {name: float((images.double() - test).square().mean() / 255**2) for name, images in rebuilt.items()}
    some = spread(count, shown)
    free, fitted, own = fid.values()
    return Findings(
        figures={
            "samples": Figure(
                rows([[(name, images[:shown]) for name, images in drawn.items()]]),
                "Random codes decoded, not selected",
            ),
            "reconstructions": Figure(
                rows([[("test images", test[some]), *((name, images[some]) for name, images in rebuilt.items())]]),
                "Test images, and what is left of them",
            ),
            "distances": Figure(
                _bars(fid, floor), f"FID of {count:,} decoded codes to the test images, lower is better"
            ),
        },
        sentences=(
            f"Codes from N(0, I) give images of FID {own:.1f} in the VAE and {free:.1f} in the autoencoder, in which a "
            f"Gaussian fitted to its own codes gives {fitted:.1f}; training images have {floor:.1f}.",
            f"Reconstructed, a pixel of a test image is off by a mean square of {error['autoencoder']:.4f} in the "
            f"autoencoder, whose codes have a standard deviation of {float(codes.std()):.2f}, and of "
            f"{error['VAE']:.4f} in the VAE.",
        ),
        numbers={
            "fid": {
                "autoencoder_prior": free,
                "autoencoder_fitted": fitted,
                "vae_prior": own,
                "training_images": floor,
            },
            "fid_of_reconstructions": {"autoencoder": again["autoencoder"], "vae": again["VAE"]},
            "reconstruction_mse": {"autoencoder": error["autoencoder"], "vae": error["VAE"]},
            "code_std": float(codes.std()),
            "images": count,
        },
    )


def grey(trained: Trained[Encodes], codes: Tensor) -> Tensor:
    """Decoded codes, (B, K), as 8-bit images, uint8 (B, C, H, W)."""
    return torch.cat([trained.spec.space.decode(trained.model.decode(part)) for part in codes.split(1000)])


def coloured(noise: Tensor, codes: Tensor) -> Tensor:
    """Standard normal numbers, (B, K), with the mean and the covariance of codes, (N, K)."""
    values, U = torch.linalg.eigh(codes.double().T.cov())
    root = U * values.clamp(min=0).sqrt()  # codes that never move have no factor by Cholesky
    return (codes.double().mean(0) + noise.double() @ root.T).to(codes.dtype)


def _bars(fid: dict[str, float], floor: float) -> bytes:
    """FID of each, and the floor as a line."""
    with drawing(4.6, 2.2) as made:
        axes = made.axes(left=1.5, bottom=0.35, right=0.5)
        names = list(fid)[::-1]
        hues = [BLUE if name.startswith("VAE") else ORANGE for name in names]
        axes.barh(names, [fid[name] for name in names], height=0.6, color=hues)
        for place, name in enumerate(names):
            axes.text(fid[name], place, f" {fid[name]:.1f}", va="center", fontsize=9)
        axes.axvline(floor, color=FAINT, linewidth=1.2, linestyle=(0, (4, 2)))
        words = f"dashed: training images, {floor:.1f}"
        axes.text(1.0, 0.05, words, transform=axes.transAxes, fontsize=8.5, color=FAINT, ha="right")
        axes.tick_params(axis="y", labelcolor="#222222", labelsize=9)
    return made.png
