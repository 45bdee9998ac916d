"""A machine dies in the middle of a training, and another one, which has the same commit and data, goes on."""

import re
import signal
import subprocess
import sys
import time

from copies import ENVIRONMENT
from teams import FOREIGN
from test_episodes import contents
from worldmodel.checkpoints import remote as mirror


def begin(machine, out, variables):
    """`python src/train.py` there, on that machine's data."""
    data = machine.folder / "data/worldmodel/normalized"
    given = {"normalized": data, "normalizer": "artifacts/normalizer.json", "out": out}
    given |= {"plots": out / "plots", "timing": out.with_suffix(".json")}
    command = [sys.executable, "src/train.py", *(f"--{name}={value}" for name, value in given.items())]
    clean = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(FOREIGN)}
    environment = clean | {"DVC_ROOT": str(machine.folder)} | variables
    return subprocess.Popen(command, cwd=machine.folder, env=environment, stderr=subprocess.PIPE, text=True)


def ended(process):
    """What it said."""
    said = process.communicate(timeout=500)[1]
    assert process.returncode == 0, said
    return said


def test_a_new_machine_goes_on_where_the_old_one_died_to_the_same_bits(template, server, client, tmp_path):
    place = client | {mirror.VARIABLE: "s3://team/worldmodel"}
    one, other = template.again(tmp_path / "one"), template.again(tmp_path / "other")
    for each in (one, other):
        each.set_train(steps=1500)
    process = begin(one, tmp_path / "dead", place)
    until = time.monotonic() + 500
    while not server.objects():
        assert time.monotonic() < until
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL

    said = ended(begin(other, tmp_path / "second", place))
    assert re.search(r"going on from step \d+: s3://team/worldmodel/train/", said)
    assert server.objects() == []
    ended(begin(other, tmp_path / "whole", {}))
    assert contents(tmp_path / "second") == contents(tmp_path / "whole")
