import hashlib
import io
import json
import os
import resource
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from factories import make_episodes
from worldmodel.episodes.schema import ActionSpace
from worldmodel.store import shards
from worldmodel.store.manifest import count
from worldmodel.store.npz import npz_bytes
from worldmodel.store.prepared import read_prepared, write_prepared

SPACES = {
    "none": ActionSpace("none", 0),
    "discrete": ActionSpace("discrete", 3),
    "continuous": ActionSpace("continuous", 3),
}
CONTINUOUS = SPACES["continuous"]


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("rewards", [True, False])
@pytest.mark.parametrize("form", ["npz", "lmdb"])
def test_what_is_written_is_read_back(tmp_path, kind, rewards, form):
    episodes = make_episodes(4, 5, kind=kind, rewards=rewards, terminal=True)
    episodes += make_episodes(2, 6, kind=kind, rewards=rewards, source="dream", provenance={"teacher": "t"})
    write_prepared(tmp_path, episodes, ["train", "val", "test", "train", "train", "train"], SPACES[kind], form)
    prepared = read_prepared(tmp_path)
    assert (prepared.feature_count, prepared.action_space, prepared.has_rewards) == (2, SPACES[kind], rewards)
    by_key = {(episode.source, episode.name): episode for episode in episodes}
    assert len(prepared) == len(by_key)
    for record in prepared:
        episode, arrays = by_key[record.source, record.name], prepared.load(record)
        assert (record.agent_id, record.segment, record.frames) == (episode.agent_id, episode.segment, episode.length)
        assert (record.terminal, record.provenance) == (episode.terminal, episode.provenance)
        assert record.identity == episode.identity
        for name in ("timestamps", "features", "rewards", "confidence"):
            np.testing.assert_equal(getattr(arrays, name), getattr(episode, name))
        np.testing.assert_equal(arrays.actions, SPACES[kind].encode(episode.actions))


def test_one_npz_holds_little_endian_arrays_and_no_pickle(tmp_path):
    prepared = write_prepared(tmp_path, make_episodes(1, 5, source="dream"), ["train"], CONTINUOUS)
    with np.load(tmp_path / "episodes" / next(iter(prepared)).file, allow_pickle=False) as file:
        kinds = {name: file[name].dtype.str for name in file.files}
    vectors = dict.fromkeys(["features", "actions", "rewards", "confidence"], "<f4")
    assert kinds == {"timestamps": "<f8", **vectors}


@pytest.mark.parametrize("form", ["npz", "lmdb"])
def test_order_and_bytes_do_not_depend_on_folder_or_order_of_episodes_and_shards_are_few(tmp_path, form):
    observed, dreams = make_episodes(30, 4), make_episodes(3, 4, source="dream")
    folders = {"a": observed + dreams, "b/c": observed + dreams}
    if form == "npz":
        folders["d"] = (observed + dreams)[::-1]
    for folder, episodes in folders.items():
        prepared = write_prepared(tmp_path / folder, episodes, ["train"] * 33, CONTINUOUS, form)
        assert contents(tmp_path / "a") == contents(tmp_path / folder)
    keys = [(record.source == "dream", record.agent_id, record.name) for record in prepared]
    assert keys == sorted(keys)
    if form == "lmdb":
        assert sorted(contents(tmp_path / "a" / "episodes")) == ["dream-00000.lmdb", "observed-00000.lmdb"]


def test_a_manifest_is_json_with_sorted_keys_and_two_spaces(tmp_path):
    odd = {"agent_id": 'a"episodes": []é', "name": "\U0001f600"}
    episodes = make_episodes(1, 4, **odd) + make_episodes(1, 4, source="dream", provenance={"start": {"b": [1, {}]}})
    for form in ("npz", "lmdb"):
        write_prepared(tmp_path, episodes, ["train", "train"], CONTINUOUS, form)
        text = (tmp_path / "manifest.json").read_text()
        assert text == json.dumps(json.loads(text), sort_keys=True, indent=2) + "\n"


def test_episodes_that_come_later_change_the_last_shard_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 10_000)
    dreams = make_episodes(3, 4, source="dream")
    for folder, observed in (("few", make_episodes(30, 4)), ("many", make_episodes(45, 4))):
        episodes = observed + dreams
        write_prepared(tmp_path / folder, episodes, ["train"] * len(episodes), CONTINUOUS, "lmdb")
    few, many = (contents(tmp_path / folder / "episodes") for folder in ("few", "many"))
    last = max(name for name in few if name.startswith("observed"))
    assert len(few) > 3
    assert {name for name in few if few[name] != many[name]} == {last}


