"""How data are read changes no bit of what is trained: in memory, mapped, read ahead, or streamed from bad servers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gen.data.manifest import read_manifest
from gen.data.reading import Reading
from gen.errors import DataError, RecipeError
from gen.recipe import Recipe
from gen.shards.adopt import adopt_tars
from gen.shards.write import Format, write_shards
from gen.train import events
from tests.contracts.runs import run, run_in_processes, state, worst
from tests.contracts.test_training import free_port
from tests.remote.servers import HONEST, Fault, http_server
from tests.toys import toy_digits, toy_recipe

DRAWS = ("shuffle", "blocks(2)", "balanced")
FAULTS = [Fault(status=503), HONEST, Fault(drop=3_000), HONEST, Fault(short=9_000), HONEST, Fault(stated=100)]


@pytest.fixture(scope="module")
def shards(digits_data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy digits in shards of 50."""
    root = tmp_path_factory.mktemp("reading") / "shards"
    write_shards(toy_digits(digits_data), root, form=Format(samples=50))
    return root


def recipe(draw: str) -> Recipe:
    return toy_recipe("vae", draw=draw, augment=("shift(1)",), images=320)


@pytest.fixture(scope="module")
def golden(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What comes of each draw from data in memory."""
    return {draw: run(recipe(draw), shards, tmp_path_factory.mktemp("golden")) for draw in DRAWS}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(("prefetch", "threads"), [(0, 1), (1, 1), (3, 2)])
def test_mapped_and_read_ahead(shards, golden, tmp_path, draw, prefetch, threads) -> None:
    reading = Reading(resident_bytes=0, prefetch=prefetch, threads=threads)
    assert_equal(run(recipe(draw), shards, tmp_path, reading=reading), golden[draw])


def test_the_draws_differ(golden) -> None:
    first, second, third = (golden[draw] for draw in DRAWS)
    assert worst(first, second) > 0 and worst(second, third) > 0


@pytest.mark.parametrize("draw", DRAWS)
def test_stopped_and_resumed(shards, golden, tmp_path, draw) -> None:
    """The state of the reader is the number of images seen: a resume at any step goes on with the next sample."""
    reading = Reading(resident_bytes=0)
    for stop_after in (3, 4):
        run(recipe(draw), shards, tmp_path, stop_after=stop_after, reading=reading)
    assert_equal(run(recipe(draw), shards, tmp_path, reading=reading), golden[draw])


@pytest.fixture
def streamed(shards: Path, tmp_path: Path):
    """The same tars on a server whose first answers are bad, known here by their manifest and indices alone."""
    manifest = read_manifest(shards)
    files = {
        f"{split}/{shard.tar.name}": (shards / split / shard.tar.name).read_bytes()
        for split, info in manifest.splits.items()
        for shard in info.shards
    }
    with http_server(files) as server:
        places = {
            split: [server.url(f"{split}/{shard.tar.name}") for shard in info.shards]
            for split, info in manifest.splits.items()
        }
        adopt_tars(manifest.source, places, tmp_path / "remote", classes=manifest.classes)
        assert not list((tmp_path / "remote").rglob("*.tar"))
        server.faults.extend(FAULTS)
        yield tmp_path / "remote"


@pytest.mark.parametrize("draw", DRAWS)
def test_streamed_through_a_small_cache(streamed, golden, tmp_path, draw) -> None:
    """A cache of three shards of five; some are fetched again and again, none of it shows in the weights."""
    size = max(shard.tar.bytes for shard in read_manifest(streamed).splits["train"].shards)
    reading = Reading(resident_bytes=0, cache=str(tmp_path / "cache"), cache_bytes=3 * size, prefetch=1)
    assert_equal(run(recipe(draw), streamed, tmp_path / "run", reading=reading), golden[draw])
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= 3 * size


def test_two_processes_stream_what_one_holds_in_memory(streamed, shards, tmp_path) -> None:
    reading = Reading(resident_bytes=0, cache=str(tmp_path / "cache"))
    ours = recipe("blocks(2)")
    run_in_processes(2, [ours], streamed, tmp_path / "two", free_port(), reading=reading)
    run_in_processes(1, [ours], shards, tmp_path / "one", free_port())
    assert worst(state(tmp_path / "two" / ours.name), state(tmp_path / "one" / ours.name)) < 1e-6


def test_what_is_left_out_is_said_and_part_of_the_run(digits_data, tmp_path) -> None:
    """With a quarantine, training goes on without the damaged sample, says so, and the run is of other data."""
    root = tmp_path / "shards"
    write_shards(toy_digits(digits_data), root, damaged="quarantine(0.05)")
    first = run(recipe("shuffle"), root, tmp_path / "whole")
    path = next((root / "train").glob("*.tar"))
    content = bytearray(path.read_bytes())
    content[1600] ^= 1
    path.write_bytes(content)
    second = run(recipe("shuffle"), root, tmp_path / "damaged")
    assert worst(first, second) > 0
    warnings = [e["message"] for e in events.read(tmp_path / "damaged" / "events.jsonl")[0] if e["kind"] == "warning"]
    assert len(warnings) == 1 and "left out 00000000" in warnings[0] and "damaged" in warnings[0]


def test_impossible_draws_are_refused_before_training(shards, tmp_path) -> None:
    with pytest.raises(RecipeError, match="weighted"):
        run(recipe("weighted(age)"), shards, tmp_path)
    with pytest.raises(RecipeError, match=r"draw: found 'shufle'.*Did you mean 'shuffle'"):
        recipe("shufle")
    with pytest.raises(RecipeError, match=r"reading\.threads: found 0"):
        Reading(threads=0)


def test_videos_are_refused_in_words(tmp_path) -> None:
    from tests.data.tiny import tiny

    write_shards(tiny({"train": 8, "validation": 4}, (3, 4, 4, 1)), tmp_path / "x")
    with pytest.raises(DataError, match="holds videos of shape"):
        run(recipe("shuffle"), tmp_path / "x", tmp_path / "run")
