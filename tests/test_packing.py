import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from factories import make_episodes, make_packed, make_scaler, make_tables, space_of
from test_episodes import contents
from worldmodel.arrays.packing import label_of, pack, read_packed, write_packed
from worldmodel.arrays.scaler import Scaler, fit
from worldmodel.core.fingerprint import sha256
from worldmodel.episodes.columns import Column, Columns

ARRAYS = ("features", "actions", "rewards", "confidence")


def write(folder, episodes, scaler=None):
    scaler = scaler or make_scaler(episodes)
    write_arrays(folder, make_tables(episodes), episodes, scaler)
    return scaler


def write_arrays(folder, samples, episodes, scaler):
    labels = [label_of(episode, "train", episode.length) for episode in episodes]
    frames = sum(label.frames for label in labels)
    write_packed(folder, samples, frames, labels, space_of(episodes), scaler)


def some_episodes(**fields):
    return make_episodes(3, 5, **fields) + make_episodes(2, 4, source="dream", **fields)


@pytest.mark.parametrize("kind", ["none", "discrete", "continuous"])
@pytest.mark.parametrize("rewards", [True, False])
def test_what_is_written_is_read_back(tmp_path, kind, rewards):
    episodes = some_episodes(kind=kind, rewards=rewards)
    write(tmp_path, episodes)
    found, expected = read_packed(tmp_path), make_packed(episodes)
    assert found.action_space == space_of(episodes)
    assert found.packed.labels == expected.labels
    for name in (*ARRAYS, "lengths"):
        np.testing.assert_equal(getattr(found.packed, name), getattr(expected, name))


def test_arrays_are_mapped_into_memory_and_cannot_be_written_to(tmp_path):
    write(tmp_path, some_episodes())
    packed = read_packed(tmp_path).packed
    for name in ARRAYS:
        array = getattr(packed, name)
        assert isinstance(array, np.memmap)
        assert array.dtype == np.dtype("<f4")
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


def test_frames_stand_episode_after_episode_in_standardized_units():
    episodes = some_episodes()
    scaler, packed = make_scaler(episodes), make_packed(episodes)
    for number, episode in enumerate(episodes):
        row = packed.rows(number)
        np.testing.assert_array_equal(packed.features[row], scaler.features.transform(episode.features))
        np.testing.assert_array_equal(packed.actions[row], scaler.actions.transform(episode.actions))
        np.testing.assert_array_equal(packed.rewards[row], scaler.rewards.transform(episode.rewards[:, None])[:, 0])
        np.testing.assert_array_equal(packed.confidence[row], 1 if episode.confidence is None else episode.confidence)


def test_two_folders_hold_the_same_bytes(tmp_path):
    for folder in ("a", "b/c"):
        write(tmp_path / folder, some_episodes())
    assert contents(tmp_path / "a") == contents(tmp_path / "b/c")


def test_digests_are_those_of_the_files(tmp_path):
    write(tmp_path, some_episodes())
    assert read_packed(tmp_path).digests == {name: sha256(tmp_path / f"{name}.npy") for name in ARRAYS}


def test_a_call_that_breaks_off_leaves_no_manifest(tmp_path):
    episodes = some_episodes()

    def broken():
        yield from make_tables(episodes)[:2]
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_arrays(tmp_path, broken(), episodes[:2], make_scaler(episodes))
    with pytest.raises(ValueError, match="no such file"):
        read_packed(tmp_path)


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def of_manifest(**changes):
    """A change of the manifest; a key that is None is taken out."""

    def spoil(folder):
        path = folder / "manifest.json"
        body = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in body.items() if value is not None}))

    return "manifest", spoil


def of_array(name, content):
    """Another content of an array's file, made of what it holds."""

    def spoil(folder):
        path = folder / f"{name}.npy"
        path.write_bytes(content(path.read_bytes()))

    return name, spoil


def saved(**arrays):
    """Another array, whose file is a sound one, and noted in the manifest."""

    def spoil(folder):
        digests = json.loads((folder / "manifest.json").read_text())["arrays"]
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
            digests[name] = sha256(folder / f"{name}.npy")
        change(folder / "manifest.json", arrays=digests)

    return next(iter(arrays)), spoil


def special(name, make):
    def spoil(folder):
        path = next(folder.glob(f"{name}.*"))
        path.unlink()
        make(path)

    return name, spoil


