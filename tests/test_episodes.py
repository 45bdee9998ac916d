import json
from dataclasses import replace

import numpy as np
import pytest

from factories import make_episodes
from worldmodel.episodes.schema import ActionSpace
from worldmodel.store import shards
from worldmodel.store.manifest import count
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


def test_order_and_bytes_do_not_depend_on_folder_or_order_of_episodes(tmp_path):
    episodes = make_episodes(5, 4) + make_episodes(2, 4, source="dream")
    for folder, order in (("a", episodes), ("b/c", episodes[::-1])):
        write_prepared(tmp_path / folder, order, ["train"] * 7, CONTINUOUS)
    assert contents(tmp_path / "a") == contents(tmp_path / "b/c")
    keys = [(record.source, record.agent_id, record.name) for record in read_prepared(tmp_path / "a")]
    assert keys == sorted(keys, key=lambda key: (key[0] == "dream", key[1], key[2]))


def test_a_manifest_is_json_with_sorted_keys_and_two_spaces(tmp_path):
    odd = {"agent_id": 'a"episodes": []é', "name": "\U0001f600"}
    episodes = make_episodes(1, 4, **odd) + make_episodes(1, 4, source="dream", provenance={"start": {"b": [1, {}]}})
    for form in ("npz", "lmdb"):
        write_prepared(tmp_path, episodes, ["train", "train"], CONTINUOUS, form)
        text = (tmp_path / "manifest.json").read_text()
        assert text == json.dumps(json.loads(text), sort_keys=True, indent=2) + "\n"


def test_shards_are_few_and_the_same_in_every_folder(tmp_path):
    episodes = make_episodes(30, 4) + make_episodes(3, 4, source="dream")
    for folder in ("a", "b/c"):
        write_prepared(tmp_path / folder, episodes, ["train"] * 33, CONTINUOUS, "lmdb")
    assert contents(tmp_path / "a") == contents(tmp_path / "b/c")
    assert sorted(contents(tmp_path / "a" / "episodes")) == ["dream-00000.lmdb", "observed-00000.lmdb"]


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


def test_a_shard_that_is_missing_broken_or_lacks_an_episode_is_named(tmp_path):
    prepared = write_prepared(tmp_path, make_episodes(2, 4), ["train"] * 2, CONTINUOUS, "lmdb")
    with pytest.raises(ValueError, match=r"observed-00000.lmdb: holds no 0{16}.npz; run dvc repro prepare"):
        prepared.load(replace(next(iter(prepared)), file="0" * 16 + ".npz"))
    (tmp_path / "episodes" / "observed-00000.lmdb").write_bytes(b"garbage" * 9999)
    with pytest.raises(ValueError, match=r"observed-00000.lmdb: not a readable shard \(.*MDB_INVALID"):
        prepared.load(next(iter(prepared)))
    (tmp_path / "episodes" / "observed-00000.lmdb").unlink()
    with pytest.raises(ValueError, match=r"observed-00000.lmdb: no such file; run dvc repro prepare"):
        prepared.load(next(iter(prepared)))
    with pytest.raises(ValueError, match=r"1 of 1 files .* are missing, observed-00000.lmdb first"):
        read_prepared(tmp_path)


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


def test_left_out_episodes_are_not_written(tmp_path):
    prepared = write_prepared(tmp_path, make_episodes(3, 4), ["train", None, "test"], CONTINUOUS)
    assert [record.name for record in prepared] == ["observed-0", "observed-2"]
    assert len(list((tmp_path / "episodes").iterdir())) == 2


def test_the_manifest_counts_episodes_and_frames(tmp_path):
    episodes = make_episodes(3, 4) + make_episodes(1, 6, source="dream")
    prepared = write_prepared(tmp_path, episodes, ["train", "val", "train", "train"], CONTINUOUS)
    counts = json.loads((tmp_path / "manifest.json").read_text())["counts"]
    assert counts["source"] == {"dream": {"episodes": 1, "frames": 6}, "observed": {"episodes": 3, "frames": 12}}
    assert counts["split"] == {"train": {"episodes": 3, "frames": 14}, "val": {"episodes": 1, "frames": 4}}
    assert counts["agent"] == count(prepared, agent=lambda record: record.agent_id)["agent"]


def test_two_episodes_with_one_key_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"2 episodes would be .* expected distinct segments"):
        write_prepared(tmp_path, make_episodes(1, 4) * 2, ["train"] * 2, CONTINUOUS)


def test_nothing_to_write_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no episode to write"):
        write_prepared(tmp_path, make_episodes(1, 4), [None], CONTINUOUS)


def prepared_in(folder):
    return write_prepared(folder, make_episodes(2, 4), ["train"] * 2, CONTINUOUS)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no such file; expected prepared episodes, run dvc repro prepare"),
        ("{", "not a manifest of prepared episodes"),
        ('{"episodes": []}', "not a manifest of prepared episodes .*action"),
        ("{}", "not a manifest of prepared episodes .*found no list of episodes"),
        ("[]", "not a manifest of prepared episodes"),
    ],
)
def test_a_missing_or_broken_manifest_is_named(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=rf"manifest\.json: {reason}"):
        read_prepared(tmp_path)


def test_a_manifest_that_points_elsewhere_is_refused(tmp_path):
    for form, message in (("npz", "secret.*expected 16 hex digits"), ("lmdb", "secret.*, expected observed or dream")):
        prepared = write_prepared(tmp_path, make_episodes(2, 4), ["train"] * 2, CONTINUOUS, form)
        file = next(iter(prepared)).file if form == "npz" else "observed-00000.lmdb"
        manifest = tmp_path / "manifest.json"
        manifest.write_text(manifest.read_text().replace(file, f"../../secret.{form}"))
        with pytest.raises(ValueError, match=message):
            read_prepared(tmp_path)


def test_a_missing_episode_file_is_named(tmp_path):
    file = tuple(prepared_in(tmp_path))[1].file
    (tmp_path / "episodes" / file).unlink()
    with pytest.raises(ValueError, match=f"1 of 2 files that manifest.json lists are missing, {file} first"):
        read_prepared(tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut off"])
def test_an_episode_file_that_is_no_npz_is_named(tmp_path, content):
    prepared = prepared_in(tmp_path)
    (tmp_path / "episodes" / next(iter(prepared)).file).write_bytes(content)
    with pytest.raises(ValueError, match=f"{next(iter(prepared)).file}: not a readable NPZ"):
        prepared.load(next(iter(prepared)))


def test_an_episode_file_that_unpacks_to_more_than_its_frames_is_refused(tmp_path):
    prepared = prepared_in(tmp_path)
    record = next(iter(prepared))
    np.savez_compressed(tmp_path / "episodes" / record.file, features=np.zeros(10**7, np.float32))
    with pytest.raises(ValueError, match=f"{record.file}: not a readable NPZ .it unpacks to 40000128 bytes, expected"):
        prepared.load(record)


def test_an_episode_file_with_other_arrays_is_named(tmp_path):
    prepared = prepared_in(tmp_path)
    record = next(iter(prepared))
    np.savez(tmp_path / "episodes" / record.file, features=np.zeros((4, 2)))
    with pytest.raises(ValueError, match=rf"{record.file}: holds .*<f8.*expected .*<f4.*run dvc repro prepare"):
        prepared.load(record)