def test_file_names_stay_when_episodes_are_added(tmp_path):
    few = write_prepared(tmp_path / "few", make_episodes(3, 4), ["train"] * 3, CONTINUOUS)
    many = write_prepared(tmp_path / "many", make_episodes(9, 4), ["train"] * 9, CONTINUOUS)
    assert {record.file for record in few} < {record.file for record in many}


def test_names_in_the_logs_never_reach_the_file_system(tmp_path):
    episodes = [replace(make_episodes(1, 4)[0], agent_id="../../etc", name="/passwd")]
    prepared = write_prepared(tmp_path / "out", episodes, ["train"], CONTINUOUS)
    assert next(iter(prepared)).agent_id == "../../etc"
    assert sorted(contents(tmp_path)) == [f"out/episodes/{next(iter(prepared)).file}", "out/manifest.json"]
    assert len(next(iter(prepared)).file.removesuffix(".npz")) == 16


def test_the_manifest_counts_episodes_and_frames_and_those_without_a_split_are_not_written(tmp_path):
    episodes = make_episodes(4, 4) + make_episodes(1, 6, source="dream")
    prepared = write_prepared(tmp_path, episodes, ["train", "val", None, "train", "train"], CONTINUOUS)
    assert [record.name for record in prepared] == ["observed-0", "observed-1", "observed-3", "dream-0"]
    assert len(list((tmp_path / "episodes").iterdir())) == 4
    counts = json.loads((tmp_path / "manifest.json").read_text())["counts"]
    assert counts["source"] == {"dream": {"episodes": 1, "frames": 6}, "observed": {"episodes": 3, "frames": 12}}
    assert counts["split"] == {"train": {"episodes": 3, "frames": 14}, "val": {"episodes": 1, "frames": 4}}
    assert counts["agent"] == count(prepared, agent=lambda record: record.agent_id)["agent"]


def test_nothing_to_write_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no episode to write"):
        write_prepared(tmp_path, make_episodes(1, 4), [None], CONTINUOUS)


def prepared_in(folder, form="npz", **fields):
    return write_prepared(folder, make_episodes(2, 4, **fields), ["train"] * 2, CONTINUOUS, form)


def change(path, **changes):
    """Keys of the manifest, or of the first record; one that is None is taken out."""
    body = json.loads(path.read_text())
    for values, new in ((body, changes), (body["episodes"][0], changes.pop("record", {}))):
        values.update(new)
        for key in [key for key, value in new.items() if value is None]:
            del values[key]
    path.write_text(json.dumps(body))


MANIFESTS = [
    lambda path: None,
    Path.mkdir,
    os.mkfifo,
    *(partial(Path.write_bytes, data=text) for text in (b"", b"{", b"[]", b"{}", b"\xff", b'{"episodes": []}')),
    *(partial(Path.write_text, data=text) for text in ('{"a": %s, "episodes": []}' % ("[" * 10**5), "[" * 10**5)),
]
KEYS = ["action", "counts", "feature_count", "rewards", "shards"]
COLUMNS = ["agent_id", "file", "frames", "name", "segment", "sha256", "shard", "source", "split", "terminal"]
CHANGES = [
    *({key: value} for key in KEYS for value in (None, 3.5, "some")),
    *({"record": {key: value}} for key in COLUMNS for value in (None, 3.5, [1])),
    {"more": 1},
    {"counts": {}},
    {"record": {"more": 1}},
    {"record": {"frames": -1}},
    {"record": {"provenance": 3}},
    {"record": {"file": "../../secret.npz"}},
    {"record": {"shard": "../../secret.lmdb"}},
    {"record": {"sha256": "0"}},
]


@pytest.mark.parametrize("kind", range(len(MANIFESTS) + len(CHANGES)))
def test_a_manifest_that_is_not_as_it_was_written_is_named(tmp_path, kind):
    prepared, path = prepared_in(tmp_path, "lmdb"), tmp_path / "manifest.json"
    if kind < len(CHANGES):
        change(path, **CHANGES[kind])
    else:
        path.unlink()
        MANIFESTS[kind - len(CHANGES)](path)
    with pytest.raises(ValueError, match=r"^\S*(manifest\.json|episodes|lmdb|npz): .{1,300}; run dvc repro prepare$"):
        load_all(read_prepared(prepared.folder))


def load_all(prepared):
    return [prepared.load(record) for record in prepared]


def other_npz(whole, **changes):
    """Another sound NPZ with the same sizes."""
    with np.load(io.BytesIO(whole)) as file:
        return npz_bytes({name: changes.get(name, lambda array: array)(file[name]) for name in file.files})


def of_bytes(make):
    def spoil(path, _):
        content = make(path.read_bytes())
        path.unlink()
        path.write_bytes(content)

    return spoil


