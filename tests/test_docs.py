"""Every block of README and docs is executed."""

import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pages import INSTEAD, LANGUAGES, NOT_RUN, PAGES, ROOT, blocks, commands, script
from teams import KEYS, Member
from worldmodel.cli import check_logs

LOG = Path("data/worldmodel/offline/log.jsonl")
WORKING = [page for page in PAGES if {block.language for block in blocks(page)} & {"bash", "python"}]
PRELUDE = {  # what a block speaks of and doesn't make itself
    "README.md": """
import numpy as np
from worldmodel.client import WorldModel
model = WorldModel.load("artifacts/worldmodel")
features, actions = np.zeros((model.history, model.feature_count)), np.zeros((model.history - 1, model.action_count))
plan = np.zeros((model.horizon, model.action_count))
"""
}


@pytest.fixture(scope="module")
def workshop(template, tmp_path_factory):
    """The template with all that a clone has, an environment that make takes for its own, logs and an origin."""
    made = template.again(tmp_path_factory.mktemp("workshop") / "project")
    _complete(made.folder)
    _furnish(made.folder / ".venv")
    logs = made.folder / "my-logs"
    logs.mkdir()
    shutil.copy(made.folder / LOG, logs)
    (made.folder / ".git/info/exclude").write_text("/my-*\n/model\n", encoding="utf-8")
    made.commit()
    made.run("git", "branch", "--move", "main")
    made.run("git", "clone", "--quiet", "--bare", ".", str(made.folder.with_name("origin")))
    made.run("git", "remote", "add", "origin", str(made.folder.with_name("origin")))
    made.run("git", "fetch", "--quiet", "origin")
    made.run("git", "branch", "--quiet", "--set-upstream-to=origin/main")
    return made


def _complete(folder):
    """Every tracked or new file that is not there yet; of gates those alone that a model of twelve steps can hold."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        there = folder / name
        if not there.exists() and not name.startswith(("artifacts/", "tests/", LOG.parent.as_posix())):
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, there)
    gates = yaml.safe_load((folder / "gates.yaml").read_text(encoding="utf-8"))
    gates["gates"] = [gate for gate in gates["gates"] if "tolerance" in gate]
    (folder / "gates.yaml").write_text(yaml.safe_dump(gates), encoding="utf-8")


def _furnish(venv):
    venv.mkdir()
    for name in ("bin", "lib"):
        (venv / name).symlink_to(Path(sys.prefix) / name)
    if (Path(sys.prefix) / "pyvenv.cfg").exists():
        shutil.copy(Path(sys.prefix) / "pyvenv.cfg", venv)
    for name in ("runtime", "dev"):
        (venv / name).touch()


@pytest.fixture
def member(workshop, server, tmp_path):
    """With buckets `models`, `scratch` and `lake`, the latter full of logs."""
    for bucket in ("models", "lake/logs", "scratch"):
        (server.folder / bucket).mkdir(parents=True)
    shutil.copy(workshop.folder / LOG, server.folder / "lake/logs")
    server.restart()
    return Member.copied(workshop, tmp_path / "project", **KEYS)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.language in ("bash", "python") for b in blocks(page))]
)
def test_every_command_and_every_piece_of_code_of_a_page_works(member, server, page):
    for block in blocks(page):
        if block.language == "bash":
            told = script(page, block).replace("http://minio.example:9000", server.endpoint).replace("<project>", ".")
            for name, value in KEYS.items():
                told = told.replace(f"{name}=...", f"{name}={value}")
            member.run("bash", "-exc", told)
        elif block.language == "python" and (file := re.match(r"# (\S+\.py)\n", block.text)):
            member.write(file[1], block.text)
        elif block.language == "python":
            member.run("env", "PYTHONPATH=src", "python", "-W", "error", "-c", PRELUDE.get(page, "") + block.text)


@pytest.mark.parametrize("page", PAGES)
def test_a_block_says_what_it_is(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES


def test_what_is_listed_as_smaller_or_not_run_stands_on_a_page():
    shown = {
        command for page in PAGES for block in blocks(page) if block.language == "bash" for command in commands(block)
    }
    assert NOT_RUN.keys() | INSTEAD.keys() <= shown
    assert not NOT_RUN.keys() & INSTEAD.keys()


@pytest.mark.parametrize("page", ["README.md", "data/worldmodel/README.md"])
def test_lines_that_a_page_shows_are_good_ones(tmp_path, page):
    shown = [block.text for block in blocks(page) if block.language == "json"]
    assert shown
    for number, text in enumerate(shown):
        (tmp_path / f"{number}.jsonl").write_text(text, encoding="utf-8")
        assert check_logs.check(tmp_path / f"{number}.jsonl", 60)[0]


def test_the_page_on_logs_shows_good_lines_bad_ones_and_what_is_said_of_them(tmp_path):
    found = blocks("docs/logs.md")
    (tmp_path / "good.jsonl").write_text("".join(b.text for b in found if b.language == "jsonl"), encoding="utf-8")
    good, said = check_logs.check(tmp_path / "good.jsonl", 60)
    assert good, said
    (bad,) = (b.text for b in found if b.language == "json")
    (told,) = (b.text for b in found if b.language == "text")
    (tmp_path / "bad.jsonl").write_text(bad, encoding="utf-8")
    assert check_logs.check(tmp_path / "bad.jsonl", 60) == (False, told.splitlines())


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, heading = target.partition("#")
        path = (ROOT / page).parent / name
        assert path.exists(), target
        headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M) if heading else []
        assert not heading or heading in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


def test_changes_that_the_page_on_sweeps_shows_are_those_of_the_study():
    rows = (ROOT / "docs/results.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows if row.count("|") == 11]
    table = {(size, arm): change for size, arm, *_, change, _, _ in cells}
    shown = re.findall(r"^\| (\d+|all) .*?\| (.*?) \| (.*?) \|$", (ROOT / "docs/sweeps.md").read_text(), re.M)
    assert len(shown) == 3
    for size, *changes in shown:
        assert changes == [table[size, "rho 0.5"], table[size, "repeat, rho 0.5"]]


def test_sizes_that_the_page_on_the_bundle_shows_are_those_of_the_committed_run():
    train = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["train"]
    with gzip.open(ROOT / "data/worldmodel/offline/halfcheetah.jsonl.gz") as logs:
        first = json.loads(next(logs))
    frame = first["episode"][0] if "episode" in first else first
    sizes = {"H": train["history"], "H-1": train["history"] - 1, "K": train["horizon"], "Z": train["z_dim"]}
    sizes |= {"F": len(frame["features"]), "A": len(frame["action"])}
    shown = re.findall(r"\| \[batch, (.*?)\] \((.*?)\) \|", (ROOT / "docs/bundle.md").read_text(encoding="utf-8"))
    assert len(shown) == 8
    for letters, numbers in shown:
        assert [str(sizes[letter]) for letter in letters.split(", ")] == numbers.split(", ")
