import hashlib
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from worldmodel.core import fingerprint as fp

SRC = Path(__file__).parents[1] / "src"


SOURCES = {
    "simulators/mine.py": "import json\nfrom lib import a\nfrom .near import step\n\ndef late():\n    import beside\n",
    "simulators/near.py": "from . import nearer\nfrom simulators.physics import step",
    "simulators/nearer.py": "from ..above import gravity",
    "simulators/physics.py": "",
    "simulators/beside.py": "",
    "simulators/never.py": "import lib.unused",
    "above.py": "",
    "lib/__init__.py": "",
    "lib/a.py": "import numpy as np\nimport lib.deep.b\nfrom os import path",
    "lib/unused.py": "",
    "lib/deep/__init__.py": "",
    "lib/deep/b.py": "from lib.a import something",
}


def test_imports_are_followed_through_packages_functions_neighbours_and_circles(tmp_path):
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = fp.import_closure(tmp_path / "simulators/mine.py", [tmp_path, tmp_path / "simulators"])
    unreached = {"simulators/never.py", "lib/unused.py"}
    assert found == sorted(tmp_path / name for name in SOURCES if name not in unreached)


def test_the_code_of_a_stage_is_its_library_by_content_and_no_other_stage():
    found = fp.stage_code("prepare")
    assert found["worldmodel/logs/reader.py"] == fp.sha256(SRC / "worldmodel/logs/reader.py")
    assert {"worldmodel/stages/prepare.py", "worldmodel/__init__.py", "worldmodel/episodes/frame.py"} <= found.keys()
    assert not {"worldmodel/model/world_model.py", "worldmodel/stages/train.py", "train.py"} & found.keys()


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


class Remembering(LocalFileSystem):
    """One that keeps what it has listed, as those of buckets do."""

    protocol = "remembering"

    def ls(self, path, detail=False, **options):
        if path not in self.dircache:
            self.dircache[path] = super().ls(path, detail=True, **options)
        return self.dircache[path] if detail else [entry["name"] for entry in self.dircache[path]]

    def invalidate_cache(self, path=None):
        self.dircache.clear()


def test_an_address_is_listed_anew_each_time(inputs):
    fsspec.register_implementation("remembering", Remembering, clobber=True)
    before = fp.content_hashes({"given": f"remembering://{inputs}/logs"})
    (inputs / "logs" / "c.jsonl").write_text("new")
    assert fp.content_hashes({"given": f"remembering://{inputs}/logs"}).keys() - before.keys() == {"given/c.jsonl"}


def test_an_address_that_cannot_be_listed_is_named():
    with pytest.raises(ValueError, match=r"odd://bucket: cannot be listed .*; check the address"):
        fp.content_hashes({"given": "odd://bucket"})
