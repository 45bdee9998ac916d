import json
import shutil

import numpy as np
import pytest

from factories import make_episodes, make_packed, make_samples, make_scaler, space_of
from test_episodes import contents
from worldmodel.arrays.packing import label_of, pack, read_packed, sample_of, write_packed
from worldmodel.arrays.scaler import Scaler
from worldmodel.core.fingerprint import sha256

ARRAYS = ("features", "actions", "rewards", "confidence")


def write(folder, episodes, scaler=None):
    scaler = scaler or make_scaler(episodes)
    write_arrays(folder, make_samples(episodes), episodes, scaler)
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


def test_nothing_of_an_earlier_call_stays(tmp_path):
    write(tmp_path / "a", some_episodes())
    for folder in ("a", "b"):
        write(tmp_path / folder, some_episodes(rewards=False))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert read_packed(tmp_path / "a").packed.rewards is None


def test_a_call_that_breaks_off_leaves_no_manifest(tmp_path):
    write(tmp_path, some_episodes())
    episodes = some_episodes()

    def broken():
        yield from make_samples(episodes)[:2]
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_arrays(tmp_path, broken(), episodes[:2], make_scaler(episodes))
    with pytest.raises(ValueError, match="not packed episodes"):
        read_packed(tmp_path)


def break_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


SPOILS = [
    shutil.rmtree,
    lambda folder: (folder / "manifest.json").unlink(),
    lambda folder: (folder / "manifest.json").write_text("[]"),
    lambda folder: (folder / "actions.npy").unlink(),
    lambda folder: (folder / "rewards.npy").write_bytes(b""),
    lambda folder: (folder / "rewards.npy").write_bytes(b"no array"),
    lambda folder: (folder / "features.npy").write_bytes((folder / "features.npy").read_bytes()[:150]),
    lambda folder: np.save(folder / "features.npy", np.array([None]), allow_pickle=True),
    lambda folder: np.save(folder / "features.npy", np.zeros((3, 2), np.float32)),
    lambda folder: break_manifest(folder, episodes=[]),
    lambda folder: break_manifest(folder, action=3),
    lambda folder: break_manifest(folder, arrays={}),
]


def test_a_folder_that_is_not_as_it_was_written_is_named(tmp_path):
    folder = tmp_path / "normalized"
    for spoil in SPOILS:
        write(folder, some_episodes())
        spoil(folder)
        with pytest.raises(ValueError, match=r"normalized: not packed episodes .*dvc repro normalize"):
            read_packed(folder)


def test_arrays_belong_to_the_scales_that_they_were_made_with(tmp_path):
    episodes = some_episodes()
    scaler = write(tmp_path / "normalized", episodes)
    path = tmp_path / "normalizer.json"
    path.write_text(scaler.to_json())
    data = read_packed(tmp_path / "normalized")
    data.require_scales(Scaler.read(path), path)
    assert data.scales == sha256(path)
    for other in (make_scaler(episodes, method="minmax"), make_scaler(episodes[1:])):
        with pytest.raises(ValueError, match=r"normalizer\.json: other scales than those of the packed arrays"):
            data.require_scales(other, path)


def test_a_sample_without_actions_has_none_of_size_0():
    sample = sample_of(np.zeros((4, 2), np.float32), None)
    assert sample.actions.shape == (4, 0)


def test_episodes_packed_in_memory_are_observed_train_episodes():
    episodes = make_episodes(3, 5)
    packed = pack(make_samples(episodes), make_scaler(episodes))
    assert packed.where("train").tolist() == [0, 1, 2]
