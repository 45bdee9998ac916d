import json
import os

import pytest

from worldmodel.core.timing import record


def test_one_part_is_replaced_and_the_other_stays(tmp_path):
    path = tmp_path / "artifacts" / "timing.json"
    record(path, "train", "aaa", {"ms_per_batch": 1 / 3})
    record(path, "inference", "bbb", {"latency_ms_p50": 2.0})
    record(path, "train", "ccc", {"ms_per_batch": 4.0})
    assert json.loads(path.read_text()) == {
        "train": {"of": "ccc", "ms_per_batch": 4.0},
        "inference": {"of": "bbb", "latency_ms_p50": 2.0},
    }


def test_numbers_have_six_digits_and_keys_are_sorted(tmp_path):
    path = tmp_path / "timing.json"
    record(path, "train", "aaa", {"z": 1 / 3, "a": 1.0})
    record(path, "inference", "aaa", {})
    text = path.read_text()
    assert "0.333333\n" in text
    assert text.index('"inference"') < text.index('"train"') < text.index('"z"')
    assert text.index('"a"') < text.index('"z"')


DAMAGES = {
    "torn": lambda path: path.write_text('{"train": {'),
    "binary": lambda path: path.write_bytes(b"\xff\0"),
    "deep": lambda path: path.write_text("[" * 10**5),
    "a list": lambda path: path.write_text("[]"),
    "a part that is a number": lambda path: path.write_text('{"train": 3}'),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_set_aside_with_one_line(tmp_path, damage, capsys):
    path = tmp_path / "timing.json"
    DAMAGES[damage](path)
    record(path, "inference", "bbb", {"latency_ms_p50": 2.0})
    assert json.loads(path.read_text()) == {"inference": {"of": "bbb", "latency_ms_p50": 2.0}}
    said = capsys.readouterr().err
    assert said.startswith(f"{path}: not what a clock says (")
    assert said.count("\n") == 1
    assert len(list(tmp_path.glob("timing.json.*.damaged"))) == 1


def test_where_it_cannot_be_written_a_line_says_so(tmp_path, capsys):
    (tmp_path / "artifacts").write_text("a file where a folder should be")
    record(tmp_path / "artifacts" / "timing.json", "train", "aaa", {})
    assert capsys.readouterr().err.startswith(
        f"{tmp_path}/artifacts/timing.json: what the clock says is not recorded ("
    )
