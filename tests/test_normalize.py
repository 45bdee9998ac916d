from dataclasses import replace

import numpy as np
import pytest

from commands import stage
from factories import make_normalize, make_scaler, space_of
from projects import SPLITS, Project, make_project, make_train, observed_and_dreams, splits_of
from test_episodes import contents
from worldmodel.arrays.scaler import Scaler
from worldmodel.stages import normalize
from worldmodel.store.prepared import read_prepared, write_prepared


def build(folder, episodes, **fields):
    return Project(folder, make_train()).write(episodes, splits_of(episodes), **fields)


def with_marked(split, source="observed", by=1e3):
    """Episodes; those of one split and source have features, actions and rewards that are far off."""
    episodes = observed_and_dreams()
    return [
        replace(e, features=e.features + np.float32(by), actions=e.actions * 3, rewards=e.rewards - 7)
        if (e.source, found) == (source, split)
        else e
        for e, found in zip(episodes, splits_of(episodes), strict=True)
    ]


def test_scales_are_those_of_the_observed_train_episodes(tmp_path):
    episodes = observed_and_dreams()
    train = [e for e, split in zip(episodes, splits_of(episodes), strict=True) if split == "train"]
    observed = sorted((e for e in train if e.source == "observed"), key=lambda e: (e.agent_id, e.name))
    assert (tmp_path / "normalizer.json") == build(tmp_path, episodes).normalizer
    assert (tmp_path / "normalizer.json").read_text() == make_scaler(observed).to_json()


@pytest.mark.parametrize(("split", "source"), [("val", "observed"), ("test", "observed"), ("train", "dream")])
def test_nothing_but_observed_train_episodes_changes_the_scales(tmp_path, split, source):
    plain = build(tmp_path / "a", observed_and_dreams()).normalizer.read_bytes()
    assert build(tmp_path / "b", with_marked(split, source)).normalizer.read_bytes() == plain
    assert build(tmp_path / "c", with_marked("train")).normalizer.read_bytes() != plain


def test_features_that_count_as_constant_are_named(tmp_path, capsys):
    build(tmp_path / "a", observed_and_dreams())
    assert "constant" not in capsys.readouterr().out
    still = [replace(e, features=np.tile(e.features * np.float32([1, 1e-12]), 12)) for e in observed_and_dreams()]
    build(tmp_path / "b", still)
    assert "12 of 24 features never change" in (told := capsys.readouterr().out)
    assert "numbers 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, ..." in told


def test_every_episode_is_packed_with_its_labels_in_the_order_of_the_manifest(tmp_path):
    project = make_project(tmp_path)
    prepared, data, scaler = read_prepared(tmp_path / "prepared"), project.read_packed(), project.scaler
    assert len(prepared) == len(SPLITS) + 3
    for number, record in enumerate(prepared):
        labels, row = data.packed.labels, data.packed.rows(number)
        assert (labels.agents[number], labels.names[number]) == (record.agent_id, record.name)
        assert (labels.splits[number], labels.sources[number]) == (record.split, record.source)
        arrays = prepared.load(record)
        np.testing.assert_array_equal(data.packed.features[row], scaler.features.transform(arrays.features))
        np.testing.assert_array_equal(data.packed.actions[row], scaler.actions.transform(arrays.actions))
    assert data.action_space == prepared.action_space
    data.require_scales(scaler, project.normalizer)


def test_one_hot_actions_are_packed_as_they_are(tmp_path):
    project = make_project(tmp_path, observed_and_dreams(kind="discrete"))
    actions = np.asarray(project.read_packed().packed.actions)
    assert set(actions.ravel().tolist()) == {0.0, 1.0}
    assert (actions.sum(axis=1) == 1).all()


def test_two_folders_hold_the_same_bytes(tmp_path):
    one, two = (build(tmp_path / folder, observed_and_dreams()) for folder in ("a", "b/c"))
    assert contents(one.normalized) == contents(two.normalized)
    assert one.normalizer.read_bytes() == two.normalizer.read_bytes()


def test_without_observed_train_episodes_there_are_no_scales(tmp_path):
    episodes = observed_and_dreams()
    splits = ["train" if e.source == "dream" else "test" for e in episodes]
    write_prepared(tmp_path / "prepared", episodes, splits, space_of(episodes))
    with pytest.raises(ValueError, match="no observed train episode to fit scales on"):
        normalize.normalize(tmp_path / "prepared", tmp_path / "out", tmp_path / "normalizer.json", make_normalize())
    assert not (tmp_path / "normalizer.json").exists()


def test_the_stage_reads_params_and_arguments(tmp_path, capsys):
    project = make_project(tmp_path / "a")
    out, scales = tmp_path / "b" / "normalized", tmp_path / "b" / "normalizer.json"
    assert stage("normalize", tmp_path, {}, prepared=tmp_path / "a/prepared", out=out, normalizer=scales) == 0
    assert Scaler.read(scales).to_json() == project.normalizer.read_text()
    assert contents(out) == contents(project.normalized)
    assert "scales of 4 observed train episodes; packed 11 episodes, 117 frames" in capsys.readouterr().out


def test_the_format_of_the_prepared_episodes_decides_nothing(tmp_path):
    episodes = observed_and_dreams()
    for form in ("npz", "lmdb"):
        write_prepared(tmp_path / form, episodes, splits_of(episodes), space_of(episodes), form)
        normalize.normalize(tmp_path / form, tmp_path / f"{form}-out", tmp_path / f"{form}.json", make_normalize())
    assert contents(tmp_path / "npz-out") == contents(tmp_path / "lmdb-out")
    assert (tmp_path / "npz.json").read_bytes() == (tmp_path / "lmdb.json").read_bytes()
