"""A team on an S3 server, a real one: keys that count, deaths in the middle of a push, damage, and clearing up."""

import hashlib
import json
import re
import subprocess
import sys
import time

import pytest
import yaml

from factories import make_episodes, write_logs
from teams import KEYS, Member
from worldmodel.cli.remote import command, parse_place

URL = "s3://team/worldmodel"


@pytest.fixture
def people(template, server, tmp_path):
    """Makes members: the first one has all results, later ones are clones of what the first one committed."""
    made = []

    def join(**variables):
        folder = tmp_path / f"member-{len(made)}"
        keys = KEYS | variables
        made.append(Member.cloned(made[0], folder, **keys) if made else Member.copied(template, folder, **keys))
        return made[-1]

    return join


def configure(member, server, *options, url=URL):
    command = (sys.executable, "-m", "worldmodel", "remote", url, "--endpoint", server.endpoint, *options)
    return member.attempt(*command)


@pytest.fixture
def owner(people, server):
    """Has configured and committed the remote, and pushed nothing yet."""
    member = people()
    done = configure(member, server)
    assert done.returncode == 0, done.stderr
    member.commit()
    return member


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def wrong_hashes(server):
    data = [path for path in server.objects() if "files" in path.parts]
    assert data
    return [path for path in data if hashlib.md5(path.read_bytes()).hexdigest() != (path.parent.name + path.name)[:32]]


def test_what_one_pushes_another_gets_without_running_a_stage(owner, people, server):
    owner.run("dvc", "push", "--run-cache")
    assert wrong_hashes(server) == []
    other = people()
    assert other.repro("--pull", "--allow-missing") == (set(), set())
    other.run("dvc", "pull")
    for name in ("artifacts", "data/worldmodel"):
        assert tree(other.folder / name) == tree(owner.folder / name)
    (other.folder / "dvc.lock").unlink()
    assert other.repro("--pull", "normalize") == (set(), {"dreams", "prepare", "normalize"})


def test_a_remote_is_shared_without_keys_and_never_by_version(owner, server):
    assert owner.read(".dvc/config").splitlines()[-5:] == [
        "['remote \"storage\"']",
        f"    url = {URL}",
        "    verify = True",
        f"    endpointurl = {server.endpoint}",
        "    configpath = aws.ini",
    ]
    assert server.objects() == []  # the round trip leaves nothing behind


def test_kept_keys_stay_out_of_git_and_out_of_others_eyes(people, server):
    member = people()
    assert configure(member, server, "--keep-keys").returncode == 0
    kept = member.folder / ".dvc/config.local"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert KEYS["AWS_SECRET_ACCESS_KEY"] in kept.read_text()
    assert ".dvc/config.local" not in member.run("git", "status", "--porcelain", "--untracked-files=all")
    for name in KEYS:
        del member.environment[name]
    assert configure(member, server).returncode == 0
    assert "missing" not in member.run("dvc", "push", "artifacts/normalizer.json")


def test_temporary_keys_are_kept_with_their_token_and_replaced_as_a_whole(people, server):
    member = people(AWS_SESSION_TOKEN="a-token")
    done = configure(member, server, "--keep-keys")
    assert "when AWS_SESSION_TOKEN has expired, call this again with new ones" in done.stdout, done.stderr
    assert "session_token = a-token" in member.read(".dvc/config.local")
    del member.environment["AWS_SESSION_TOKEN"]
    assert "expired" not in configure(member, server, "--keep-keys").stdout
    assert "token" not in member.read(".dvc/config.local")
    assert KEYS["AWS_SECRET_ACCESS_KEY"] in member.read(".dvc/config.local")


