import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.core.tables import aligned, read_csv, rounded, six_digits, write_csv


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_six_digits_are_close_and_stay_as_they_are(value):
    found = six_digits(value)
    assert found == pytest.approx(value, rel=5.1e-6, abs=0)
    assert six_digits(found) == found


@pytest.mark.parametrize(
    ("value", "found"), [(1 / 3, 0.333333), (123456.7, 123457), (1.23456789e-9, 1.23457e-9), (0, 0)]
)
def test_a_number_keeps_six_significant_digits(value, found):
    assert six_digits(value) == found


def test_nested_floats_are_rounded_and_all_else_stays():
    given = {"a": {"b": 2 / 3, "n": 1234567, "flag": True}, "text": "x", "np": np.float64(1 / 3)}
    assert rounded(given) == {"a": {"b": 0.666667, "n": 1234567, "flag": True}, "text": "x", "np": 0.333333}
    assert json.dumps(rounded(given)["np"]) == "0.333333"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_a_metric_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="expected a finite number"):
        rounded({"a": {"b": value}})


def test_a_table_is_read_back_with_six_digits(tmp_path):
    path = tmp_path / "new" / "table.csv"
    write_csv(path, ("name", "count", "value"), [('a, "b"', 3, 1 / 3), ("ä", 4, None)])
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["name", "count", "value"], ['a, "b"', "3", "0.333333"], ["ä", "4", ""]]
    assert b"\r" not in path.read_bytes()


def test_a_table_that_breaks_off_leaves_the_old_one(tmp_path):
    path = tmp_path / "table.csv"
    write_csv(path, ("a",), [(1,)])

    def broken():
        yield (2,)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_csv(path, ("a",), broken())
    assert path.read_text() == "a\n1\n"


def test_names_that_others_chose_are_no_formulas_and_no_tags_and_come_back(tmp_path):
    names = [
        "=cmd|' /C calc'!A0",
        "@SUM(1)",
        "+1-1",
        "-x",
        "</script><img>",
        "&lt;",
        "a, b;=1",
        "\ud800",
        "-0.5",
        "agent-1",
    ]
    write_csv(tmp_path / "table.csv", ("=name", "value"), [(name, -0.5) for name in names])
    text = (tmp_path / "table.csv").read_text()
    assert "<" not in text
    assert text.splitlines()[:3] == ["'=name,value", "'=cmd|' /C calc'!A0,-0.5", "'@SUM(1),-0.5"]
    found = [row["=name"] for row in read_csv(text.replace("'=name", "=name"))]
    assert found == [name.replace("\ud800", "\\ud800") for name in names]
    with pytest.raises(ValueError, match="not CSV: "):
        read_csv('a\n"')


def test_a_cell_that_is_printed_drives_no_terminal_and_stays_on_its_line():
    assert aligned(["run"], [["\x1b[2J\n::error::x\u202e"]]) == "run\n\\x1b[2J\\n::error::x\\u202e"
