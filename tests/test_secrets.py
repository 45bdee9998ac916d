"""Passwords and signatures of addresses, against servers that ask for them: written nowhere."""

import base64
import errno
import json
import subprocess
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from fsspec.implementations.http import HTTPFileSystem

from commands import call
from copies import ENVIRONMENT, ROOT
from factories import make_episodes, write_logs
from lines import log, read
from teams import KEYS
from worldmodel.checkpoints.remote import VARIABLE, RemoteCheckpoints, remote_of
from worldmodel.cli.remote import parse_place
from worldmodel.core import elsewhere
from worldmodel.core.fingerprint import content_hashes
from worldmodel.logs.files import log_files

PASSWORD, SIGNATURE = "pa55%2FwOrd", "5igned-by-me"
LOGGED_IN = "Basic " + base64.b64encode(b"user:pa55/wOrd").decode()
SECRETS = (PASSWORD, "pa55/wOrd", SIGNATURE, KEYS["AWS_SECRET_ACCESS_KEY"], "user:")
PASS = f"X-Amz-Signature={SIGNATURE}&X-Amz-Expires=9"


class Door(SimpleHTTPRequestHandler):
    """A folder for those who have the password or a signed address; some of its paths misbehave."""

    def do_GET(self):
        path = self.path.partition("?")[0]
        if self.headers.get("Authorization") != LOGGED_IN and SIGNATURE not in self.path:
            self.send_error(403)
        elif path.startswith("/500"):
            self.send_error(500)
        elif path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved"))
            self.end_headers()
        elif path.startswith("/slow"):
            self.server.hang()
        elif path.startswith("/endless/"):
            self.path = self.path.removeprefix("/endless")
            self.send_response(200)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write((Path(self.directory) / path.removeprefix("/endless/")).read_bytes())
        elif self.command == "GET":
            super().do_GET()
        else:
            super().do_HEAD()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def web(tmp_path):
    """Folder, and port of its server."""
    folder = tmp_path / "www"
    episodes = make_episodes(31, 10, agents=3)
    write_logs(folder, episodes[:30], "a.jsonl.gz")
    write_logs(folder, episodes[30:], "b.jsonl")
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Door(*given, directory=folder))
    server.hang = (done := Event()).wait
    Thread(target=server.serve_forever, daemon=True).start()
    yield folder, server.server_port
    done.set()
    server.shutdown()
    server.server_close()


def everything(done, *folders):
    """What a process said, and what is in files now."""
    texts = [path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()]
    return b"\n".join([done.stdout, done.stderr, *texts]).decode("utf-8", "replace")


def prepare(logs, folder, **variables):
    folder.mkdir()
    command = [ROOT / "src/prepare.py", "--logs", logs, "--out", folder / "out"]
    environment = ENVIRONMENT | {"DVC_ROOT": str(folder / "home"), "TMPDIR": str(folder)} | variables
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, timeout=120, check=False
    )


def test_logs_behind_a_password_or_a_signed_address_leave_no_secret_anywhere(web, tmp_path):
    host = f"127.0.0.1:{web[1]}"
    for number, (address, works) in enumerate(
        [
            (f"http://user:{PASSWORD}@{host}/", True),
            (f"http://{host}/a.jsonl.gz?{PASS}", True),
            (f"http://user:{PASSWORD}x@{host}/", False),
            (f"http://user:{PASSWORD}@{host}/none.jsonl?{PASS}", False),
            (f"http://user:{PASSWORD}@no-such-host.invalid/a.jsonl", False),
            (f"odd://user:{PASSWORD}@{host}/?{PASS}", False),
            (f"s3://user:{SECRETS[3]}@bucket/logs", False),
        ]
    ):
        folder = tmp_path / str(number)
        done = prepare(address, folder)
        assert done.returncode == (not works), done.stderr
        assert works or (done.stderr.startswith(b"error: ") and done.stderr.count(b"\n") == 1), done.stderr
        found = everything(done, folder)
        assert [secret for secret in SECRETS if secret in found] == [], found
        if works:
            (record,) = (folder / "home/runs").glob("*/metadata.json")
            assert "--logs 'http://" in json.loads(record.read_text())["attempts"][0]["command"]
        assert not list(folder.glob("worldmodel-*"))


def test_where_a_row_is_bad_or_ours_is_the_fault_it_is_told_without_a_secret(web, tmp_path, capsys, monkeypatch):
    address = f"http://user:{PASSWORD}@127.0.0.1:{web[1]}/c.jsonl?{PASS}"
    log(web[0], "?", name="c.jsonl")
    assert call("check-logs", address) == 1
    said = capsys.readouterr()
    assert said.out.startswith("c.jsonl:1: not JSON")
    monkeypatch.setattr("worldmodel.cli.check_logs.check", lambda logs, _: 1 / len(logs.partition("nowhere")[1]))
    assert call("check-logs", address) == 70
    said = capsys.readouterr()
    details = Path(said.err.strip().rpartition("details in ")[2])
    assert not [secret for secret in SECRETS if secret in said.out + said.err + details.read_text()]
    details.unlink()


