"""Images with a table: the table and the folder agree, columns go where they are told to, damage has a line number."""

import json
import pickle

import pytest

from gen.errors import DataError
from gen.sources.captioned import captioned
from tests.sources.trees import origins, plant, read_elsewhere, same, samples


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_columns_become_captions_attributes_and_labels(tmp_path) -> None:
    plant(tmp_path, "train/b.png", "train/sub/a.png", "train/10.png", "test/x.png")
    (tmp_path / "train/metadata.jsonl").write_text(
        lines(
            {"file_name": "b.png", "text": "bé\u2028two", "size": 1.5, "old": True, "kind": "dog", "other": [1]},
            {"file_name": "./sub/a.png", "text": "", "size": -2, "old": False, "kind": "cat"},
            {"file_name": "10.png", "text": "ten", "size": "1e1", "old": 0, "kind": "dog"},
        )
    )
    (tmp_path / "test/metadata.jsonl").write_text(
        lines({"file_name": "x.png", "text": "x", "size": 0, "old": 1, "kind": "ant"})
    )
    found = captioned(tmp_path, attributes=["size", "old"], label="kind")
    assert origins(found) == {"train": ["train/10.png", "train/b.png", "train/sub/a.png"], "test": ["test/x.png"]}
    assert found.classes == ("ant", "cat", "dog") and found.attributes == ("size", "old")
    train = samples(found)
    assert [s.caption for s in train] == ["ten", "bé\u2028two", ""]
    assert [s.attributes for s in train] == [(10.0, 0.0), (1.5, 1.0), (-2.0, 0.0)]
    assert [s.label for s in train] == [2, 2, 1] and [s.label for s in samples(found, "test")] == [0]
    assert train[1].image == (tmp_path / "train/b.png").read_bytes()
    names = [
        "test/metadata.jsonl",
        "test/x.png",
        "train/10.png",
        "train/b.png",
        "train/metadata.jsonl",
        "train/sub/a.png",
    ]
    assert list(found.files) == [tmp_path / name for name in names]
    assert same(read_elsewhere(found, "train", 1), train[1])


def test_csv_says_the_same_as_jsonl(tmp_path) -> None:
    plant(tmp_path / "a", "1.png", "2.png")
    plant(tmp_path / "b", "1.png", "2.png")
    rows = [{"file_name": "1.png", "text": 'a "b",\r\nc\rd\ne', "n": 3}, {"file_name": "2.png", "text": "ü", "n": 4}]
    (tmp_path / "a/metadata.jsonl").write_text("\ufeff" + lines(*rows).replace("\n", "\r\n") + "\n")
    (tmp_path / "b/metadata.csv").write_bytes(
        '\ufefffile_name,text,n\r\n1.png,"a ""b"",\r\nc\rd\ne",3\r\n2.png,ü,4\r\n'.encode()
    )
    jsonl, csv = (captioned(tmp_path / name, attributes=["n"], label="n") for name in "ab")
    assert all(same(x, y) for x, y in zip(samples(jsonl), samples(csv), strict=True))
    assert samples(csv)[0].caption == 'a "b",\r\nc\rd\ne'
    assert jsonl.classes == csv.classes == ("3", "4")


def test_whole_numbers_as_classes_are_sorted_by_size(tmp_path) -> None:
    plant(tmp_path, *(f"{k}.png" for k in range(12)))
    (tmp_path / "metadata.jsonl").write_text(lines(*({"file_name": f"{k}.png", "digit": k} for k in range(12))))
    found = captioned(tmp_path, text="", label="digit")
    assert found.classes == tuple(str(k) for k in range(12))
    assert all(sample.label == int(sample.origin.removesuffix(".png")) for sample in samples(found))
    assert all(sample.caption is None for sample in samples(found))


def test_truth_values_can_be_classes(tmp_path) -> None:
    plant(tmp_path, "1.png", "2.png")
    (tmp_path / "metadata.jsonl").write_text(
        lines({"file_name": "1.png", "smiling": True}, {"file_name": "2.png", "smiling": False})
    )
    assert captioned(tmp_path, text="", label="smiling").classes == ("false", "true")


def test_the_pickle_is_small(tmp_path) -> None:
    plant(tmp_path, *(f"{k:04}.png" for k in range(200)))
    row = {"text": "short", "unused": "x" * 10_000}
    (tmp_path / "metadata.jsonl").write_text(lines(*({"file_name": f"{k:04}.png", **row} for k in range(200))))
    assert len(pickle.dumps(captioned(tmp_path))) < 200 * 100


