import pytest

from research import bench_memory
from research.bench_memory import Cost, costs, told


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    return [costs(folder / f"{size}", size, ["prepare", "normalize"]) for size in (4, 40)]


@pytest.mark.parametrize("stage", ["prepare", "normalize"])
def test_ten_times_the_logs_take_a_fifth_more_memory_at_most(both, stage):
    one, many = (each[stage] for each in both)
    assert many.resident < 1.2 * one.resident
    assert many.anonymous < 1.2 * one.anonymous


def test_a_stage_that_fails_is_told_in_its_own_words(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)train: exit code 1.*no such file; run from the project's folder"):
        bench_memory.run("train", tmp_path)


def test_a_line_says_what_both_sizes_took_and_how_many_times_as_much():
    said = told("train", Cost(1, 2, 100, 50), Cost(10, 20, 110, 60))
    name, *numbers = said.split()
    assert name == "train"
    assert [float(number) for number in numbers] == [1, 10, 10, 2, 20, 10, 100, 110, 1.1, 50, 60, 1.2]
