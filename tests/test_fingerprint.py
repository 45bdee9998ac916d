import hashlib
from pathlib import Path

import pytest

from worldmodel.core import fingerprint as fp

SRC = Path(__file__).parents[1] / "src"


@pytest.fixture
def sources(tmp_path):
    """entry.py -> lib.a -> lib.deep.b, and what stands beside them and is not imported."""
    files = {
        "entry.py": "import json\nfrom lib import a\n\ndef late():\n    import beside\n",
        "beside.py": "",
        "never.py": "import lib.unused",
        "lib/__init__.py": "",
        "lib/a.py": "import numpy as np\nimport lib.deep.b\nfrom os import path",
        "lib/unused.py": "",
        "lib/deep/__init__.py": "",
        "lib/deep/b.py": "from lib.a import something",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


REACHED = ["beside.py", "entry.py", "lib/__init__.py", "lib/a.py", "lib/deep/__init__.py", "lib/deep/b.py"]


def test_imports_are_followed_through_packages_functions_and_circles(sources):
    assert fp.import_closure(sources / "entry.py") == [sources / name for name in REACHED]


def test_a_changed_import_changes_its_hash_and_a_stranger_none(sources):
    before = fp.source_hashes(sources / "entry.py")
    assert list(before) == REACHED
    (sources / "never.py").write_text("x = 1")
    assert fp.source_hashes(sources / "entry.py") == before
    (sources / "lib/deep/b.py").write_text("x = 1")
    after = fp.source_hashes(sources / "entry.py")
    assert [name for name in before if before[name] != after[name]] == ["lib/deep/b.py"]


def test_hashes_do_not_depend_on_the_folder(sources, tmp_path_factory):
    copy = tmp_path_factory.mktemp("elsewhere")
    for name in REACHED:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((sources / name).read_bytes())
    assert fp.source_hashes(copy / "entry.py") == fp.source_hashes(sources / "entry.py")


def test_the_closure_of_prepare_holds_its_library_and_no_model():
    found = set(fp.source_hashes(SRC / "prepare.py"))
    assert {"prepare.py", "worldmodel/__init__.py", "worldmodel/data/logs.py", "worldmodel/data/frame.py"} <= found
    assert not found & {"worldmodel/learning/model.py", "train.py"}


def test_sha256_is_that_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert fp.sha256(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()


def test_a_fingerprint_depends_on_values_and_not_on_order():
    assert fp.fingerprint({"a": 1, "b": [2.5]}) == fp.fingerprint({"b": [2.5], "a": 1})
    assert fp.fingerprint({"a": 1}) != fp.fingerprint({"a": 2})


@pytest.fixture
def inputs(tmp_path):
    for name in ("logs/b.jsonl", "logs/deep/a.jsonl", "one.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_inputs_are_hashed_file_by_file(inputs):
    found = fp.content_hashes({"given": inputs / "logs", "file": inputs / "one.json", "gone": inputs / "gone"})
    assert found == {
        "given/b.jsonl": fp.sha256(inputs / "logs/b.jsonl"),
        "given/deep/a.jsonl": fp.sha256(inputs / "logs/deep/a.jsonl"),
        "file": fp.sha256(inputs / "one.json"),
    }


def test_many_files_have_one_hash_that_any_of_them_changes(inputs, monkeypatch):
    def hashes():
        return fp.content_hashes({"given": inputs / "logs"})

    for number in range(3):
        (inputs / "logs" / "deep" / f"{number}.jsonl").write_text("")
    monkeypatch.setattr(fp, "MANY", 3)
    before = hashes()
    assert list(before) == ["given/b.jsonl", "given/deep/*"]
    (inputs / "logs" / "deep" / "1.jsonl").write_text("x")
    edited = hashes()
    (inputs / "logs" / "deep" / "1.jsonl").rename(inputs / "logs" / "deep" / "9.jsonl")
    assert len({each["given/deep/*"] for each in (before, edited, hashes())}) == 3


def test_what_lies_at_an_address_goes_by_its_checksum(inputs):
    def hashes():
        return fp.content_hashes({"given": f"file://{inputs}/logs"})

    before = hashes()
    assert sorted(before) == ["given/b.jsonl", "given/deep/a.jsonl"]
    assert hashes() == before
    (inputs / "logs" / "b.jsonl").write_text("something else")
    assert {name for name, digest in hashes().items() if digest != before[name]} == {"given/b.jsonl"}


def test_an_address_that_cannot_be_listed_is_named():
    with pytest.raises(ValueError, match=r"odd://bucket: cannot be listed .*; check the address"):
        fp.content_hashes({"given": "odd://bucket"})
