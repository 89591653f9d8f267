"""The ``studies:`` section of params.yaml: what is wrong is named with its key, what was found, and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gen.errors import RecipeError
from pipelines.params import load
from pipelines.roles import PLACES


def reads(*paths: str) -> str:
    """The last path in all places that are left."""
    return f"reads: [{', '.join([*paths, *paths[-1:] * (PLACES - len(paths))])}]"


LATENTS = reads("models/plane/weights", "models/vae-digits/weights", "data/shards/digits")
GENERATORS = reads("models/plane/weights", "models/vae-digits/weights", "data/shards/digits", "data/judge/digits")
GOOD = f"""
datasets: {{digits: {{source: digits}}, others: {{source: digits}}}}
recipes:
  vae-digits: {{model: variational/vae, dataset: digits, space: binary_dynamic, training: {{images: 1000}}}}
  plane:
    {{model: variational/vae, dataset: digits, space: binary_dynamic, hyper: {{latents: 2}}, training: {{images: 99}}}}
  rbm-digits: {{model: boltzmann/rbm, dataset: digits, space: binary_dynamic, training: {{images: 1000}}}}
  factor-others: {{model: linear/factor, dataset: others, space: dequantized, training: {{images: 1000}}}}
  dcgan-digits: {{model: adversarial/dcgan, dataset: digits, space: signed, training: {{images: 1000}}}}
studies:
  latents:
    of: {{vae: vae-digits, plane: plane}}
    {LATENTS}
    options: {{side: 5}}
    seed: 3
  generators:
    of: {{autoencoder: plane, vae: vae-digits}}
    {GENERATORS}
  chains:
    of: {{rbm: rbm-digits}}
    {reads("models/rbm-digits/weights", "data/shards/digits")}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_a_good_section_is_read(tmp_path: Path) -> None:
    studies = load(written(tmp_path, GOOD)).studies
    assert list(studies) == ["latents", "generators", "chains"]
    cast = studies["latents"]
    assert list(cast.of.items()) == [("plane", "plane"), ("vae", "vae-digits")], "in the order of the signature"
    assert (cast.options, cast.seed) == ({"side": 5}, 3)
    assert studies["generators"].entry.judged and not cast.entry.judged


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  latents:",
            "  latent:",
            r"studies\.latent: there is no study 'latent'\. Allowed: .*Did you mean 'latents'\?",
        ),
        ("of: {vae:", "if: {vae:", r"studies\.latents\.if: unknown key\. Allowed: of, reads, options, seed\."),
        (
            "{vae: vae-digits, plane",
            "{vea: vae-digits, plane",
            r"latents\.of\.vea: unknown role\. .*Did you mean 'vae'",
        ),
        (
            "{vae: vae-digits, plane: plane}",
            "{vae: vae-digits}",
            r"studies\.latents\.of\.plane: missing\. Name the rec",
        ),
        ("{rbm: rbm-digits}", "{rbm: rbm-digit}", r"chains\.of\.rbm: there is no recipe 'rbm-digit'.*'rbm-digits'\?"),
        (
            "{rbm: rbm-digits}",
            "{rbm: vae-digits}",
            r"chains\.of\.rbm: the model of 'vae-digits', vae, has no pictures, .* Recipes whose models have: rbm-digi",
        ),
        (
            "autoencoder: plane",
            "autoencoder: dcgan-digits",
            r"generators\.of\.autoencoder: the model of 'dcgan-digits', dcgan, has no encode, decode, ",
        ),
        ("side: 5", "sides: 5", r"studies\.latents\.options\.sides: unknown key\. .*Did you mean 'side'\?"),
        ("side: 5", "side: many", r"studies\.latents\.options\.side: .*integer; found 'many'"),
        ("options: {side: 5}", "options: 5", r"studies\.latents\.options: expected keys and values; found 5"),
        ("seed: 3", "seed: three", r"studies\.latents\.seed: found 'three'; give a whole number"),
        (
            f"    {LATENTS}\n",
            "",
            r"latents\.reads: found None; .* it must be \[models/plane/weights, models/vae-digits/weights, data/shards/"
            r"digits, data/shards/digits, ",
        ),
        (
            "{rbm: rbm-digits}\n    reads: [models/rbm-digits",
            "{rbm: rbm-digits}\n    reads: [models/vae-digits",
            r"chains\.reads: found \['models/vae-digits/weights', .* must be \[models/rbm-digits/weights, data/sh",
        ),
        (GENERATORS, LATENTS, r"generators\.reads: .* data/shards/digits, data/judge/digits, "),
        ("autoencoder: plane", "autoencoder: factor-others", r"generators\.of: .* others, digits; distances compare"),
    ],
)
def test_bad_sections_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(RecipeError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
