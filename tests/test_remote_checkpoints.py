"""Checkpoints on a real S3 server: another machine goes on, whatever became of the first one or of the server."""

import os
import signal
import socket
import time
from contextlib import suppress

import pytest

from teams import KEYS
from test_checkpoint import ALWAYS, FOREIGN, equal, saved, state
from worldmodel.checkpoints import remote as mirror
from worldmodel.checkpoints.checkpoint import EVERY, Checkpoints, graceful_shutdown, held
from worldmodel.checkpoints.content import name_of
from worldmodel.checkpoints.remote import RemoteCheckpoints, remote_of

BUCKET = "s3://team/worldmodel"
PRINT = 64 * "a"
PLACE = f"{BUCKET}/train/{PRINT}"


def machine(folder):
    """What a machine has: a folder of its own, and the mirror that all share."""
    folder.mkdir(parents=True, exist_ok=True)
    return Checkpoints(folder, ALWAYS, RemoteCheckpoints(PLACE, PRINT), PRINT)


def mirrored(folder, *steps):
    """A machine that has saved these steps and sent each."""
    made = machine(folder)
    for step in steps:
        made.save(step, state(step))
        made.remote.finish()
    return made


def steps(server):
    return [int(path.name.split("-")[0]) for path in server.objects()]


@pytest.mark.usefixtures("client")
def test_another_machine_goes_on_from_the_newest_one(server, tmp_path, capsys):
    mirrored(tmp_path / "a", 5, 10, 15)
    assert steps(server) == [10, 15]
    assert server.objects()[0].parent == server.folder / "team/worldmodel/train" / PRINT
    other = machine(tmp_path / "b")
    assert equal(other.latest(), state(15))
    assert f"going on from step 15: {PLACE}/000000000015-" in capsys.readouterr().err
    assert other.step == 15


@pytest.mark.usefixtures("client")
def test_what_lies_here_is_not_fetched_and_the_newest_counts_wherever_it_lies(server, tmp_path, capsys):
    one = mirrored(tmp_path / "a", 5)
    assert equal(one.latest(), state(5))
    assert f"going on from step 5: {tmp_path}" in capsys.readouterr().err
    saved(tmp_path / "b", 3, work=PRINT)
    assert equal(machine(tmp_path / "b").latest(), state(5))
    saved(tmp_path / "c", 7, work=PRINT)
    assert equal(machine(tmp_path / "c").latest(), state(7))


@pytest.mark.usefixtures("client")
def test_of_several_machines_at_once_the_last_two_are_kept(server, tmp_path):
    slow = mirrored(tmp_path / "a", 5)
    fast = mirrored(tmp_path / "b", 100, 105)
    slow.save(6, state(6))
    slow.remote.finish()
    assert steps(server) == [100, 105]
    fast.remote.clear()
    slow.remote.clear()
    assert server.objects() == []


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-1] + b"~"])
def test_a_torn_one_is_named_and_removed_and_the_one_before_is_taken(server, tmp_path, damage, capsys):
    mirrored(tmp_path / "a", 5, 10)
    torn = server.objects()[-1]
    torn.write_bytes(damage(torn.read_bytes()))
    server.restart()
    assert equal(machine(tmp_path / "b").latest(), state(5))
    assert f"{PLACE}/{torn.name}: torn" in capsys.readouterr().err
    assert steps(server) == [5]


@pytest.mark.usefixtures("client")
def test_a_copy_takes_the_place_of_one_that_is_torn_here(tmp_path):
    one = mirrored(tmp_path / "a", 5, 10)
    max(one.folder.glob("*.safetensors")).write_bytes(b"")
    assert equal(one.latest(), state(10))


@pytest.mark.usefixtures("client")
def test_what_others_have_put_there_is_left_alone(server, tmp_path):
    foreign = server.folder / "team/worldmodel/train" / PRINT / "notes.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    made = mirrored(tmp_path / "a", 5)
    made.remote.clear()
    assert server.objects() == [foreign]


