import numpy as np
import pytest
import torch

from factories import make_dreams, make_episodes, make_normalize, make_scaler, make_tables, space_of
from worldmodel.arrays.packing import labels_of, pack
from worldmodel.dreams.dreamer import generate_dreams
from worldmodel.dreams.realism import realism

HISTORY, LENGTH = 3, 4


def repeat(train, **fields):
    settings = make_dreams(**({"source": "repeat", "episodes": 300} | fields))
    return generate_dreams(train, space_of(train), settings, make_normalize(), HISTORY, torch.device("cpu"))


def logged(found, train):
    """The frames of the log that a dream says it begins with, up to its length."""
    start = found.provenance["start"]
    (source,) = [e for e in train if (e.agent_id, e.name) == (start["agent_id"], start["episode"])]
    return source, slice(start["frame"], start["frame"] + HISTORY + LENGTH)


@pytest.mark.parametrize("kind", ["none", "discrete", "continuous"])
@pytest.mark.parametrize("rewards", [True, False])
def test_every_frame_is_that_of_the_log_bit_for_bit(kind, rewards):
    context = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    train = make_episodes(6, 12, kind=kind, rewards=rewards, actions=0 if kind == "none" else 3, context=context)
    found = repeat(train)
    assert [each.name for each in found] == [f"dream-{number:06d}" for number in range(300)]
    for each in found:
        source, frames = logged(each, train)
        assert (each.source, each.length) == ("dream", HISTORY + LENGTH)
        assert (each.confidence == 1).all()
        for name in ("timestamps", "features", "actions", "rewards", "context"):
            one, other = getattr(each, name), getattr(source, name)
            assert one is other is None or one.tobytes() == other[frames].tobytes(), name


def test_where_the_log_ends_the_dream_ends_as_the_log_does():
    for ended in (True, False):
        found = repeat(make_episodes(6, HISTORY + 2, terminal=ended))
        assert {(each.length, each.terminal) for each in found} == {(HISTORY + 2, ended)}
    found = repeat(make_episodes(6, 12, terminal=True))
    whole = [each.provenance["start"]["frame"] + each.length == 12 for each in found]
    assert [each.terminal for each in found] == whole
    assert 0 < sum(whole) < len(whole)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_it_begins_where_the_teachers_dreams_begin(share):
    train = make_episodes(6, 12)
    of_both = [
        [
            (each.provenance["start"], each.provenance["directed"])
            for each in repeat(train, source=source, seed=3, directed_share=share)
        ]
        for source in ("repeat", "teacher")
    ]
    assert of_both[0] == of_both[1]


def test_no_teacher_is_fitted(monkeypatch):
    monkeypatch.setattr("worldmodel.dreams.dreamer.fit_teacher", None)
    assert len(repeat(make_episodes(6, 12))) == 300


def test_a_classifier_can_only_guess():
    train = make_episodes(12, 20)
    episodes = [*train, *repeat(train)]
    packed = pack(make_tables(episodes), make_scaler(train), labels_of(episodes, ["train"] * len(episodes)))
    assert realism(packed, HISTORY, LENGTH).auc == 0.5


def test_episodes_that_are_all_too_short_are_an_error():
    with pytest.raises(ValueError, match=r"more than train\.history = 3 frames, the longest of 6 has 3"):
        repeat(make_episodes(6, HISTORY))


def test_every_window_of_the_log_is_dreamed_of_as_often_also_where_episodes_begin_and_end():
    horizon, length, frames = 5, 12, 40
    found = repeat(make_episodes(10, frames), episodes=600, length=length, directed_share=0.0)
    assert {each.length for each in found} == set(range(HISTORY + horizon, HISTORY + length + 1))
    times = np.zeros(frames)
    for each in found:
        begin = each.provenance["start"]["frame"]
        times[begin : begin + each.length - HISTORY - horizon + 1] += 1
    whole = times[: frames - HISTORY - horizon + 1]
    assert not times[len(whole) :].any()
    assert whole.min() > 0.8 * whole.max()
