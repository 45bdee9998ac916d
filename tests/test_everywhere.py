"""The same bits wherever the pipeline runs, and nothing in them says where that was, when, or who asked."""

import io
import json
import re
import sys
import time
import zipfile
from collections import Counter

import pytest
import yaml

from copies import ROOT
from factories import STAGES
from teams import Member

PERSON, HOST = "wilhelmina-q-archivist", "scriptorium-77"
ELSEWHERE = """
import os, socket
here = os.uname()
os.uname = lambda: os.uname_result((here.sysname, {host!r}, *here[2:]))
socket.gethostname = lambda: {host!r}
"""
SUFFIXES = {".csv", ".json", ".jsonl", ".md", ".npy", ".npz", ".onnx", ".safetensors", ".yaml"}


def outs(text):
    """Stage -> out -> md5, of what dvc.lock holds."""
    return {
        name: {out["path"]: out["md5"] for out in stage["outs"]}
        for name, stage in yaml.safe_load(text)["stages"].items()
    }


def attempts(project):
    """How often each stage was begun."""
    records = [json.loads(path.read_text()) for path in project.folder.glob("runs/*/metadata.json")]
    return Counter(record["stage"] for record in records for _ in record["attempts"])


@pytest.fixture(scope="module")
def stranger(template, tmp_path_factory):
    """A clone of somebody else's, run from nothing by DVC's queue: other folder, home, user and host."""
    home = tmp_path_factory.mktemp(f"home-of-{PERSON}")
    (home / "sitecustomize.py").write_text(ELSEWHERE.format(host=HOST))
    about = {"HOME": str(home), "USER": PERSON, "LOGNAME": PERSON, "HOSTNAME": HOST, "PYTHONPATH": str(home)}
    about |= {f"GIT_{who}_{what}": f"{PERSON}@{HOST}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    member = Member.cloned(template, home / "a-clone", **about)
    member.run("dvc", "exp", "run", "--queue", "-S", "validate.latency_calls=4")
    assert attempts(member) == Counter()
    member.run("dvc", "exp", "run", "--run-all", "--jobs", "1")
    assert attempts(member) == Counter(list(STAGES))
    (experiment,) = member.run("git", "for-each-ref", "--format=%(refname:lstrip=-1)", "refs/exps/*/*/*").split()
    member.run("dvc", "exp", "apply", experiment)
    return member


def test_another_folder_of_another_user_on_another_host_gives_the_same_bits(template, stranger):
    hosts = {json.loads(path.read_text())["attempts"][0]["host"] for path in stranger.folder.glob("runs/*/*.json")}
    assert hosts == {HOST}
    assert outs(stranger.read("dvc.lock")) == outs(template.read("dvc.lock"))


def test_an_experiment_changes_what_it_is_told_to_and_gives_the_bits_of_the_workspace(copy, template):
    before = attempts(copy)
    copy.run("dvc", "exp", "run", "--temp", "-S", "validate.latency_calls=4")
    assert attempts(copy) - before == Counter(["validate"])
    (experiment,) = json.loads(copy.run("dvc", "exp", "show", "--json"))[1]["experiments"]
    (run,) = experiment["revs"]
    assert run["data"]["params"]["params.yaml"]["data"]["validate"]["latency_calls"] == 4
    assert outs(copy.run("git", "show", f"{run['rev']}:dvc.lock")) == outs(template.read("dvc.lock"))


def revealing(names):
    """Finds names, dates, times since 1970 that lie near to now, and absolute paths."""
    day = time.time() // 86400
    now = "|".join(sorted({str(int(86400 * (day + apart)))[:5] for apart in (-1, 0, 1)}))
    dates = [r"20\d\d-[01]\d-[0-3]\d", r"[0-2]\d:[0-5]\d:[0-5]\d", rf"(?<![\d.])(?:{now})\d{{5}}(?!\d)"]
    paths = [r"/(?:home|root|tmp|usr|opt|var|work|mnt|Users|private)/", r"[A-Z]:\\\\?Users"]
    return re.compile("|".join([*(re.escape(name) for name in names), *dates, *paths]).encode())


def held(path):
    """What a file holds, and each part of an archive."""
    yield path.name, path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from ((f"{path.name}:{name}", name.encode() + archive.read(name)) for name in archive.namelist())


def test_no_out_names_a_user_a_host_a_path_or_a_time(template, stranger):
    wanted = revealing(
        [PERSON, HOST, str(stranger.folder), stranger.folder.name, str(template.folder), str(ROOT), sys.prefix]
    )
    seen = set()
    for out in (out for stage in outs(stranger.read("dvc.lock")).values() for out in stage):
        top = stranger.folder / out
        for path in [top, *top.rglob("*")]:
            if path.is_file():
                seen.add(path.suffix)
                for name, content in held(path):
                    found = wanted.search(content)
                    assert not found, f"{path}, {name}: {found}"
    assert seen == SUFFIXES


@pytest.mark.parametrize(
    "text",
    [
        PERSON,
        f"made on {HOST}",
        "2026-01-31",
        "at 23:59:59",
        "start: {now:.0f}",
        '"took": 3, "at": {now}',
        "/home/anyone/project",
        "C:\\Users\\anyone",
    ],
)
def test_what_reveals_something_is_seen(tmp_path, text):
    archive = tmp_path / "a.npz"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("note", text.format(now=time.time()) + " ")
    assert any(revealing([PERSON, HOST]).search(content) for _, content in held(archive))


def test_what_reveals_nothing_is_let_through():
    stream = io.BytesIO(b"1690000000 0.1795555555 00000017955 3000-01-01 s3://models/a")
    assert not revealing([PERSON, HOST]).search(stream.read())
