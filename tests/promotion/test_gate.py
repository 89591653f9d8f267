"""The gate: each check can fail, says why with its numbers, and one that cannot be made has failed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from gen.data.manifest import manifest_digest
from gen.data.reader import everything
from gen.errors import RecipeError, StoreError
from gen.evaluate.judge import save_judge, train_judge
from gen.model import GenerativeModel
from gen.registry import build, entry
from gen.store import save_model
from pipelines import cli
from pipelines.layout import Layout
from pipelines.params import Params, load
from pipelines.promotion import gate
from pipelines.promotion.moves import nominate, promote
from pipelines.promotion.verdicts import Verdict, table
from pipelines.tracking.registry import signature
from pipelines.tracking.sealed import MODEL, Fetched
from pipelines.tracking.server import TrackingError, client
from pipelines.tracking.shelf import Shelf, Version
from tests.promotion.registry import add_version
from tests.toys import TOY_HYPER, toy_spec

RECIPES = {"vae-toy": "variational/vae", "dcgan-toy": "adversarial/dcgan", "sparse-toy": "linear/sparse_coding"}
SPACES = {"vae-toy": "binary_dynamic", "dcgan-toy": "signed", "sparse-toy": "signed"}
SECTIONS: dict[str, Any] = {
    "datasets": {"digits": {"source": "digits"}},
    "recipes": {
        name: {"model": model, "dataset": "digits", "space": SPACES[name], "training": {"images": 100}}
        for name, model in RECIPES.items()
    },
    "evaluation": {"samples": 60},
    "gates": {
        "vae-toy": {"nats": {"at_least": -200}},
        "dcgan-toy": {"fid": {"at_most": 1e6}},
        "sparse-toy": {"reconstruction_mse": {"at_most": 1}},
    },
    "promotion": {
        "default": {"resamples": 200, "images": 4, "latency": {"images": 4, "at_most_seconds": 60}},
        "vae-toy": {"no_regression": {"nats": {"margin": 0.5}, "reconstruction_mse": {"margin": 0.1}}},
        "dcgan-toy": {"no_regression": {"fid": {"margin": 1e6}}},
        "sparse-toy": {"no_regression": {"reconstruction_mse": {"margin": 0.1}}},
    },
}


@dataclass
class Stand:
    """A project with shards and a judge, and versions that lie in folders instead of a registry."""

    layout: Layout
    store: Path
    tags: dict[str, str]

    def params(self, **changes: Any) -> Params:
        """The sections above, with others in their place."""
        with (self.layout.root / "params.yaml").open("w") as file:
            YAML().dump({**SECTIONS, **changes}, file)
        return load(self.layout.root / "params.yaml")

    def version(
        self, number: str, *, name: str = "vae-toy", change: Callable[[GenerativeModel], object] = lambda model: None
    ) -> Version:
        """A version whose files are those of a model as it is initialised, changed at will."""
        torch.manual_seed(0)
        model = build(RECIPES[name], toy_spec(entry(RECIPES[name]).name), **TOY_HYPER[entry(RECIPES[name]).name])
        with torch.no_grad():
            change(model)
        place = self.store / f"{name}-{number}"
        (place / MODEL).mkdir(parents=True)
        save_model(place / MODEL, model, name=RECIPES[name], hyper=TOY_HYPER[entry(RECIPES[name]).name])
        self.sign(place, signature())
        return Version(name, number, self.tags, "", "", 0)

    def sign(self, place: Path, signed: Any) -> None:
        """The signature of a version."""
        from mlflow.models import Model

        Model(signature=signed).save(str(place / "MLmodel"))

    def fetch(self, root: Path, name: str, version: str, into: Path) -> Fetched:
        """In place of the registry's."""
        shutil.copytree(self.store / f"{name}-{version}", into)
        return Fetched(name, version, self.tags, "5ea1" * 16, into)

    def examine(self, version: Version, champion: Version | None = None, **sections: Any) -> dict[str, Verdict]:
        """The verdicts by check."""
        found = gate.examine(self.layout, self.params(**sections), version, champion)
        assert len({verdict.check for verdict in found}) == len(found)
        return {verdict.check: verdict for verdict in found}