@pytest.mark.parametrize(
    ("keys", "url", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": "stranger"}, URL, "refuses the keys of AWS_* or ~/.aws (InvalidAccessKeyId"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, URL, "refuses the keys of AWS_* or ~/.aws (SignatureDoesNotMatch"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, URL, "AWS_SECRET_ACCESS_KEY"),
        ({}, "s3://nobodys/worldmodel", "has no bucket nobodys; make it first, or correct URL"),
    ],
)
def test_a_place_that_does_not_work_is_told_in_one_line_and_changes_nothing(people, server, keys, url, said):
    member = people(**keys)
    done = configure(member, server, url=url)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert member.run("git", "status", "--porcelain") == ""


def test_a_server_that_is_down_is_told_in_one_line(people, server):
    server.kill()
    done = configure(people(), server)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {server.endpoint}: no answer (")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "url", ["team/worldmodel", "s3://", "s3:///worldmodel", "https://team/worldmodel", "s3://Team"]
)
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="expected s3://bucket/path, such as s3://models/worldmodel"):
        parse_place(url, None)


@pytest.mark.parametrize("endpoint", ["localhost:9000", "http://", "http://host:9000/bucket"])
def test_an_endpoint_that_is_none_is_refused(endpoint):
    with pytest.raises(ValueError, match="expected http://host:port or https://host, and nothing after it"):
        parse_place(URL, endpoint)


def test_a_mistake_in_dvcs_own_settings_is_told_as_dvc_has_it(tmp_path):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("['remote \"storage\"']\n    verify = perhaps\n")
    with pytest.raises(ValueError, match=r"config file error: expected 'url' for dictionary value"):
        command.main([URL, "--folder", str(tmp_path)], standalone_mode=False)


def test_amazon_needs_no_endpoint():
    place = parse_place("s3://team/a/b/", "")
    assert (str(place), place.endpoint) == ("s3://team/a/b", None)


def test_a_push_with_wrong_keys_fails_and_loses_nothing(owner, server):
    before = tree(owner.folder / ".dvc/cache")
    right, owner.environment["AWS_SECRET_ACCESS_KEY"] = owner.environment["AWS_SECRET_ACCESS_KEY"], "wrong"
    assert re.search("forbidden|signature|denied", owner.refused("dvc", "push"), re.IGNORECASE)
    assert (tree(owner.folder / ".dvc/cache"), server.objects()) == (before, [])
    owner.environment["AWS_SECRET_ACCESS_KEY"] = right
    owner.run("dvc", "push")
    assert wrong_hashes(server) == []


def test_a_push_that_the_server_did_not_outlive_is_completed_by_the_next(owner, people, server):
    owner.environment["AWS_MAX_ATTEMPTS"] = "1"
    push = subprocess.Popen(
        ("dvc", "push", "--jobs", "1"), cwd=owner.folder, env=owner.environment, stderr=subprocess.PIPE, text=True
    )
    while len(server.objects()) < 5:
        assert push.poll() is None
        time.sleep(0.01)
    server.kill()
    arrived = len(server.objects())
    assert "ERROR" in push.communicate(timeout=300)[1]
    assert push.returncode != 0
    server.start()
    owner.run("dvc", "push")
    assert len(server.objects()) > arrived
    assert wrong_hashes(server) == []
    other = people()
    other.run("dvc", "pull")
    assert tree(other.folder / "artifacts") == tree(owner.folder / "artifacts")


def test_an_object_damaged_on_the_server_is_refused_until_it_is_repaired(owner, people, server):
    owner.run("dvc", "push", "artifacts/normalizer.json")
    (damaged,) = (path for path in server.objects() if "files" in path.parts)
    content = damaged.read_bytes()
    damaged.write_bytes(b"x" * len(content))
    server.restart()
    other = people()
    assert "ERROR" in other.refused("dvc", "pull", "artifacts/normalizer.json")
    assert not (other.folder / "artifacts/normalizer.json").exists()
    damaged.write_bytes(content)
    server.restart()
    other.run("dvc", "pull", "artifacts/normalizer.json")
    assert (other.folder / "artifacts/normalizer.json").read_bytes() == content


def remember(member, text):
    """Put a file under DVC; returns the name of its object."""
    member.write("notes.txt", text)
    member.run("dvc", "add", "--quiet", "notes.txt")
    return yaml.safe_load(member.read("notes.txt.dvc"))["outs"][0]["md5"]


def test_clearing_up_keeps_what_branches_tags_and_experiments_need(owner, people, server):
    names = {}
    owner.run("git", "checkout", "--quiet", "-b", "side")
    names["branch"] = remember(owner, "a branch needs this")
    owner.commit()
    owner.run("git", "checkout", "--quiet", "-b", "gone")
    names["tag"] = remember(owner, "a tag needs this")
    owner.commit()
    owner.run("git", "tag", "worldmodel@v0.1.0")
    names["experiment"] = remember(owner, "an experiment needs this")
    owner.run("dvc", "exp", "save", "--name", "kept")
    owner.run("dvc", "push")
    names["nobody"] = remember(owner, "nobody needs this")
    owner.run("dvc", "push", "--all-commits")
    owner.run("dvc", "push")
    owner.run("git", "reset", "--quiet", "--hard", "worldmodel@v0.1.0")
    owner.run("dvc", "gc", "--all-branches", "--all-tags", "--all-experiments", "--cloud", "--force")
    there = {path.parent.name + path.name for path in server.objects()}
    assert {what for what, name in names.items() if name in there} == {"branch", "tag", "experiment"}
    assert people().repro("--pull", "--allow-missing") == (set(), set())


def test_logs_from_another_bucket_feed_the_pipeline(owner, server):
    logs = server.folder / "lake" / "logs"
    write_logs(logs, make_episodes(24, 20, agents=2))
    server.restart()
    owner.run("git", "rm", "-r", "--quiet", "data/worldmodel/offline")
    owner.run("dvc", "remote", "add", "lake", "s3://lake")
    owner.run("dvc", "remote", "modify", "lake", "endpointurl", server.endpoint)
    owner.run("dvc", "remote", "modify", "lake", "configpath", ".dvc/aws.ini")
    owner.run("dvc", "import-url", "remote://lake/logs", "data/worldmodel/offline")
    assert tree(owner.folder / "data/worldmodel/offline") == tree(logs)
    assert owner.repro("prepare") == ({"dreams", "prepare"}, set())
    manifest = json.loads(owner.read("data/worldmodel/prepared/manifest.json"))
    assert manifest["counts"]["source"]["observed"]["episodes"] == 24
    write_logs(logs, make_episodes(30, 20, agents=3))
    server.restart()
    owner.run("dvc", "update", "data/worldmodel/offline.dvc")
    assert tree(owner.folder / "data/worldmodel/offline") == tree(logs)
