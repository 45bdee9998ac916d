import json
import os
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from commands import call
from copies import ROOT
from factories import make_episodes, write_logs
from lines import frame, log
from test_episodes import contents
from worldmodel.cli import check_logs
from worldmodel.linting.remarks import Limits


def test_good_logs_end_in_a_summary_and_nothing_is_written(tmp_path, capsys):
    write_logs(tmp_path, make_episodes(4, 5), "a.jsonl.gz")
    before = contents(tmp_path)
    for path in (tmp_path, tmp_path / "a.jsonl.gz"):
        assert call("check-logs", path) == 0
        said = capsys.readouterr()
        assert "episodes  4, 5 frames each" in said.out
        assert said.err == ""
    assert contents(tmp_path) == before


def test_the_sample_is_good(capsys):
    assert call("check-logs", ROOT / "data/worldmodel/offline") == 0
    assert "episodes  272, 200 frames each" in capsys.readouterr().out


def test_wrong_rows_are_named_and_counted_with_exit_code_1(tmp_path, capsys):
    assert call("check-logs", log(tmp_path, frame(0), *["?"] * 24, frame(1, features=[]))) == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert said.err == ""
    assert [line.split(": ")[0] for line in lines[:20]] == [f"log.jsonl:{number}" for number in range(2, 22)]
    assert lines[20:] == [
        "",
        "25 of 26 rows are wrong:",
        "      24 not JSON",
        "       1 features: expected a non-empty list of numbers within float32's range, null where one is missing",
        "",
        "1 remark on what is allowed and probably wrong:",
        lines[-1],
    ]
    assert lines[-1].startswith("log.jsonl:1, episode @0.0: no-windows: ALL 1 of 1 frames")


def test_remarks_as_json_for_programs_and_strict_for_ci(tmp_path, capsys):
    write_logs(tmp_path, make_episodes(4, 12), "a.jsonl")
    (tmp_path / "b.jsonl.1").write_text("{}")
    (tmp_path / "._a.jsonl").write_bytes(b"\x00\x05\x16\x07")
    assert call("check-logs", tmp_path, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    counts = {"files": 1, "frames": 48, "episodes": 4, "usable_episodes": 4, "windows": 4, "rejected": 0, "errors": []}
    assert {key: found[key] for key in counts} == counts
    assert found["unread_files"] == ["._a.jsonl", "b.jsonl.1"]
    kinds = {remark["kind"]: remark for remark in found["remarks"]}
    assert set(kinds) == {"few-episodes", "unread-files"}
    assert set(kinds["unread-files"]) == {"kind", "file", "line", "episode", "count", "message"}
    assert call("check-logs", tmp_path, "--strict") == 1


def test_where_nothing_can_be_read_one_line_says_so(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.jsonl").write_text("\n\n")
    for name in ("gone", "empty", "blank.jsonl"):
        assert call("check-logs", tmp_path / name) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"error: {tmp_path / name}")
        assert said.err.count("\n") == 1


def test_a_terminal_that_knows_ascii_alone_is_enough(tmp_path):
    command = [sys.executable, "-m", "worldmodel", "check-logs", log(tmp_path, frame(0, "\u00e9\u4e2d"))]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\xe9\u4e2d 1" in done.stdout


@settings(max_examples=40)
@given(st.binary(max_size=64))
def test_whatever_the_bytes_there_is_no_traceback(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "log.jsonl"
    path.write_bytes(content + b"\n?")
    found = check_logs.check(path, Limits(60, 8, 16))
    assert found.logs.rejects
    assert any(line.startswith("log.jsonl:") for line in found.lines())