@pytest.mark.usefixtures("client")
def test_what_is_no_checkpoint_of_this_work_is_neither_taken_nor_counted_nor_removed(server, tmp_path, capsys):
    place = server.folder / "team/worldmodel/train" / PRINT
    contents = [*FOREIGN.values(), b"some", b"of their own" * 10**5]
    foreign = [place / name_of(number, content) for number, content in enumerate(contents, 90)]
    foreign += [place / f"{77:012}-{'0' * 16}.safetensors", place / f"member-0/{name_of(78, contents[0])}"]
    foreign += [place / f"{79:012}-{'1' * 16}.safetensors/inside"]
    mirrored(tmp_path / "a", 5)
    for path, content in zip(foreign, [*contents, b"not its hash", contents[0], b""], strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    server.restart()
    other = machine(tmp_path / "b")
    assert equal(other.latest(), state(5))
    assert capsys.readouterr().err.count(", left alone\n") == len(contents) + 1
    for step in (6, 7):
        other.save(step, state(step))
        other.remote.finish()
    assert sorted(set(server.objects()) - set(foreign)) == [place / f"{path.name}" for path in own(other)]
    other.remote.clear()
    assert sorted(server.objects()) == sorted(foreign)


def own(machine):
    return sorted(machine.folder.glob("*.safetensors"))[-2:]


@pytest.mark.usefixtures("client")
def test_copies_stay_when_the_work_broke_off_and_go_when_it_is_done(server, tmp_path):
    with suppress(RuntimeError), held(tmp_path / "a", ALWAYS, RemoteCheckpoints(PLACE)) as kept:
        kept.save(1, state(1))
        raise RuntimeError
    assert steps(server) == [1]
    with held(tmp_path / "b", ALWAYS, RemoteCheckpoints(PLACE)) as kept:
        assert equal(kept.latest(), state(1))
        kept.save(2, state(2))
    assert steps(server) == []


@pytest.mark.usefixtures("client")
def test_an_orphans_copies_stay_for_the_next_one(server, tmp_path, monkeypatch):
    with held(tmp_path, ALWAYS, RemoteCheckpoints(PLACE)) as kept:
        kept.save(1, state(1))
        monkeypatch.setattr(os, "getppid", lambda: 1)
    assert steps(server) == [1]


@pytest.mark.usefixtures("client")
def test_a_signal_sends_the_last_one_before_it_ends_the_process(server, tmp_path):
    def work():
        with held(tmp_path, EVERY, RemoteCheckpoints(PLACE)) as kept, graceful_shutdown(kept):
            signal.raise_signal(signal.SIGTERM)
            kept.save(3, state(3))

    with pytest.raises(SystemExit):
        work()
    assert steps(server) == [3]


@pytest.mark.usefixtures("client")
def test_a_server_that_goes_away_is_told_once_and_loses_nothing(server, tmp_path, capsys):
    made = mirrored(tmp_path, 1)
    server.kill()
    for step in (2, 3):
        made.save(step, state(step))
        made.remote.finish()
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert f"{PLACE}: 000000000002-" in said
    assert "could not be sent (Could not connect to the endpoint URL" in said
    assert "this goes on with this machine's checkpoints" in said
    assert equal(Checkpoints(tmp_path, ALWAYS, work=PRINT).latest(), state(3))
    server.start()
    made.save(4, state(4))
    made.remote.finish()
    assert f"{PLACE}: sent again, from 000000000004-" in capsys.readouterr().err
    assert steps(server) == [1, 4]


def no_server(server, monkeypatch):
    server.kill()
    return "Could not connect to the endpoint URL"


def wrong_keys(server, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    return "signature"


def no_keys(server, monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name)
    return "Unable to locate credentials"


def no_bucket(server, monkeypatch):
    (server.folder / "team").rmdir()
    return "bucket does not exist"


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("spoil", [no_server, wrong_keys, no_keys, no_bucket])
def test_a_place_that_cannot_be_had_stops_a_training_before_it_begins(server, tmp_path, monkeypatch, spoil):
    reason = spoil(server, monkeypatch)
    expected = rf"^{PLACE}: cannot be looked through \(.*{reason}.*\); check address, keys and server, or unset"
    with pytest.raises(ValueError, match=expected), held(tmp_path, ALWAYS, RemoteCheckpoints(PLACE)) as kept:
        kept.latest()


@pytest.mark.usefixtures("client")
def test_nobody_waits_for_a_server_that_never_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mirror, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        start = time.monotonic()
        with held(tmp_path, ALWAYS, RemoteCheckpoints(PLACE)) as kept:
            for step in range(20):
                kept.save(step, state(step))
        took = time.monotonic() - start
    monkeypatch.setattr(mirror, "PATIENCE", 60)
    kept.remote.finish()  # now refused: it must not speak in the middle of another test
    assert took < 30  # a client of S3 waits for minutes
    assert "cannot be cleared (no answer within 0.2 s)" in capsys.readouterr().err


@pytest.mark.parametrize("address", [None, ""])
def test_without_an_address_there_is_no_mirror(monkeypatch, address):
    if address is not None:
        monkeypatch.setenv(mirror.VARIABLE, address)
    assert remote_of("train", PRINT) is None


def test_an_address_has_a_scheme(monkeypatch):
    monkeypatch.setenv(mirror.VARIABLE, "team/worldmodel")
    with pytest.raises(
        ValueError, match=r"WORLDMODEL_CHECKPOINTS: found 'team/worldmodel', expected an address such as s3:"
    ):
        remote_of("train", PRINT)
    monkeypatch.setenv(mirror.VARIABLE, f"{BUCKET}/")
    assert remote_of("train", PRINT).address == PLACE