ONE = '{"file_name": "1.png", "text": "one", "n": 1, "kind": "a"}\n'
WRONG = {
    "no table": ("1.png", {}, {}, r"found no table, allowed one of metadata\.jsonl and metadata\.csv .*source: folder"),
    "two tables": (
        "1.png",
        {"metadata.jsonl": ONE, "metadata.csv": ""},
        {},
        r"metadata\.jsonl and metadata\.csv, allowed",
    ),
    "no images": ("x.txt", {"metadata.jsonl": ONE}, {}, r"found no images \(1 \.jsonl, 1 \.txt\)"),
    "bad JSON": (
        "1.png",
        {"metadata.jsonl": ONE + '\n{"file_name": '},
        {},
        r"jsonl: line 3: is not valid JSON: Expecting",
    ),
    "cut JSON": ("1.png", {"metadata.jsonl": ONE[:30]}, {}, r"jsonl: line 1: is not valid JSON"),
    "deep JSON": ("1.png", {"metadata.jsonl": "[" * 100_000}, {}, r"line 1: is not valid JSON: maximum recursion"),
    "long number": ("1.png", {"metadata.jsonl": "9" * 5000}, {}, r"line 1: is not valid JSON"),
    "a list": ("1.png", {"metadata.jsonl": "[1, 2]\n"}, {}, r"line 1: found \[1, 2\], allowed \{\.\.\.\} in each line"),
    "not UTF-8": (
        "1.png",
        {"metadata.jsonl": b'{"text": "\xe9"}'},
        {},
        r"metadata\.jsonl: is not a text in UTF-8 \(.*Convert",
    ),
    "no name": (
        "1.png",
        {"metadata.jsonl": '{"file": "1.png"}\n'},
        {},
        r"line 1: found None as `file_name`, allowed the na",
    ),
    "name is 7": ("1.png", {"metadata.jsonl": '{"file_name": 7}\n'}, {}, r"line 1: found 7 as `file_name`"),
    "twice": ("1.png", {"metadata.jsonl": ONE + "\n" + ONE}, {}, r"line 3: 1\.png is also in line 1\. Remove one"),
    "missing": ("2.png", {"metadata.jsonl": ONE}, {}, r"names 1 images that are not there \(1\.png\)\. Restore"),
    "outside": ("1.png", {"metadata.jsonl": ONE.replace("1.png", "../1.png")}, {}, r"not there \(\.\./1\.png\)"),
    "absolute": ("1.png", {"metadata.jsonl": ONE.replace("1.png", "/etc/1.png")}, {}, r"not there \(/etc/1\.png\)"),
    "unnamed": (
        "1.png 2.png 3.png",
        {"metadata.jsonl": ONE},
        {},
        r"does not name 2 of 3 images .* \(2\.png, 3\.png\)\. Add",
    ),
    "no caption": (
        "1.png",
        {"metadata.jsonl": ONE},
        {"text": "txt"},
        r"no column 'txt'.* 'text'\? Correct `text` \(`text: \"\"",
    ),
    "no number": (
        "1.png",
        {"metadata.jsonl": ONE},
        {"attributes": ["m"]},
        r"no column 'm', which `attributes` names; its",
    ),
    "no class": ("1.png", {"metadata.jsonl": ONE}, {"label": "kin"}, r"no column 'kin', which `label` .*mean 'kind'"),
    "caption 1": (
        "1.png",
        {"metadata.jsonl": ONE},
        {"text": "n"},
        r"line 1: found 1 in column 'n', allowed a text as capt",
    ),
    "text as number": (
        "1.png",
        {"metadata.jsonl": ONE},
        {"attributes": ["kind"]},
        r"found 'a' in column 'kind', allowed a fin",
    ),
    "NaN": (
        "1.png",
        {"metadata.jsonl": ONE.replace(" 1,", " NaN,")},
        {"attributes": ["n"]},
        r"found nan in column 'n'",
    ),
    "too large": (
        "1.png",
        {"metadata.jsonl": ONE.replace(" 1,", " 1e39,")},
        {"attributes": ["n"]},
        r"found 1e\+39 in col",
    ),
    "class 1.5": (
        "1.png",
        {"metadata.jsonl": ONE.replace(" 1,", " 1.5,")},
        {"label": "n"},
        r"found 1\.5 in column 'n', allo",
    ),
    "class ''": (
        "1.png",
        {"metadata.jsonl": ONE.replace('"a"', '""')},
        {"label": "kind"},
        r"found '' in column 'kind', allow",
    ),
    "same twice": (
        "1.png",
        {"metadata.jsonl": ONE},
        {"attributes": ["n", "n"]},
        r"attributes: found n twice, allowed differ",
    ),
    "short row": (
        "1.png",
        {"metadata.csv": "file_name,text\n1.png\n"},
        {},
        r"csv: line 2: found more or fewer .* 2 headings",
    ),
    "long row": (
        "1.png",
        {"metadata.csv": "file_name,text\n1.png,a,b\n"},
        {},
        r"csv: line 2: found more or fewer values",
    ),
    "open quote": (
        "1.png",
        {"metadata.csv": 'file_name,text\n1.png,"a\n'},
        {},
        r"csv: line 2: is not valid CSV: unexpected",
    ),
    "headings": (
        "1.png",
        {"metadata.csv": "file_name,text,text\n"},
        {},
        r"csv: line 1: found a heading twice among file_na",
    ),
    "empty csv": ("1.png", {"metadata.csv": ""}, {}, r"metadata\.csv: does not name 1 of 1 images"),
    "empty cell": (
        "1.png",
        {"metadata.csv": "file_name,n\n1.png,\n"},
        {"text": "", "attributes": ["n"]},
        r"found '' in colu",
    ),
}


@pytest.mark.parametrize(("images", "tables", "options", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(tmp_path, images, tables, options, message) -> None:
    root = plant(tmp_path / "root", *images.split())
    for name, text in tables.items():
        (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as problem:
        captioned(root, **options)
    assert "root" in str(problem.value)


def test_every_split_needs_a_table(tmp_path) -> None:
    plant(tmp_path, "train/1.png", "test/1.png")
    (tmp_path / "train/metadata.jsonl").write_text(ONE)
    with pytest.raises(DataError, match=r"test: found no table, allowed one of .* in the folder of each split"):
        captioned(tmp_path)
