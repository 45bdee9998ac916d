import json

import pytest

from lines import frame, log, named, read
from worldmodel.core.tables import read_csv
from worldmodel.logs.rejects import by_reason, kinds_of, require_few_rejects, write_rejects


def test_too_many_rejects_stop_with_the_first_twenty_and_advice(tmp_path):
    logs = read(log(tmp_path, frame(0), *["?"] * 24))
    with pytest.raises(ValueError, match="24 of 25 rows are bad") as error:
        require_few_rejects(logs.rejects, logs.rows, 0.5)
    lines = str(error.value).splitlines()
    assert lines[1].startswith("log.jsonl:2: not JSON")
    assert lines[20].startswith("log.jsonl:21: not JSON")
    assert lines[21:23] == ["... and 4 more; by reason:", "      24 not JSON"]
    assert lines[23:] == ["fix these rows, or raise prepare.max_rejected_share to go on without them"]
    require_few_rejects(logs.rejects, logs.rows, 0.96)
    with pytest.raises(ValueError, match="24 of 24 rows are bad"):  # nothing else, whatever is allowed
        require_few_rejects(logs.rejects, 24, 1.0)


def test_rejects_are_written_as_csv(tmp_path):
    logs = read(log(tmp_path, frame(0), frame(1, features=[None, 1])))
    write_rejects(tmp_path / "rejects.csv", logs.rejects)
    assert (tmp_path / "rejects.csv").read_bytes() == (
        b"file,line,reason\n"
        b'log.jsonl,2,"features[0]: missing (null), expected a number; prepare.missing: mask keeps such rows"\n'
    )


def test_a_file_of_any_name_is_a_cell_and_still_says_what_was_found(tmp_path):
    name = "=<script>.jsonl"
    write_rejects(tmp_path / "rejects.csv", read(log(tmp_path, frame(0), {"<b>": 1, **frame(1)}, name=name)).rejects)
    (row,) = read_csv((tmp_path / "rejects.csv").read_text())
    assert row == {"file": name, "line": "2", "reason": row["reason"]}
    assert row["reason"].startswith('"<b>": unknown field')
    assert "\n'=&lt;script>.jsonl,2," in (tmp_path / "rejects.csv").read_text()


def test_rejects_are_counted_by_reason_whatever_they_found_and_where(tmp_path):
    features = [None, 2], [0.5, "x"], ["y", 1]
    bad = [*(frame(t, features=row) for t, row in enumerate(features, 1)), "?", "{", frame(4, agent_id="")]
    inner = [frame(1, "b"), frame(1, "b"), frame(0.5, "b"), {**frame(3, "b"), "reward": "1"}]
    lines = [frame(0), *bad, {"agent_id": "b", "episode": inner}, named(8, "x"), named(8, "x"), named(7, "x")]
    assert by_reason(read(log(tmp_path, *lines)).rejects) == [
        ("timestamp: expected more than the time of the frame before", 4),
        ("features[]: expected a finite float32 number", 2),
        ("not JSON", 2),
        ("agent_id: expected non-empty text of at most 256 characters, none of them a control character", 1),
        ("features[0]: missing (null), expected a number; prepare.missing: mask keeps such rows", 1),
        ("reward: expected a finite float32 number, or no such key", 1),
    ]


def test_a_reason_keeps_its_kind_when_text_in_it_changes():
    found = json.dumps('a", expected "b')
    assert kinds_of(f"agent_id: found {found}, expected {json.dumps('x')} as the line says") == kinds_of(
        'agent_id: found "c", expected "y" as the line says'
    )
