"""params.yaml: what is wrong is named with its file and key, what was found, and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gen.errors import RecipeError
from pipelines.params import load

GOOD = """
datasets:
  digits: {source: digits}
recipes:
  vae-digits:
    model: variational/vae
    dataset: digits
    space: binary_dynamic
    hyper: {latents: 8}
    optim: {model: {lr: 1e-3}}
    training: {images: 1000, batch: 50}
gates:
  vae-digits: {nats: {at_least: -125}}
resources:
  default: {workers: [1, 2]}
sweeps:
  vae-digits: {objective: {maximize: eval/nats_elbo}, every: 500, space: {optim.model.lr: {uniform: [1e-4, 1e-2]}}}
tour: [vae-digits]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    params = load(written(tmp_path, GOOD))
    recipe = params.recipe("vae-digits")
    assert (recipe.training.images, recipe.hyper, recipe.optim["model"]["lr"]) == (1000, {"latents": 8}, 1e-3)
    assert params.resources_of("vae-digits").span == (1, 2)
    assert params.gates["vae-digits"]["nats"].at_least == -125
    assert [d.key for d in params.sweeps["vae-digits"].dimensions] == ["optim.model.lr"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch: 50", "batchs: 50", r"recipes\.vae-digits\.training\.batchs: unknown key\. .*Did you mean 'batch'\?"),
        ("batch: 50", "batch: fifty", r"recipes\.vae-digits\.training\.batch: .*integer; found 'fifty'"),
        ("batch: 50", "batch: '50'", r"recipes\.vae-digits\.training\.batch: .*integer; found '50'"),
        ("batch: 50", "batch: 0", r"recipes\.vae-digits\.training: training\.batch: found 0; it must be at least 1"),
        ("batch: 50", "batch: 50, slices: 3", r"training\.slices: a batch of 50 .* 3 equal slices"),
        ("images: 1000, ", "", r"recipes\.vae-digits\.training\.images: missing"),
        ("variational/vae", "variational/vea", r"recipes\.vae-digits\.model: there is no model 'variational/vea'"),
        ("variational/vae", "vae", r"name the chapter, 'variational/vae'"),
        ("binary_dynamic", "signed", r"recipes\.vae-digits\.space: vae does not live in 'signed'\. Allowed: binary_dy"),
        ("binary_dynamic", "binary", r"recipes\.vae-digits\.space: 'binary' is not a space\. .*Did you mean 'binary_"),
        ("latents: 8", "latent: 8", r"recipes\.vae-digits\.hyper\.latent: unknown key\. .*Did you mean 'latents'\?"),
        ("latents: 8", "latents: many", r"recipes\.vae-digits\.hyper\.latents: .*integer; found 'many'"),
        (
            "dataset: digits",
            "dataset: digit",
            r"there is no data set 'digit'\. Allowed: digits\. Did you mean 'digits'",
        ),
        ("at_least", "atleast", r"gates\.vae-digits\.nats\.atleast: unknown key\. .*Did you mean 'at_least'\?"),
        ("sweeps:\n  vae-digits", "sweeps:\n  vae-digit", r"sweeps: there is no recipe 'vae-digit'\. .*Did you mean"),
        (
            "{optim.model.lr: {uniform: [1e-4, 1e-2]}}",
            "3",
            r"sweeps\.vae-digits\.space: expected keys and values; found 3",
        ),
        ("uniform:", "unifrom:", r"sweeps\.vae-digits\.space\.optim\.model\.lr\.unifrom: unknown kind\. .*'uniform'"),
        ("tour: [vae-digits]", "tour: [vae-digit]", r"tour: there is no recipe 'vae-digit'\. .*Did you mean"),
        ("gates:", "gate:", r"gate: unknown section\. .*Did you mean 'gates'\?"),
        ("workers: [1, 2]", "workers: [2, 1]", r"resources\.workers: found \(2, 1\); give 0, n >= 1, or \[lo, hi\]"),
        ("workers: [1, 2]", "workers: -1", r"resources\.workers: found -1"),
        ("recipes:", "recipes: [", r"is not valid YAML"),
        ("    hyper:", "    hyperr:", r"recipes\.vae-digits\.hyperr: unknown key\. .*Did you mean 'hyper'\?"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(RecipeError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_and_a_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        load(tmp_path / "params.yaml")
    with pytest.raises(RecipeError, match="Did you mean 'vae-digits'"):
        load(written(tmp_path, GOOD)).recipe("vae-digit")
