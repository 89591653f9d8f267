"""File names read by a pattern, against an independent reading; fields end where they should; nothing is guessed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen.errors import DataError
from gen.sources.common.fields import number, sorted_classes
from gen.sources.named import compiled, named
from tests.sources.trees import origins, plant, read_elsewhere, same, samples

FACES = ["1_0_4_20161221.jpg.chip.jpg", "100_1_0_20170110.jpg.chip.jpg", "25_1_3_2017.PNG", "25_0_1_9.png"]
PATTERN = "{age}_{gender}_{race}_*"


def test_fields_become_labels_and_attributes(tmp_path) -> None:
    plant(tmp_path, *FACES)
    found = named(tmp_path, pattern=PATTERN, label="gender", classes=["male", "female"], attributes=["age", "race"])
    assert found.classes == ("male", "female") and found.attributes == ("age", "race")
    assert origins(found) == {"train": sorted(FACES)}
    for sample in samples(found):
        age, gender, race = map(int, sample.origin.split("_")[:3])
        assert (sample.label, sample.attributes) == (gender, (float(age), float(race)))
        assert sample.image == (tmp_path / sample.origin).read_bytes()
    assert list(found.files) == [tmp_path / name for name in sorted(FACES)]
    assert same(read_elsewhere(found, "train", 2), samples(found)[2])


def test_classes_are_by_default_the_values(tmp_path) -> None:
    plant(tmp_path, *FACES)
    by_age = named(tmp_path, pattern=PATTERN, label="age")
    assert by_age.classes == ("1", "25", "100")  # by size, not by first digit
    assert by_age.splits["train"].labels.tolist() == [2, 0, 1, 1]
    plain = named(tmp_path, pattern=PATTERN)
    assert plain.classes == () and plain.attributes == () and samples(plain)[0].label is None


def test_classes_can_be_names_that_occur(tmp_path) -> None:
    plant(tmp_path, "dog_1.png", "cat_2.png", "dog_3.png")
    found = named(tmp_path, pattern="{kind}_{id}", label="kind", classes=["dog", "ant", "cat"])
    assert [(s.origin, s.label) for s in samples(found)] == [("cat_2.png", 2), ("dog_1.png", 0), ("dog_3.png", 0)]
    assert named(tmp_path, pattern="{kind}_{id}", label="kind").classes == ("cat", "dog")
    numbers = named(tmp_path, pattern="{kind}_{id}", label="id", classes=["3", "2", "1"])
    assert numbers.splits["train"].labels.tolist() == [1, 2, 0]  # the names win over indices


def test_patterns_can_name_folders_and_suffixes(tmp_path) -> None:
    plant(tmp_path, "deep/001.Albatross/x_1.jpg", "002.Tern/y_2.JPG")
    found = named(tmp_path, pattern="{n}.{bird}/*_{k}", label="bird", attributes=["n", "k"])
    assert found.classes == ("Albatross", "Tern")
    assert [s.attributes for s in samples(found)] == [(2.0, 2.0), (1.0, 1.0)]
    left = named(tmp_path, pattern="{name}_{k}.jpg", skip_unmatched=True, attributes=["k"])
    assert origins(left) == {"train": ["deep/001.Albatross/x_1.jpg"]}
    assert left.source.origin.endswith("; 1 files with other names are left out")


def test_splits_share_their_classes(tmp_path) -> None:
    plant(tmp_path, "train/b_1.png", "val/a_1.png")
    found = named(tmp_path, pattern="{kind}_*", label="kind")
    assert {k: v.labels.tolist() for k, v in found.splits.items()} == {"train": [1], "validation": [0]}


@pytest.mark.parametrize(
    ("pattern", "name", "fields"),
    [
        ("{a}_{b}", "x_y_z", {"a": "x", "b": "y_z"}),  # up to the first place
        ("{a}_{b}_*", "x_y", None),
        ("{a}_{b}_*", "x__z", None),  # at least one character
        ("{a}_{b}_*", "x_y_", {"a": "x", "b": "y"}),
        ("{a}--{b}", "x-y--z", {"a": "x-y", "b": "z"}),
        ("*_{a}", "p_q_r", {"a": "q_r"}),
        ("img*{a}.v*", "img.v", None),
        ("a.c{x}", "abc1", None),  # a dot is a dot
        ("{{{a}}}", "{1}", {"a": "1"}),
        ("({a}) [*]+", "(1) [x]+", {"a": "1"}),
        ("{größe}_*", "3_x", {"größe": "3"}),
        ("{a}/{b}", "x/y", {"a": "x", "b": "y"}),
        ("{a}_{b}", "x/y_z", None),  # neither fields nor stars cross folders
        ("*_{b}", "x/y_z", None),
    ],
)
def test_fields_end_where_what_follows_begins(pattern, name, fields) -> None:
    match = compiled(pattern).fullmatch(name)
    assert (match.groupdict() if match else None) == fields


texts = st.text(st.sampled_from("ab1.é"), min_size=1, max_size=5)


@given(st.lists(texts, min_size=1, max_size=5), st.sampled_from(["_", "--", "+", "*_"]))
def test_what_was_joined_is_taken_apart(values, separator) -> None:
    names = [f"f{k}" for k in range(len(values))]
    pattern = compiled(separator.replace("*", "").join(f"{{{name}}}" for name in names) + "_*")
    match = pattern.fullmatch(separator.replace("*", "").join(values) + "_rest")
    assert match and match.groupdict() == dict(zip(names, values, strict=True))


@pytest.mark.timeout(60)  # trying every way to end the fields would take years
def test_no_name_takes_long_to_be_refused() -> None:
    pattern = compiled("_".join(f"{{f{k}}}" for k in range(20)) + "!")
    assert not pattern.fullmatch("_a" * 127)


BAD_PATTERNS = ["{a", "a}", "{}", "{0}", "{a}{b}", "{a}*", "{a}_{a}", "{a:3}", "{a!r}", "{a.b}", "{a[0]}", "{a b}"]


@pytest.mark.parametrize("pattern", BAD_PATTERNS)
def test_a_pattern_that_is_none_is_refused(tmp_path, pattern) -> None:
    plant(tmp_path, "1_2.png")
    with pytest.raises(DataError, match=r"pattern: found '.*': .*Allowed are fields \{name\} with different names"):
        named(tmp_path, pattern=pattern)


WRONG = {
    "no match": (
        {"pattern": "{a}-{b}"},
        r"pattern: '\{a\}-\{b\}' does not match 4 files, such as 100_1.* and 1 more\. Corr",
    ),
    "some match": ({"pattern": "{a}_*.png"}, r"does not match 3 files, such as .*`skip_unmatched: true` leaves"),
    "none left": ({"pattern": "{a}-{b}", "skip_unmatched": True}, r"does not match 4 files, .*, not all of them"),
    "unknown label": (
        {"label": "gendr"},
        r"label: found 'gendr', allowed .* fields .*: age, gender, race\. Did you mean 'ge",
    ),
    "unknown number": ({"attributes": ["size"]}, r"attributes: found 'size', allowed are the fields of the pattern"),
    "no fields": ({"pattern": "*", "label": "x"}, r"label: found 'x', .*: none\."),
    "no label": ({"classes": ["a"]}, r"classes: found a without `label`\. Name the field"),
    "classes twice": ({"label": "gender", "classes": ["a", "a"]}, r"classes: found a twice"),
    "numbers twice": ({"attributes": ["age", "age"]}, r"attributes: found age twice"),
    "too few classes": (
        {"label": "race", "classes": ["a", "b", "c"]},
        r"'race' holds 3, 4, allowed .*\(a, b, c\) or .* 0 to 2",
    ),
    "other classes": ({"label": "race", "classes": ["0", "1"]}, r"the field 'race' holds 3, 4, allowed are the names"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(tmp_path, options, message) -> None:
    plant(tmp_path / "faces", *FACES)
    with pytest.raises(DataError, match=message) as problem:
        named(tmp_path / "faces", **{"pattern": PATTERN, **options})
    assert "faces" in str(problem.value)


@pytest.mark.parametrize("value", ["old", "1_0", "nan", "inf", "1e999", "0x10", "٣", "--1"])
def test_an_attribute_that_is_no_number_is_named(tmp_path, value) -> None:
    plant(tmp_path, f"{value} 1.png")
    with pytest.raises(DataError, match=rf"{value} 1\.png: found '{value}' for the attribute 'age', allowed a number"):
        named(tmp_path, pattern="{age} {x}", attributes=["age"])


def test_numbers_are_read_as_they_are_written() -> None:
    assert [number(x) for x in ("3", " -1.5 ", "+.5e2", "7.", True, False, 2**70)] == [3, -1.5, 50, 7, 1, 0, 2.0**70]
    for value in (math.nan, -math.inf, 10**400, None, [], "", "1 2", "1,5"):
        with pytest.raises(ValueError, match="not a finite number"):
            number(value)


@given(st.sets(st.integers(-200, 200).map(str), min_size=1))
def test_classes_that_are_numbers_are_sorted_by_size(values) -> None:
    assert [int(x) for x in sorted_classes(values)] == sorted(map(int, values))
    assert sorted_classes(values | {"x"}) == sorted(values | {"x"})