def instead(make):
    def spoil(path, _):
        path.unlink()
        make(path)

    return spoil


BOTH = [
    of_bytes(lambda b: b""),
    of_bytes(lambda b: b"garbage" * 9999),
    of_bytes(lambda b: b[: len(b) // 2]),
    of_bytes(lambda b: b[:-1]),
    of_bytes(lambda b: b[: min(4096, len(b) - 2)]),
    of_bytes(lambda b: bytes(len(b))),
    of_bytes(lambda b: b[:-4096] + bytes(4096)),
    of_bytes(lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1 :]),
    of_bytes(lambda b: b + b"\0"),
    lambda path, other: shutil.copy(other, path),
    instead(lambda path: None),
    instead(Path.mkdir),
    instead(os.mkfifo),
    instead(lambda path: path.symlink_to("gone")),
]
DAMAGES = [(form, spoil) for form in ("npz", "lmdb") for spoil in BOTH] + [
    ("npz", of_bytes(lambda b: other_npz(b, features=lambda array: array * np.float32("nan")))),
    ("npz", of_bytes(lambda b: other_npz(b, features=lambda array: array + 1))),
    ("lmdb", of_bytes(lambda b: b[:20] + (7).to_bytes(4, "little") + b[24:])),  # version
]


@pytest.mark.parametrize("kind", range(len(DAMAGES)))
def test_an_episode_that_is_not_as_it_was_written_is_named(tmp_path, kind):
    """Another one of the same size, and where LMDB would map what is not there, as well."""
    form, spoil = DAMAGES[kind]
    prepared, other = prepared_in(tmp_path / "a", form), prepared_in(tmp_path / "b", form, seed=1)
    path, another = (
        each.folder / "episodes" / (next(iter(each)).shard or next(iter(each)).file) for each in (prepared, other)
    )
    spoil(path, another)
    with pytest.raises(ValueError, match=rf"({path.name}|lmdb/\w+\.npz): .{{1,300}}; run dvc repro prepare$"):
        load_all(prepared)


def test_a_shard_without_the_episode_is_named(tmp_path):
    prepared = prepared_in(tmp_path, "lmdb")
    with pytest.raises(ValueError, match=r"observed-00000.lmdb: holds no 0{16}.npz; run dvc repro prepare"):
        prepared.load(replace(next(iter(prepared)), file="0" * 16 + ".npz"))


def noted(prepared, content):
    """The first record, as if this had been written for it."""
    record = next(iter(prepared))
    (prepared.folder / "episodes" / record.file).write_bytes(content)
    return replace(record, sha256=hashlib.sha256(content).hexdigest()[:16])


def saved(save, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def test_what_was_noted_and_is_no_such_episode_is_named(tmp_path):
    prepared = prepared_in(tmp_path)
    large = saved(np.savez_compressed, features=np.zeros(10**7, np.float32))
    for content, message in (
        (b"garbage", "not a readable NPZ"),
        (large, "not a readable NPZ .it unpacks to 40000128 bytes, expected"),
        (saved(np.savez, features=np.zeros((4, 2))), r"holds .*<f8.*expected .*<f4.*run dvc repro prepare"),
    ):
        record = noted(prepared, content)
        with pytest.raises(ValueError, match=f"{record.file}: {message}"):
            prepared.load(record)


def test_a_map_is_as_large_as_what_is_written(tmp_path):
    for size in (1, 300):  # many small ones, and a large one after them
        episodes = make_episodes(size, 3) + make_episodes(1, 20_000, name="long")
        folder = tmp_path / str(size)
        assert (
            len(load_all(write_prepared(folder, episodes, ["train"] * len(episodes), CONTINUOUS, "lmdb"))) == size + 1
        )


@pytest.mark.parametrize(("limit", "room"), [(resource.RLIMIT_FSIZE, 10_000), (resource.RLIMIT_AS, 0)])
def test_a_full_disk_or_too_little_memory_for_a_shard_is_one_line(tmp_path, limit, room, monkeypatch):
    monkeypatch.setattr(shards, "SPARE", 1 << 44 if limit == resource.RLIMIT_AS else shards.SPARE)
    before = resource.getrlimit(limit)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096 + (1 << 30)
    resource.setrlimit(limit, (room or used, before[1]))
    try:
        with pytest.raises(ValueError, match=r"^\S*observed-00000.lmdb: .* could not be written .*; make room on that"):
            write_prepared(tmp_path, make_episodes(9, 400), ["train"] * 9, CONTINUOUS, "lmdb")
    finally:
        resource.setrlimit(limit, before)
    assert not list((tmp_path / "episodes").iterdir())
