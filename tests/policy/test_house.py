"""The house in order: DVC's dependencies are the real ones, recipes are valid, the README's commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gen.registry import entry, list_models
from gen.studies.study import entry as study_entry
from gen.studies.study import list_studies
from pipelines import layout, params
from pipelines.cli import _parser
from pipelines.roles import PLACES
from tests.policy.test_imports import imports

ROOT = Path(__file__).parents[2]
DVC = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]


def test_a_train_stage_depends_on_the_code_its_run_is_named_after() -> None:
    """The run directory's hash and DVC must see the same changes, or one would resume what the other restarts."""
    deps = set(DVC["train"]["do"]["deps"])
    package = {f"gen/{path.name}" for path in (ROOT / "gen").glob("*.py")}
    assert package | {f"gen/{part}" for part in layout.SHARED_CODE} <= deps
    assert "gen/models/${item.model}.py" in deps


def test_a_shard_stage_depends_on_all_that_decides_what_shards_hold() -> None:
    """Everything of `gen.data` that the writer imports, itself or through others: an edit there is another writing."""
    found, waiting = set(), {"gen/shards/write.py"}
    while waiting:
        place = waiting.pop()
        found.add(place)
        modules = {f"{name.replace('.', '/')}.py" for name in imports(ROOT / place)}
        waiting |= {m for m in modules if m.startswith(("gen/data/", "gen/shards/")) and (ROOT / m).exists()} - found
    deps = set(DVC["shard"]["do"]["deps"])
    assert "gen/shards" in deps
    assert {place for place in found if place.startswith("gen/data/")} <= deps


def test_the_code_digest_sees_its_own_chapter_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    copy = tmp_path / "gen"
    shutil.copytree(ROOT / "gen", copy)
    monkeypatch.setattr(layout.gen, "__file__", str(copy / "__init__.py"))
    before = {name: layout.code_digest(entry(name).chapter) for name in list_models()}
    chapter = entry("vae").chapter
    with (copy / "models" / f"{chapter}.py").open("a") as file:
        file.write("\n# touched\n")
    after = {name: layout.code_digest(entry(name).chapter) for name in list_models()}
    assert [name for name in before if before[name] != after[name]] == ["vae"]


def test_every_recipe_is_valid_and_has_a_gate() -> None:
    loaded = params.load(ROOT / "params.yaml")
    assert set(loaded.gates) == set(loaded.recipes)
    assert {entry(r.model).name for r in loaded.recipes.values()} == set(list_models()), "each model has a recipe"


def test_the_tour_needs_its_recipes_and_no_others() -> None:
    loaded = params.load(ROOT / "params.yaml")
    tour = loaded.tour
    studies = [name for name, cast in loaded.studies.items() if set(cast.of.values()) <= set(tour)]
    assert [d for d in DVC["tour"]["deps"] if d.startswith("studies/")] == [f"studies/{name}" for name in studies]
    for folder, suffix in (("models", ""), ("scores", ""), ("registered", ".json")):
        named = [d for d in DVC["tour"]["deps"] if d.startswith(f"{folder}/")]
        assert named == [f"{folder}/{name}{suffix}" for name in tour]


def test_a_study_depends_on_what_it_reads_and_imports_and_on_no_other_study() -> None:
    deps = DVC["study"]["do"]["deps"]
    assert [dep for dep in deps if dep.startswith("${")] == [f"${{item.reads[{place}]}}" for place in range(PLACES)]
    shared = {"canvas", "importance", "study"}
    assert {dep for dep in deps if dep.startswith("gen/studies/")} == {
        "gen/studies/${key}.py",
        *(f"gen/studies/{name}.py" for name in shared),
    }
    trained = {"gen/model.py", "gen/errors.py", "gen/data/spaces.py"}  # what these change, training goes through
    for path in (ROOT / "gen/studies").glob("[!_]*.py"):
        assert path.stem in shared or study_entry(path.stem).file == path.name, "a study is named as its file"
        for name in imports(path):
            if name.startswith("gen."):
                place = f"{name.replace('.', '/')}.py"
                assert place in trained or any(place.startswith(dep) for dep in deps), f"{path.name}: {name}"


def test_every_study_is_in_the_table_of_contents_and_says_what_it_asks() -> None:
    files = {path.stem for path in (ROOT / "gen/studies").glob("[!_]*.py")}
    assert set(list_studies()) == files - {"canvas", "importance", "study"}
    for name in list_studies():
        title, _, question = study_entry(name).text.partition("\n")[0].partition(": ")
        assert title and question.endswith("?"), name


def test_stage_dependencies_exist() -> None:
    for stage in DVC.values():
        for dep in stage.get("do", stage)["deps"]:
            if "${" not in dep and dep.split("/")[0] in ("gen", "pipelines"):
                assert (ROOT / dep).exists(), dep


def test_commands_of_the_readme_exist() -> None:
    known = set(_parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in ("README.md", "CONTRIBUTING.md", "docs/data.md"):
        text = (ROOT / page).read_text().split("What is coming")[0]
        for block in re.findall(r"```(?:sh|bash|console)?\n(.*?)```", text, re.S) + re.findall(r"`([^`\n]+)`", text):
            for line in block.splitlines():
                words = line.strip().removeprefix("$ ").split()
                if words[:1] == ["gen"] and len(words) > 1 and words[1].isalpha():
                    assert words[1] in known, f"{page}: {line}"
                if words[:1] == ["make"] and len(words) > 1:
                    assert words[1] in targets, f"{page}: {line}"


def test_no_path_of_one_machine() -> None:
    for path in [*ROOT.glob("*.*"), *(ROOT / "gen").rglob("*.py"), *(ROOT / "pipelines").rglob("*.*")]:
        if path.is_file() and path.suffix in (".py", ".md", ".yaml", ".toml", ".j2"):
            assert not re.search(r"(?<![\w.])/(home|root|Users|work)/\w", path.read_text()), path
