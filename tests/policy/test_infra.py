"""infra/ and the pages about it hold together: every file, flag, version and command they name is there."""

from __future__ import annotations

import fnmatch
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import gen
from tests.commandlines import hinted, in_blocks, in_script, inline, understood
from tests.compose import INFRA, VARIABLE, compose, example_variables, words

ROOT = INFRA.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(
    line.split("==") for line in (INFRA / "constraints.txt").read_text().splitlines() if not line.startswith("#")
)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = sorted([*INFRA.rglob("*.sbatch"), *INFRA.rglob("*.sh"), ROOT / ".ci" / "run"])
ALL_SET = {name: value or "secret" for name, value in example_variables().items()} | {"POSTGRES_PASSWORD": "p4ssw0rd"}
VARIANTS = {"the least": {"POSTGRES_PASSWORD": "p4ssw0rd"}, "all that can be set": ALL_SET}


def yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text())


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0]  # type: ignore[index]


# ---- versions ------------------------------------------------------------------------------------------------------


def test_every_dependency_is_pinned_in_order() -> None:
    assert list(PINS) == [line.split("==")[0] for line in sorted((f"{n}=={v}" for n, v in PINS.items()), key=str.lower)]
    pinned = {normal(name) for name in PINS}
    asked = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    assert {normal(distribution(requirement)) for requirement in asked} <= pinned


def test_development_has_what_every_extra_brings() -> None:
    extras = PROJECT["optional-dependencies"]
    assert {*extras["optuna"], *extras["server"]} <= set(extras["dev"])


