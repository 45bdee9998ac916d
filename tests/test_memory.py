"""What memory a process may have, and how a need beyond it is told."""

import subprocess
import sys

import pytest

from worldmodel.core import memory
from worldmodel.core.memory import Ceiling, Need, require

GB = 10**9


def test_a_need_beyond_what_is_there_is_told_with_its_keys_and_what_there_is():
    needs = [Need(3 * GB, "train.steps 5"), Need(4 * GB, "train.batch_size 9, train.horizon 2", processes=3)]
    require("train", needs, [Ceiling(15 * GB, "this machine has")])
    expected = (
        r"^train would take about 15\.0 GB of memory, and this machine has 14\.0 GB; most of it is for "
        r"train\.batch_size 9, train\.horizon 2, in 3 processes \(WORLDMODEL_JOBS\): lower the first of them$"
    )
    with pytest.raises(ValueError, match=expected):
        require("train", needs, [Ceiling(14 * GB, "this machine has")])


def test_a_limit_of_each_process_is_no_limit_of_all_together():
    needs = [Need(4 * GB, "a", processes=3)]
    require("train", needs, [Ceiling(4 * GB, "`ulimit -v` leaves a process", of_one=True)])
    with pytest.raises(ValueError, match="ulimit"):
        require("train", needs, [Ceiling(4 * GB - 1, "`ulimit -v` leaves a process", of_one=True)])


@pytest.mark.parametrize(
    ("line", "files", "found"),
    [
        ("0::/a/b", {"memory.max": "max", "a/memory.max": "7", "a/b/memory.max": "9"}, [9, 7]),
        ("0::/elsewhere", {"memory.max": "5"}, [5]),  # as a container sees it
        ("4:cpu,memory:/a", {"memory/a/memory.limit_in_bytes": "3", "memory/memory.limit_in_bytes": "11"}, [3, 11]),
        ("3:cpu:/a", {"a/memory.max": "1"}, []),
        ("0::/a", {"a/memory.max": "no number"}, []),
    ],
)
def test_a_control_group_and_those_around_it_limit_a_process(tmp_path, line, files, found):
    own, mounted = tmp_path / "cgroup", tmp_path / "sys"
    own.write_text(f"{line}\n")
    for name, text in files.items():
        (mounted / name).parent.mkdir(parents=True, exist_ok=True)
        (mounted / name).write_text(f"{text}\n")
    assert list(memory._cgroups(own, mounted)) == found


def test_ulimit_leaves_what_is_not_taken_yet():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9,) * 2)\n"
        "from worldmodel.core.memory import _ceilings\n"
        "print([each.size for each in _ceilings() if each.of_one])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 2 * GB < int(said.strip("[]\n")) < 3 * GB