def test_a_web_server_is_read_whatever_it_says_of_sizes_parts_and_places(web):
    host, here = f"http://user:{PASSWORD}@127.0.0.1:{web[1]}", read(web[0])
    assert [file.name for file in log_files(f"{host}/")] == ["a.jsonl.gz", "b.jsonl"]
    assert len(read(f"{host}/").episodes) == len(here.episodes) == 31
    for place in ("endless", "moved"):
        assert len(read(f"{host}/{place}/a.jsonl.gz?{PASS}").episodes) == 30


def test_where_a_copy_has_no_room_its_place_is_named(web, monkeypatch):
    async def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    HTTPFileSystem.clear_instance_cache()
    monkeypatch.setattr(HTTPFileSystem, "_get_file", full)
    with pytest.raises(ValueError, match=r"worldmodel-\w+/\d+: No space left on device; set TMPDIR to a folder"):
        log_files(f"http://user:{PASSWORD}@127.0.0.1:{web[1]}/")
    HTTPFileSystem.clear_instance_cache()


def test_what_a_web_server_answers_instead_is_one_line(web, monkeypatch, capsys):
    monkeypatch.setattr(elsewhere, "ANSWER", 1)
    elsewhere._limit_waiting.cache_clear()
    monkeypatch.setattr("fsspec.config.conf", {})
    host = f"127.0.0.1:{web[1]}"
    for address, reason in [
        (f"http://{host}/a.jsonl", "403"),
        (f"http://user:{PASSWORD}@{host}/500.jsonl", "500"),
        (f"http://user:{PASSWORD}@{host}/500/", "500"),
        (f"http://user:{PASSWORD}@{host}/slow/", "imeout"),
        (f"http://user:{PASSWORD}@{host}/none/", "no such folder"),
        ("http://127.0.0.1:1/a.jsonl", "Cannot connect to host"),
    ]:
        assert call("check-logs", address) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: {address.replace(f'user:{PASSWORD}', '***')}: ")
        assert reason in said, said
        assert said.count("\n") == 1


def test_a_hash_depends_on_what_lies_there_and_not_on_how_it_is_reached(web):
    host = f"127.0.0.1:{web[1]}"

    def hashes(address):
        return content_hashes({"logs": address})

    before = hashes(f"http://{host}/b.jsonl?{PASS}")
    assert before == hashes(f"http://user:{PASSWORD}@{host}/b.jsonl") == hashes(f"http://{host}/b.jsonl?{PASS}&new=1")
    assert list(before) == ["logs/b.jsonl"]
    changed = (web[0] / "b.jsonl").read_bytes().replace(b"0", b"1")
    (web[0] / "b.jsonl").write_bytes(changed)
    assert hashes(f"http://{host}/b.jsonl?{PASS}") != before


def test_keys_of_a_bucket_are_written_nowhere(server, client, tmp_path):
    write_logs(server.folder / "team/logs", make_episodes(30, 10, agents=3))
    server.restart()
    right = KEYS["AWS_SECRET_ACCESS_KEY"]
    for secret, session, said in [(right, "", ""), ("wr0ng-secret", "a-t0ken", "error: s3://team/logs: cannot be")]:
        keys = {"AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": session}
        done = prepare(
            "s3://team/logs", tmp_path / secret, **client | {key: text for key, text in keys.items() if text}
        )
        assert done.stderr.decode().startswith(said), done.stderr
        assert (done.returncode, done.stderr.count(b"\n")) == ((1, 1) if said else (0, 0)), done.stderr
        found = everything(done, tmp_path / secret).replace(str(tmp_path / secret), "")
        assert not [each for each in (secret, session) if each and each in found]


@pytest.mark.usefixtures("client")
def test_objects_with_any_name_are_shown_on_one_line_and_looked_at_anew(server):
    folder = server.folder / "team/logs"
    folder.mkdir()
    for name in ("x\x1b[2J\n.jsonl", "<script>.jsonl", f"{'long' * 60}.jsonl"):
        log(folder, "?", name=name)
    server.restart()
    first = content_hashes({"logs": "s3://team/logs"})
    shown = [str(reject) for reject in read("s3://team/logs").rejects]
    assert len(shown) == 3
    assert all(line.isprintable() and len(line) < 400 for line in shown)
    (folder / "<script>.jsonl").write_text("!\n")
    server.restart()
    assert content_hashes({"logs": "s3://team/logs"}) != first


def test_the_place_of_checkpoints_and_of_the_remote_is_shown_without_keys(monkeypatch, capsys):
    for address in (f"odd://user:{PASSWORD}@bucket/x", f"user:{PASSWORD}@bucket/x"):
        monkeypatch.setenv(VARIABLE, address)
        with pytest.raises(ValueError, match="bucket/x") as told:
            remote_of("train", "a" * 64).names()
        assert PASSWORD not in str(told.value)
    remote = RemoteCheckpoints(f"odd://user:{PASSWORD}@bucket/x")
    remote.send_now("name", b"content")
    said = capsys.readouterr().err
    assert said.startswith("warning: odd://***@bucket/x: name could not be sent")
    assert PASSWORD not in said
    for url, endpoint in [(f"s3://user:{PASSWORD}@team/x", None), ("s3://team/x", f"http://user:{PASSWORD}@host:9")]:
        with pytest.raises(ValueError, match=r"\*\*\*@") as told:
            parse_place(url, endpoint)
        assert PASSWORD not in str(told.value)