def test_every_file_beside_the_code_is_installed_with_it() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package in ("gen", "pipelines"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                place = path.relative_to(ROOT / package)
                assert any(place.match(pattern.removeprefix("**/")) for pattern in data.get(package, [])), path


# ---- compose -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", VARIANTS.values(), ids=VARIANTS)
def test_the_server_is_started_with_flags_it_has(given: dict[str, str]) -> None:
    import mlflow.cli

    name, command, *arguments = words(compose(**given)["services"]["tracking"]["command"])
    assert (name, command) == ("mlflow", "server")
    mlflow.cli.server.make_context("server", arguments)


@pytest.mark.parametrize("given", VARIANTS.values(), ids=VARIANTS)
def test_the_compose_file_names_what_there_is(given: dict[str, str]) -> None:
    read = compose(**given)
    for name, service in read["services"].items():
        image, _, tag = service["image"].partition(":")
        expected = PINS["mlflow"] if image == "gen-tracking" else r"\d+\.\d+[\w.-]*"
        assert re.fullmatch(expected, tag), f"{name}: {service['image']} is not pinned to a version"
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith(".") and source != "./backups":
                assert (INFRA / source).exists(), source
            assert source.startswith(".") or source in read["volumes"], source
        assert set(service.get("depends_on", ())) <= set(read["services"])
        assert {config["source"] for config in service.get("configs", ())} <= set(read["configs"])
        for word in [*words(service.get("entrypoint", [])), *words(service.get("command", []))]:
            assert "p4ssw0rd" not in word, f"{name}: everybody on the machine can read a command line"
            if word.startswith("/tracking/"):
                assert (INFRA / word[1:]).is_file(), word
    build = read["services"]["tracking"]["build"]
    assert (INFRA / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    assert f"AS {build['target']}" in (ROOT / build["dockerfile"]).read_text()
    for name in ("postgres", "tracking"):
        assert read["services"][name]["user"] not in ("root", "0")
        assert read["services"][name]["healthcheck"]["test"]


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    text = (INFRA / "compose.yaml").read_text()
    used = {match[0] for match in VARIABLE.findall(text)} | set(re.findall(r"^ +([A-Z_0-9]+):(?: *#.*)?$", text, re.M))
    assert used == set(example_variables()) - {"COMPOSE_PROFILES"}, "COMPOSE_PROFILES is Compose's own"


def test_without_a_password_nothing_starts() -> None:
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        compose()


# ---- images --------------------------------------------------------------------------------------------------------


def test_the_images_are_made_of_what_there_is() -> None:
    text = (INFRA / "Dockerfile").read_text()
    kept = [line[1:] for line in (INFRA / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [word for line in re.findall(r"^COPY (.*)$", text, re.M) for word in line.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in kept, f"{source} is not sent to the builder"
    installed = re.search(r"pip install -c infra/constraints.txt (mlflow.*?)\s*\\", text)
    wanted = {"mlflow", *map(distribution, PROJECT["optional-dependencies"]["server"])}
    assert {distribution(word.strip("'")) for word in installed[1].split()} == wanted  # type: ignore[index]


# ---- clusters ------------------------------------------------------------------------------------------------------


def test_the_cluster_launcher_takes_the_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config
    from ray.scripts.scripts import start

    config = yaml(INFRA / "ray" / "cluster.yaml")
    validate_config(prepare_config(config))
    assert config["min_workers"] == config["max_workers"] == len(config["provider"]["worker_ips"])
    for command in [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]:
        start.make_context("start", command.split("ray start ")[1].split())


def test_the_kubernetes_job_fits_the_project() -> None:
    job, volume = yaml(INFRA / "ray" / "rayjob.yaml"), yaml(INFRA / "ray" / "volume.yaml")
    assert understood(job["spec"]["entrypoint"])
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == PINS["ray"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == f"gen:{gen.__version__}"
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounted) == {entry["name"] for entry in pod["volumes"]}
        assert mounted["project"] in job["spec"]["entrypoint"].split()
        claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
        assert claims == [volume["metadata"]["name"]]


def test_the_slurm_script_starts_a_sweep_on_every_node(tmp_path: Path) -> None:
    """With stand-ins for Slurm's commands, and one for `ray` that shows what it was given."""
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "activate").write_text('export PATH="$PWD/.venv/bin:$PATH"\n')
    stand_ins = {
        "scontrol": "printf 'node-7\\nnode-8\\nnode-9\\n'",
        "srun": 'while [ "$1" != ray ]; do shift; done; exec "$@"',
        "ray": 'stat -c %a "$RAY_AUTH_TOKEN_PATH"; wc -c <"$RAY_AUTH_TOKEN_PATH"; echo "$RAY_AUTH_MODE"; echo ray "$@"',
        "python": f'exec {sys.executable} "$@"',
    }
    for name, line in stand_ins.items():
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    slurm = {"SUBMIT_DIR": str(tmp_path), "JOB_NODELIST": "node-[7-9]", "JOB_ID": "42", "CPUS_PER_TASK": "16"}
    environment = {"PATH": "/usr/bin:/bin", **{f"SLURM_{name}": value for name, value in slurm.items()}}
    script = ["bash", str(INFRA / "slurm" / "sweep.sbatch")]
    done = subprocess.run(
        [*script, "dcgan-digits", "--trials", "64"], env=environment, capture_output=True, text=True, check=True
    )
    mode, size, kind, command = done.stdout.splitlines()
    assert (mode, size.strip(), kind) == ("600", "65", "token")
    own, _, sweep = command.partition(" -- ")
    assert own == "ray symmetric-run --address node-7:6379 --min-nodes 3 --num-cpus 16"
    assert understood(sweep), sweep
    assert "--address node-7:6379" in sweep
    assert list((tmp_path / "runs").iterdir()) == [], "the token outlives the job"
    assert "usage" in subprocess.run(script, env=environment, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_read_by_their_shells(path: Path) -> None:
    shell = re.search(r"(bash|sh)$", path.read_text().splitlines()[0])[1]  # type: ignore[index]
    subprocess.run([shell, "-n", str(path)], check=True)
    assert path.suffix == ".sbatch" or path.stat().st_mode & stat.S_IXUSR


# ---- what pages say ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_in_pages_are_commands(path: Path) -> None:
    text = path.read_text()
    assert [line for line in in_blocks(text) if not understood(line)] == []
    assert [code for code in inline(text) if not hinted(code)] == []


def test_commands_in_infra_are_commands() -> None:
    for path in INFRA.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert [line for line in in_script(path.read_text()) if "$" not in line and not understood(line)] == [], (
                path
            )


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_named_in_pages_exist(path: Path) -> None:
    text = path.read_text()
    for place in re.findall(r"(?:docs|infra|tests|benchmarks|pipelines|gen)/[\w./*-]*\w\.[a-z]+\b", text):
        assert any(fnmatch.filter([place], place)) and list(ROOT.glob(place)), f"{path.name}: {place}"
    for link in re.findall(r"\]\(([^)#:\s]+)\)", text):
        assert (path.parent / link).exists(), f"{path.name}: {link}"
