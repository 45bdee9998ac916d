"""The seam: the same results in the same order and the same bytes, whoever works, and whoever dies."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from ray._private import services

import engines
from copies import ENVIRONMENT
from factories import make_episodes, write_logs
from test_episodes import contents
from worldmodel.core import cluster, jobs

TESTS = Path(__file__).parent
RAY = str(Path(sys.executable).with_name("ray"))


@pytest.fixture
def logs(tmp_path):
    """Files whose episodes share their names; one row lacks a reading."""
    (tmp_path / "logs").mkdir()
    for number in range(3):
        write_logs(tmp_path / "logs", make_episodes(6, 9, seed=number, agents=3), f"log-{number}.jsonl")
    with (tmp_path / "logs/log-1.jsonl").open("a") as lines:
        lines.write('{"agent_id": "a", "timestamp": 1, "features": [1, null], "action": [0, 0, 0], "reward": 0}\n')
    return tmp_path / "logs"


@pytest.mark.parametrize("count", ["1", "2"])
def test_results_come_in_order_and_what_a_call_raises_reaches_the_caller(monkeypatch, count):
    monkeypatch.setenv(jobs.VARIABLE, count)
    assert list(jobs.run_all(engines.square, [(number,) for number in range(5)])) == [(n * n, "1") for n in range(5)]
    few = jobs.run_all(engines.square, [(number,) for number in range(50)])
    assert next(few)[0] == 0
    few.close()  # in silence
    with pytest.raises(ValueError, match=r"^two is wrong$"):
        list(jobs.run_all(engines.failing, [(number,) for number in range(4)]))


def test_what_a_killed_process_worked_on_is_made_again_and_handed_out_once(monkeypatch, tmp_path):
    monkeypatch.setenv(jobs.VARIABLE, "2")
    for deaths, folder in ((2, tmp_path / "two"), (9, tmp_path / "nine")):
        folder.mkdir()
        found = jobs.run_all(engines.dying, [(folder, number, deaths) for number in range(6)])
        if deaths < jobs.ATTEMPTS:
            assert list(found) == list(range(6))
        else:
            with pytest.raises(ValueError, match=r"^dying: a process that worked on it ended by itself 3 times"):
                list(found)


@pytest.mark.parametrize("form", ["npz", "lmdb"])
def test_pieces_give_the_same_bytes_as_one_process(monkeypatch, logs, tmp_path, form):
    for module, name in engines.LEAST:
        monkeypatch.setattr(module, name, 0)
    monkeypatch.setattr(engines.normalize, "MANY", 10**9)
    monkeypatch.setenv(jobs.VARIABLE, "1")
    engines.built(logs, tmp_path / "one", form)
    monkeypatch.setattr(engines.normalize, "MANY", 0)
    monkeypatch.setenv(jobs.VARIABLE, "2")
    engines.built(logs, tmp_path / "two", form)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_an_address_at_which_no_cluster_answers_is_named(logs, tmp_path):
    done = _python(TESTS / "engines.py", logs, tmp_path / "out", RAY_ADDRESS="somewhere")
    assert "\nValueError: RAY_ADDRESS=somewhere: no cluster of Ray answers there (" in done.stderr


def test_a_node_with_other_versions_or_without_the_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(jobs.VARIABLE, "1")
    own, nowhere = cluster._versions(), str(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match=r"^node .* has numpy .*; install what is here on every node: .*'numpy': '1.0'"
    ):
        cluster._called(engines.square, None, nowhere, own | {"numpy": "1.0"}, 3)
    with pytest.raises(ValueError, match=rf"^node .* does not see {nowhere}, and .*/gone neither; put the project on"):
        cluster._called(Path.read_bytes, None, nowhere, own, tmp_path / "gone")


@pytest.mark.slow
def test_a_cluster_reaches_the_bits_of_one_process_though_a_node_is_killed(logs, copy, tmp_path):
    engines_alone = _python(TESTS / "engines.py", logs, tmp_path / "one", WORLDMODEL_JOBS="1")
    assert not engines_alone.returncode, engines_alone.stderr
    whole, lock = contents(tmp_path / "one"), copy.read("dvc.lock")
    with _cluster() as (address, second):
        out, begun = tmp_path / "two", tmp_path / "begun"
        begun.mkdir()
        command = [sys.executable, str(TESTS / "engines.py"), str(logs), str(out), str(begun)]
        driver = subprocess.Popen(command, env=_environment(RAY_ADDRESS=address), stdout=subprocess.PIPE, text=True)
        while not {path.name.partition("-")[0] for path in begun.iterdir()} & _family(second):
            assert driver.poll() is None
            time.sleep(0.1)
        _kill(second)
        assert driver.communicate(timeout=120)[0].splitlines()[-1] == str(list(range(engines.CALLS)))
        assert contents(out) == whole
        copy.environment = _environment(RAY_ADDRESS=address)
        early = {"dreams", "prepare", "normalize"}  # the others make no calls of this kind
        assert copy.repro("--force", "normalize") == (early, set())
    assert copy.read("dvc.lock") == lock


def _environment(**variables):
    return {
        **ENVIRONMENT,
        "PYTHONPATH": str(TESTS.parent / "src"),
        "no_proxy": "*",
        "RAY_AUTH_MODE": "disabled",
        "WORLDMODEL_JOBS": "2",
        **variables,
    }


def _python(*arguments, **variables):
    command, environment = [sys.executable, *map(str, arguments)], _environment(**variables)
    return subprocess.run(
        command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@contextmanager
def _cluster():
    """Address of a cluster of two nodes on this machine, and the process that the second one hangs on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        place = services.get_node_ip_address(), probe.getsockname()[1]
    address = ":".join(map(str, place))
    with ExitStack() as stack:
        head = stack.enter_context(_node("--head", f"--port={place[1]}", "--include-dashboard=false"))
        while not _answers(place):
            assert head.poll() is None
            time.sleep(0.1)
        yield address, stack.enter_context(_node(f"--address={address}"))


def _answers(place):
    with socket.socket() as probe:
        return not probe.connect_ex(place)


@contextmanager
def _node(*options):
    folder = tempfile.mkdtemp(prefix="ray")  # a short name: sockets lie in it
    own = [f"--temp-dir={folder}"] if "--head" in options else []
    common = ["--block", "--num-cpus=1", "--object-store-memory=100000000"]
    started = subprocess.Popen(
        [RAY, "start", *options, *own, *common, "--disable-usage-stats"],
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        _kill(started)
        shutil.rmtree(folder, ignore_errors=True)


def _family(process):
    """It and all that it has started."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    return {str(each.pid) for each in [*family, process]}


def _kill(process):
    for pid in _family(process):
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    process.wait()
