import pytest

from research import bench_logs, bench_scale
from research.bench_scale import Cost, costs, line
from worldmodel.core.jobs import VARIABLE


def test_four_times_the_logs_take_a_tenth_more_memory_at_most(tmp_path):
    """Below 20 MB of logs, what is read at once is not full yet."""
    one, many = (costs(tmp_path / f"{size}", size, ["prepare", "normalize"]) for size in (20, 80))
    for stage in ("prepare", "normalize"):
        assert many[stage].resident < 1.1 * one[stage].resident


def test_a_stage_that_fails_ends_with_its_own_complaint(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)train: exit code 1.*no such file"):
        bench_scale.cost_of("train", tmp_path)


def test_a_line_says_what_a_size_took_and_how_far_that_is_from_linear():
    one, many = (50, Cost(1, 2, 100)), (500, Cost(11, 20, 110))
    found = [line("train", *each, first=one).split() for each in (one, many)]
    assert [name for name, *_ in found] == ["train"] * 2
    assert [list(map(float, numbers)) for _, *numbers in found] == [[50, 1, 1, 2, 100], [500, 11, 1.1, 20, 110]]


def test_reading_is_compared_with_bare_parsers_on_the_same_lines(capsys, monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")  # which the command changes
    bench_logs.command.main(["--megabytes", "0.4", "--rounds", "1"], standalone_mode=False)
    _, header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "MB/s"
    assert [row.split("  ")[0] for row in rows[4:]] == [
        f"{what}, {by}" for what in ("read_logs", "check-logs", "prepare to NPZ") for by in ("one process", "all")
    ]
    for place, row in enumerate(rows[:4]):  # each against itself
        assert float(row.split()[-4:][place]) == 1