def exchanged(folder):
    one, other = (folder / f"{name}.npy" for name in ("rewards", "confidence"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def of_another_data_set(folder):
    write(folder.parent / "other", some_episodes(noise=0.02))
    shutil.copy(folder.parent / "other" / "features.npy", folder)


def with_label(**fields):
    def spoil(folder):
        path = folder / "manifest.json"
        first, *rest = json.loads(path.read_text())["episodes"]
        label = {key: value for key, value in (first | fields).items() if value is not None}
        change(path, episodes=[label, *rest])

    return "manifest", spoil


DIGESTS = dict.fromkeys(ARRAYS, "0" * 64)
SPOILS = [
    ("manifest", shutil.rmtree),
    special("manifest", lambda path: None),
    special("manifest", lambda path: path.write_text("[]")),
    special("manifest", lambda path: path.write_bytes(b"\xff\xfe")),
    special("manifest", lambda path: path.write_text("[" * 10**5)),
    special("manifest", lambda path: path.write_text('{"action": %s, "episodes": []}' % ("[" * 10**5))),
    special("manifest", Path.mkdir),
    special("manifest", os.mkfifo),
    special("actions", lambda path: None),
    special("features", Path.mkdir),
    special("features", os.mkfifo),
    special("features", lambda path: path.symlink_to("gone")),
    of_array("rewards", lambda _: b""),
    of_array("rewards", lambda _: b"no array"),
    of_array("features", lambda b: b[:150]),
    of_array("features", lambda b: b[:-1]),
    of_array("features", lambda b: b[:-1] + bytes([b[-1] ^ 1])),
    of_array("features", lambda b: b[:-4] + np.float32("nan").tobytes()),
    of_array("features", lambda b: b[:-40] + bytes(40)),
    of_array("confidence", lambda b: b + b"\0"),
    ("confidence", exchanged),
    ("features", of_another_data_set),
    saved(features=np.zeros((23, 2))),
    saved(features=np.zeros((3, 2), np.float32)),
    saved(features=np.zeros(23, np.float32)),
    saved(actions=np.zeros((23, 2), np.float32)),
    ("actions", with_label(frames=4)[1]),
    saved(confidence=np.zeros((23, 1), np.float32)),
    saved(rewards=np.array([None] * 23)),
    of_manifest(episodes=[]),
    of_manifest(episodes=[3]),
    of_manifest(action=3),
    of_manifest(action={"kind": "some", "size": 3}),
    of_manifest(action={"kind": "continuous", "size": "3"}),
    of_manifest(action={"kind": "continuous"}),
    of_manifest(action={"kind": "continuous", "size": 3, "still": [0.5, 0.5]}),
    of_manifest(action={"kind": "continuous", "size": 3, "still": ["0.5", "0.5", "0.5"]}),
    of_manifest(arrays={}),
    of_manifest(arrays=DIGESTS | {"more": "0" * 64}),
    of_manifest(arrays=DIGESTS | {"features": "0"}),
    of_manifest(arrays=DIGESTS | {"features": 0}),
    of_manifest(scales=None),
    of_manifest(more=1),
    with_label(frames=None),
    with_label(more=1),
    with_label(frames="5"),
    with_label(frames=-1),
    with_label(frames=10**30),
    with_label(split="some"),
    with_label(agent_id=["a"] * 10**5),
]


@pytest.mark.parametrize("kind", range(len(SPOILS)))
def test_what_is_not_as_it_was_written_is_one_line_that_names_the_file(tmp_path, kind):
    folder, (name, spoil) = tmp_path / "normalized", SPOILS[kind]
    write(folder, some_episodes())
    spoil(folder)
    with pytest.raises(ValueError, match=rf"^\S*normalized/{name}\.\w+: .{{1,400}}; run `dvc repro normalize`$"):
        read_packed(folder)


def test_arrays_belong_to_the_scales_that_they_were_made_with(tmp_path):
    episodes = some_episodes()
    scaler = write(tmp_path / "normalized", episodes)
    path = tmp_path / "normalizer.json"
    path.write_text(scaler.to_json())
    data = read_packed(tmp_path / "normalized")
    data.require_scales(Scaler.read(path), path)
    assert data.scales == scaler.sha256 == json.loads(path.read_text())["sha256"]
    for other in (make_scaler(episodes, method="minmax"), make_scaler(episodes[1:])):
        with pytest.raises(ValueError, match=r"normalizer\.json: other scales than those of the packed arrays"):
            data.require_scales(other, path)


def test_episodes_packed_in_memory_are_observed_train_episodes():
    episodes = make_episodes(3, 5)
    packed = pack(make_tables(episodes), make_scaler(episodes))
    assert packed.where("train").tolist() == [0, 1, 2]


def test_what_an_action_of_zero_is_in_standardized_units_is_kept_with_the_arrays(tmp_path):
    angle = Columns(actions=(Column("push"), Column("heading", "degrees", "angle"), Column("lift")))
    for number, columns in enumerate([None, angle]):
        episodes = make_episodes(3, 5, context=np.ones((5, 2), np.float32))
        tables = make_tables(episodes)
        scaler = fit(tables, "standard", 1e-8, one_hot=False, columns=columns)
        write_arrays(folder := tmp_path / str(number), tables, episodes, scaler)
        expected = [*scaler.actions.transform(np.zeros((1, 3), np.float32))[0], 0, 0]
        for found in (read_packed(folder).packed, pack(tables, scaler)):
            assert found.still.dtype == np.float32
            assert found.still.tolist() == expected
    one_hot = make_episodes(3, 5, kind="discrete")
    write(tmp_path / "one-hot", one_hot)
    assert read_packed(tmp_path / "one-hot").packed.still is make_packed(one_hot).still is None
