"""What reruns what: each param, each source file and each library version, against tables written by hand."""

import json
from fnmatch import fnmatch

import pytest
import yaml

from copies import ROOT
from test_versions import CHANGES, PIPELINE
from worldmodel.core import params

ALL = ["dreams", "prepare", "normalize", "train", "export", "validate"]
LEARNING = ["train", "export", "validate"]

# leaf, or the section of it -> the stages that must rerun; the longest match counts
PARAMS = {
    "dreams": ALL,
    "prepare": ALL,
    "prepare.format": ALL[1:],
    "normalize": ALL,  # dreams are made in standardized units
    "train": LEARNING,
    "train.history": ALL,
    "train.threads": ALL,
    "train.numerics": ALL,
    "train.device": ALL,
    "export": ["export", "validate"],
    "validate": ["validate"],
}

# source files -> the stages that must rerun even where what they get is the same as before
SOURCES = {
    "src/dreams.py src/worldmodel/dreaming/* src/worldmodel/trajectory.py examples/*": "dreams",
    "src/prepare.py": "prepare",
    "src/normalize.py": "normalize",
    "src/train.py src/worldmodel/learning/course.py src/worldmodel/learning/live.py": "train",
    "src/export.py src/worldmodel/bundle/card.py": "export",
    "src/validate.py": "validate",
    "src/worldmodel/__init__.py src/worldmodel/config/* src/worldmodel/data/__init__.py": " ".join(ALL),
    "src/worldmodel/runtime/[!cimnpt]*": " ".join(ALL),
    "src/worldmodel/runtime/[inp]*.py src/worldmodel/learning/floors.py": "dreams train validate",
    "src/worldmodel/runtime/t*": "train validate",
    "src/worldmodel/data/[abcg]*.py src/worldmodel/data/files.py src/worldmodel/data/logs.py": "dreams prepare",
    "src/worldmodel/data/re*.py src/worldmodel/data/rows.py src/worldmodel/data/split.py": "dreams prepare",
    "src/worldmodel/data/form.py src/worldmodel/data/scanning.py": "dreams prepare",
    "src/worldmodel/data/spool.py": "dreams prepare normalize",
    "src/worldmodel/data/frame.py src/worldmodel/data/schema.py": "dreams prepare normalize train validate",
    "src/worldmodel/data/listing.py src/worldmodel/data/table.py": "dreams prepare normalize train validate",
    "src/worldmodel/data/[en]*.py src/worldmodel/data/manifest.py src/worldmodel/data/shards.py": "prepare normalize",
    "src/worldmodel/data/packing.py src/worldmodel/data/windows.py": "dreams normalize train validate",
    "src/worldmodel/data/mapped.py": "dreams normalize train validate",
    "src/worldmodel/data/scaler.py src/worldmodel/data/moments.py": "dreams normalize train export validate",
    "src/worldmodel/data/mixing.py": "dreams train validate",
    "src/worldmodel/learning/l[eo]*.py": "dreams train",
    "src/worldmodel/learning/[_em]*.py": "dreams train export validate",
    "src/worldmodel/learning/snapshot.py src/worldmodel/runtime/[cm]*.py": "dreams train",
    "src/worldmodel/learning/trained.py": "train export validate",
    "src/worldmodel/measuring/[_r]*.py": "dreams validate",
    "src/worldmodel/measuring/[a-qs-z]*.py": "validate",
    "src/worldmodel/bundle/[_g]*.py src/worldmodel/client.py": "export validate",
}
FILES = sorted({dep for entry in PIPELINE.values() for dep in entry["deps"] if dep.endswith(".py")})


def after(stage):
    """The stages that use what this one makes, and those that use what they make."""
    entry = PIPELINE[stage]
    made = {out if isinstance(out, str) else next(iter(out)) for out in entry["outs"]} if "outs" in entry else set()
    users = [name for name, other in PIPELINE.items() if made & set(other["deps"])]
    return set(users).union(*(after(user) for user in users))


def rerun(stages):
    return [stage for stage in ALL if stage in set(stages).union(*(after(each) for each in stages))]


@pytest.mark.parametrize("leaf", list(params.leaves(params.Params)))
def test_a_param_reruns_the_stages_that_it_must(leaf):
    key = max((key for key in PARAMS if leaf == key or leaf.startswith(f"{key}.")), key=len)
    assert rerun([stage for stage, entry in PIPELINE.items() if leaf in entry["params"]]) == PARAMS[key]


@pytest.mark.parametrize("file", FILES)
def test_a_source_file_reruns_the_stages_that_it_must(file):
    (expected,) = [stages for files, stages in SOURCES.items() if any(fnmatch(file, each) for each in files.split())]
    assert " ".join(stage for stage, entry in PIPELINE.items() if file in entry["deps"]) == expected


def stale(project):
    return [stage for stage in ALL if stage in json.loads(project.run("dvc", "status", "--json"))]


def test_dvc_sees_what_the_tables_say(copy, tmp_path):
    other = copy.again(tmp_path / "project")

    def edited(name, before, after):
        text = other.read(name)
        assert before in text
        other.write(name, text.replace(before, after))
        seen = stale(other)
        other.write(name, text)
        return seen

    torch = yaml.safe_load((ROOT / "versions.yaml").read_text())["torch"]
    assert stale(other) == []
    assert edited("versions.yaml", torch, "9.9.9") == CHANGES["torch"] == ["dreams", "train", "export", "validate"]
    assert edited("src/worldmodel/data/episodes.py", "import", "import ") == ["prepare", "normalize"]
    assert edited("params.yaml", "opset: 20", "opset: 21") == ["export"]