@pytest.fixture(scope="module")
def ground(toy_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Shards and a judge."""
    layout = Layout(tmp_path_factory.mktemp("gate"))
    shutil.copytree(toy_shards, layout.shards("digits"))
    images, labels = everything(toy_shards, "train")
    save_judge(layout.judge("digits"), train_judge(images, labels, everything(toy_shards, "test"), images_budget=640))
    return layout


@pytest.fixture
def stand(ground: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    tags = {"eval/nats": "-100.5", "eval/fid": "7.0", "eval/reconstruction_mse": "0.1"}
    found = Stand(ground, tmp_path, {**tags, "gen.manifest": manifest_digest(ground.shards("digits"))})
    monkeypatch.setattr(gate, "fetch", found.fetch)
    return found


def failed(verdicts: dict[str, Verdict]) -> set[str]:
    return {check for check, verdict in verdicts.items() if not verdict.passed}


def spoil(model: GenerativeModel) -> None:
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))


# ---- passing -------------------------------------------------------------------------------------------------------


def test_an_equal_version_passes_and_every_row_has_its_numbers(stand):
    found = stand.examine(stand.version("2"), stand.version("1"))
    assert not failed(found)
    assert list(found) == [
        "bar nats",
        "checksum",
        "signature",
        "smoke sample",
        "latency",
        "data",
        "no regression: nats",
        "no regression: reconstruction_mse",
    ]
    assert (found["bar nats"].required, found["bar nats"].found) == ("at least -200", "-100.5")
    assert found["checksum"].found == "seal 5ea15ea15ea1"
    assert found["smoke sample"].found == "4 x 1x12x12 uint8"
    assert found["latency"].found.endswith(" s")
    assert "thread(s), median of" in found["latency"].why
    assert found["data"].found == stand.tags["gen.manifest"][:12]
    row = found["no regression: nats"]
    assert row.required == "gain at least -0.5 at 95 %, higher is better"
    assert row.found == "gain +0 [+0, +0]"
    assert "of version 1" in row.why


def test_the_first_champion_has_nothing_to_fall_behind(stand):
    found = stand.examine(stand.version("1"))
    assert not failed(found)
    assert found["no regression"].found == "no champion yet"


def test_the_champion_again_is_not_compared_with_itself(stand):
    version = stand.version("1")
    assert stand.examine(version, version)["no regression"].found == "it is the champion"


def test_a_gan_is_compared_by_fid_and_a_dictionary_by_what_it_rebuilds(stand):
    found = stand.examine(stand.version("2", name="dcgan-toy"), stand.version("1", name="dcgan-toy"))
    assert not failed(found)
    assert found["no regression: fid"].required.endswith("lower is better")
    found = stand.examine(stand.version("2", name="sparse-toy"), stand.version("1", name="sparse-toy"))
    assert not failed(found)
    assert found["latency"].found == "draws no images"
    assert found["smoke sample"].found == "4 x 1x12x12 uint8"


# ---- failing -------------------------------------------------------------------------------------------------------


def test_a_worse_version_is_refused_with_the_interval(stand):
    found = stand.examine(stand.version("2", change=spoil), stand.version("1"))
    assert failed(found) == {"no regression: nats"}
    gain = float(found["no regression: nats"].found.split()[1])
    assert gain < -0.5
    found = stand.examine(
        replace(stand.version("3", change=spoil)),
        stand.version("4"),
        promotion={"default": {"images": 4}, "vae-toy": {"no_regression": {"nats": {"margin": 1000}}}},
    )
    assert not failed(found), "the margin decides"


@pytest.mark.parametrize(
    ("bars", "row", "found", "why"),
    [
        ({"nats": {"at_least": -90}}, "bar nats", "-100.5", ""),
        ({"nats": {"at_least": -200, "at_most": -150}}, "bar nats", "-100.5", ""),
        ({"coverage": {"at_least": 0.1}}, "bar coverage", "not recorded", "did not measure it"),
        ({}, "bar", "none", "gates.vae-toy"),
    ],
)
def test_bars_are_those_of_now_and_silence_is_not_a_pass(stand, bars, row, found, why):
    verdicts = stand.examine(stand.version("1"), gates={"vae-toy": bars})
    assert failed(verdicts) == {row}
    assert verdicts[row].found == found
    assert why in verdicts[row].why


def test_a_tag_that_is_no_number_is_no_score(stand):
    for text in ("nan", "inf", "much", "", "1 000", "0x10"):
        found = stand.examine(replace(stand.version(text.strip() or "0"), tags={**stand.tags, "eval/nats": text}))
        assert found["bar nats"].found == "not recorded"
        assert not found["bar nats"].passed


def test_files_that_are_not_as_registered_stop_everything_that_needs_them(stand, monkeypatch):
    version, champion = stand.version("2"), stand.version("1")

    asked = []

    def fetch(root: Path, name: str, number: str, into: Path) -> Fetched:
        asked.append(number)
        if number == "2":
            raise StoreError("models:/vae-toy/2: the weights were changed")
        return stand.fetch(root, name, number, into)

    monkeypatch.setattr(gate, "fetch", fetch)
    found = stand.examine(version, champion)
    rest = {"signature", "smoke sample", "latency", "no regression: nats", "no regression: reconstruction_mse"}
    assert failed(found) == {"checksum", *rest}
    assert [check for check, verdict in found.items() if verdict.binding] == ["checksum"]
    for check in ("checksum", *rest):
        assert found[check].found == "could not be made"
        assert "the weights were changed" in found[check].why
    assert asked == ["2"], "it is downloaded once"
    found = stand.examine(champion, version)
    assert failed(found) == {"no regression: nats", "no regression: reconstruction_mse"}, "nor is it compared with such"


def test_signatures_must_be_there_and_the_same(stand):
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    version = stand.version("1")
    place = stand.store / "vae-toy-1"
    stand.sign(place, ModelSignature(inputs=Schema([ColSpec("long", "count")])))
    assert stand.examine(version)["signature"].found == "another"
    stand.sign(place, None)
    found = stand.examine(version)
    assert failed(found) == {"signature"}
    assert found["signature"].found == "none"


def test_latency_is_judged_and_the_machine_is_named(stand):
    import platform

    strict = {"vae-toy": {"images": 2, "latency": {"images": 3, "at_most_seconds": 1e-9}}}
    found = stand.examine(stand.version("1"), promotion=strict)
    assert failed(found) == {"latency"}
    assert found["latency"].required == "3 images in at most 1e-09 s"
    assert platform.node() in found["latency"].why


def blacken(model: GenerativeModel) -> None:
    for name, parameter in model.named_parameters():
        parameter.zero_()
        if name.endswith("bias"):
            parameter.fill_(-1e4)


def diverge(model: GenerativeModel) -> None:
    for parameter in model.parameters():
        parameter.fill_(float("nan"))


@pytest.mark.parametrize(
    ("change", "found", "why"),
    [(blacken, "all of one colour", "nothing to see"), (diverge, "could not be made", "RuntimeError: ")],
)
def test_a_smoke_sample_must_show_something(stand, change, found, why):
    row = stand.examine(stand.version("1", change=change))["smoke sample"]
    assert not row.passed
    assert found in row.found
    assert why in row.why


def test_a_model_that_draws_from_elsewhere_than_the_seed_is_refused(stand, monkeypatch):
    drawn = iter(torch.arange(100, 200, dtype=torch.uint8))
    pictures = torch.arange(144, dtype=torch.uint8).view(1, 1, 12, 12).expand(4, -1, -1, -1)
    monkeypatch.setattr(gate, "draw", lambda *_, **__: pictures + next(drawn))
    row = stand.examine(stand.version("1"))["smoke sample"]
    assert not row.passed
    assert "others the second time" in row.found


@pytest.mark.parametrize("which", ["1", "2", "both"])
def test_other_data_do_not_compare(stand, which):
    versions = [stand.version(number) for number in "12"]
    other = {**stand.tags, "gen.manifest": "0" * 64}
    champion, version = (replace(v, tags=other) if which in (v.version, "both") else v for v in versions)
    found = stand.examine(version, champion)
    assert failed(found) == {"data", "no regression: nats", "no regression: reconstruction_mse"}
    assert "dvc checkout" in found["data"].why
    assert "000000000000" in found["data"].why


def test_a_comparison_that_is_not_declared_or_cannot_be_made_fails(stand, tmp_path):
    version, champion = stand.version("2"), stand.version("1")
    found = stand.examine(version, champion, promotion={"default": {"images": 4}})
    assert failed(found) == {"no regression"}
    assert "promotion.vae-toy.no_regression" in found["no regression"].why
    bare = Stand(Layout(tmp_path / "bare"), stand.store, stand.tags)
    shutil.copytree(stand.layout.shards("digits"), bare.layout.shards("digits"))
    found = bare.examine(version, champion)
    assert failed(found) == {"no regression: nats", "no regression: reconstruction_mse"}
    assert "judge.json: no such file" in found["no regression: nats"].why


def test_a_registry_that_is_away_is_no_verdict(stand, monkeypatch):
    def fetch(*_: object) -> Fetched:
        raise TrackingError("away")

    monkeypatch.setattr(gate, "fetch", fetch)
    with pytest.raises(TrackingError):
        stand.examine(stand.version("1"))


def test_a_model_without_a_recipe_has_no_gate(stand):
    with pytest.raises(RecipeError, match="no recipe 'vae-tay'"):
        stand.examine(replace(stand.version("1"), name="vae-tay"))


def test_the_table_shows_passed_and_failed(stand):
    rows = [
        Verdict("bar nats", "at least -90", "-100.5", False, "too little"),
        Verdict("data", "one", "abc", True),
        Verdict("bar fid", "at most 2", "2.5", False, "too little"),
    ]
    lines = table(rows).splitlines()
    assert lines[0].split() == ["check", "required", "found"]
    assert [line.split()[-1] for line in lines[1:4]] == ["FAILED", "passed", "FAILED"]
    assert lines[4:] == ["  bar nats, bar fid: too little"]


# ---- policy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"vae-tay": {}}, "there is no recipe 'vae-tay'. .* Did you mean 'vae-toy'?"),
        ({"vae-toy": {"no_regression": {"nets": {"margin": 1}}}}, "no_regression.nets: .* Did you mean 'nats'?"),
        ({"vae-toy": {"no_regression": {"nats": {"margn": 1}}}}, "no_regression.nats.margn: unknown key"),
        ({"vae-toy": {"no_regression": {"nats": {}}}}, "no_regression.nats.margin: missing"),
        ({"vae-toy": {"no_regression": {"nats": {"margin": -1}}}}, "no_regression.nats: margin: found -1"),
        ({"vae-toy": {"no_regression": {"nats": {"margin": "1"}}}}, "no_regression.nats.margin: .*found '1'"),
        ({"dcgan-toy": {"no_regression": {"nats": {"margin": 1}}}}, "DCGAN, .* Allowed: fid"),
        ({"default": {"no_regression": {"fid": {"margin": 1}}}}, "SparseCoding, .* Allowed: reconstruction_mse"),
        ({"vae-toy": {"latency": {"images": 0}}}, "vae-toy.latency: found 0 images"),
        ({"vae-toy": {"latency": {"at_most": 0}}}, "vae-toy.latency.at_most: unknown key"),
        ({"default": {"confidence": 95}}, "confidence: found 95"),
        ({"default": {"resamples": 100}}, "resamples: found 100; .* at least 200"),
        ({"default": {"images": 0}}, "images: found 0"),
        ({"default": {"seeds": 0}}, "default.seeds: unknown key"),
        ([], "promotion: expected keys and values"),
    ],
)
def test_the_policy_is_strict(stand, section, message):
    with pytest.raises(RecipeError, match=message):
        stand.params(promotion=section)


def test_a_recipe_takes_over_from_the_default_what_it_does_not_say(stand):
    policy = stand.params().promotion.policy("vae-toy")
    assert (policy.resamples, policy.images, policy.confidence) == (200, 4, 0.95)
    assert {score: margin.margin for score, margin in policy.no_regression.items()} == {
        "nats": 0.5,
        "reconstruction_mse": 0.1,
    }
    assert stand.params(promotion={}).promotion.policy("vae-toy").no_regression == {}


# ---- the command ---------------------------------------------------------------------------------------------------


def test_promote_prints_the_table_and_its_exit_code_tells(stand, capsys):
    """A first champion, a worse version refused, forced, and rolled back."""
    root, name = stand.layout.root, "vae-toy"
    stand.params()
    client(root).create_registered_model(name)
    for number, change in (("1", lambda model: None), ("2", spoil)):
        stand.version(number, change=change)
        assert add_version(root, name, **stand.tags, **{"gen.weights": number * 64}) == number

    def gen(*words: str) -> tuple[int, str]:
        code = cli.main(["--root", str(root), *words])
        return code, capsys.readouterr().out

    shelf = Shelf(root)
    nominate(shelf, name, "1")
    code, shown = gen("promote", name, "--dry-run")
    assert (code, shown.splitlines()[-1]) == (0, f"{name}: version 1 would become champion; nothing was moved.")
    code, shown = gen("promote", name)
    assert code == 0
    assert shown.splitlines()[-1] == f"{name}: version 1 is champion now."
    assert "no champion yet" in shown
    assert gen("promote", name)[1].strip() == f"{name}: version 1 is champion already."
    code, shown = gen("promote", f"{name}@2")
    assert code == 4
    assert "refused: 1 of 8 checks failed. Nothing was moved." in shown
    assert "FAILED" in shown
    code, shown = gen("promote", f"{name}@2", "--json")
    report = json.loads(shown)
    assert code == 4
    assert (report["refused"], report["moved"], report["version"]) == (True, False, "2")
    assert [row["check"] for row in report["verdicts"] if not row["passed"]] == ["no regression: nats"]
    assert gen("promote", f"{name}@2", "--force")[0] == 2
    code, shown = gen("promote", f"{name}@2", "--force", "--why", "demo")
    assert code == 0
    assert "by force: 1 of 8 checks failed" in shown
    assert "`gen rollback vae-toy` goes back to version 1" in shown
    assert gen("rollback", name) == (0, f"{name}: version 1 is champion again, version 2 is previous.\n")
    assert gen("history", name, "--verify")[0] == 0
    assert promote(shelf, name, gate=lambda *_: [], source="2").moved
