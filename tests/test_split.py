import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import make_episodes, make_intake
from worldmodel.episodes.schema import Episode
from worldmodel.logs.split import assign, by_time, hashed_share


def splits(episodes, intake):
    return dict(zip([episode.identity for episode in episodes], assign(episodes, intake), strict=True))


def dream_from(**start):
    return make_episodes(1, 3, source="dream", provenance={"start": start})[0]


def test_shares_are_about_what_was_asked_for():
    counts = Counter(assign(make_episodes(2000, 1), make_intake(val_share=0.1, test_share=0.3)))
    assert counts["test"] == pytest.approx(600, abs=60)
    assert counts["val"] == pytest.approx(200, abs=40)


def test_the_split_is_a_hash_of_seed_and_identity_that_neither_order_nor_other_episodes_change():
    episodes = make_episodes(200, 1)
    whole = splits(episodes, make_intake())
    assert splits(episodes[:60], make_intake()).items() <= whole.items()
    assert splits(episodes[::-1], make_intake()) == whole != splits(episodes, make_intake(seed=2))
    assert hashed_share(1, '["a","b"]') == 0.8189994635421567  # as earlier runs had it


def test_pieces_of_one_episode_share_its_split_and_count_once():
    pieces = [piece for segment in range(3) for piece in make_episodes(40, 1, segment=segment)]
    found = assign(pieces, make_intake())
    assert found[:40] == found[40:80] == found[80:]
    assert Counter(assign(pieces, make_intake(train_episodes=4)))["train"] == 12
    assert assign(pieces, make_intake(train_episodes=1000)) == found


def test_by_agent_all_episodes_of_an_agent_share_a_split():
    episodes = make_episodes(200, 1, agents=40)
    found = assign(episodes, make_intake(split_by="agent"))
    assert len({(episode.agent_id, split) for episode, split in zip(episodes, found, strict=True)}) == 40
    assert set(found) == {"train", "val", "test"}


def test_meta_split_overrides_the_hash_and_holds_for_all_pieces():
    others = make_episodes(40, 1, agent_id="other")
    for split in ("train", "val", "test"):
        fixed = make_episodes(30, 1, split=split) + make_episodes(30, 1, segment=1)
        found = assign(fixed + others, make_intake())
        assert set(found[:60]) == {split}
        assert found[60:] == assign(others, make_intake())


def test_contradicting_overrides_are_refused():
    pieces = make_episodes(1, 1, split="test") + make_episodes(1, 1, segment=1, split="train")
    with pytest.raises(ValueError, match=r"found meta.split test and train, expected one"):
        assign(pieces, make_intake())


@pytest.mark.parametrize("split_by", ["episode", "agent"])
def test_train_episodes_keeps_nested_subsets_and_nothing_else_moves(split_by):
    episodes = make_episodes(120, 1, agents=30)
    whole = splits(episodes, make_intake(split_by=split_by))
    kept = {}
    for count in (5, 20, 40):
        found = splits(episodes, make_intake(split_by=split_by, train_episodes=count))
        kept[count] = {identity for identity, split in found.items() if split == "train"}
        assert len(kept[count]) == count
        assert all(found[identity] in (split, None) for identity, split in whole.items())
        assert all(found[identity] == split for identity, split in whole.items() if split != "train")
    assert kept[5] < kept[20] < kept[40]


def test_a_larger_val_share_takes_the_episodes_that_train_episodes_leaves_out():
    episodes = make_episodes(120, 1)
    small, large = (splits(episodes, make_intake(val_share=share, train_episodes=20)) for share in (0.1, 0.4))
    train = [{identity for identity, split in found.items() if split == "train"} for found in (small, large)]
    assert train[0] == train[1]


def test_dreams_are_train_and_are_not_counted():
    observed, dreams = make_episodes(40, 1), make_episodes(40, 3, source="dream")
    found = assign(observed + dreams, make_intake(train_episodes=3))
    assert found[40:] == ["train"] * 40
    assert found[:40].count("train") == 3


def test_a_dream_that_starts_from_a_held_out_episode_or_from_nowhere_or_says_so_badly_is_refused():
    observed = make_episodes(40, 1)
    for held in ("val", "test"):
        start = next(e for e, split in zip(observed, assign(observed, make_intake()), strict=True) if split == held)
        dream = dream_from(agent_id=start.agent_id, episode=start.name)
        with pytest.raises(ValueError, match=f"dream 'dream-0'.* starts from .* is {held}, expected one that is tr"):
            assign([*observed, dream], make_intake())
    with pytest.raises(ValueError, match="which is not in the logs or left out"):
        assign([*observed, dream_from(agent_id="agent-0", episode="gone")], make_intake())
    with pytest.raises(ValueError, match=r"meta\.start: episode: missing; it has agent_id, episode, segment, frame"):
        assign([*observed, dream_from(agent_id="agent-0")], make_intake())
    for key, value in (("frame", -1), ("frame", 1.5), ("segment", "1"), ("frame", True)):
        with pytest.raises(ValueError, match=rf"meta\.start: {key}: expected .*found"):
            assign([*observed, dream_from(agent_id="agent-0", episode="gone", **{key: value})], make_intake())


def test_an_empty_split_is_refused_with_counts_and_advice_unless_it_has_no_share():
    for split, shares in (("val", {"val_share": 0.01}), ("test", {"test_share": 0.01}), ("train", {"val_share": 0.79})):
        message = rf"no observed episode is {split}.*found train \d, val \d, test \d.*add logs"
        with pytest.raises(ValueError, match=message):
            assign(make_episodes(4, 1), make_intake(**shares))
    assert set(assign(make_episodes(4, 1), make_intake(val_share=0, test_share=0))) == {"train"}


@pytest.mark.parametrize("count", [3, 5, 8])
def test_the_advised_seed_leaves_no_split_empty(count):
    episodes = make_episodes(count, 1)
    shares = {"val_share": 0.15, "test_share": 0.15}
    refused = 0
    for seed in range(10):
        try:
            assign(episodes, make_intake(seed=seed, **shares))
        except ValueError as error:
            advised = int(re.search(r"set prepare\.seed to (\d+)", str(error)).group(1))
            assert set(assign(episodes, make_intake(seed=advised, **shares))) == {"train", "val", "test"}
            refused += 1
    assert refused


def test_one_agent_is_no_reason_to_split_by_agent():
    with pytest.raises(ValueError, match=r"split by episode \(prepare\.split_by\)"):
        assign(make_episodes(20, 1, agents=1), make_intake(split_by="agent"))


STEP = 0.5  # seconds


def recording(begin, length, **fields):
    """One agent's frames on a regular clock, from its frame number `begin`."""
    times = (begin + np.arange(length)) * STEP
    return make_episodes(1, length, rewards=False, kind="none", timestamps=times, **({"agent_id": "a"} | fields))[0]


def in_time(episodes, **fields):
    intake = make_intake(split_by="time", **fields)
    return by_time(episodes, intake, Episode.whole), intake


def test_by_time_a_recording_is_cut_in_three_with_a_margin_before_val_and_test():
    found, intake = in_time([recording(0, 100, name="x")], val_share=0.2, test_share=0.1, margin=5)
    numbers = [(each.name, each.timestamps[0] / STEP, each.timestamps[-1] / STEP) for each in found]
    assert numbers == [("x#train", 0, 69), ("x#val", 75, 89), ("x#test", 95, 99)]
    assert assign(found, intake) == ["train", "val", "test"]


@given(
    st.lists(st.tuples(st.integers(0, 80), st.integers(1, 40)), min_size=1, max_size=8),
    st.integers(0, 12),
    st.sampled_from([(0.2, 0.2), (0.4, 0.1), (0.3, 0.0)]),
)
def test_by_time_an_agents_parts_are_a_margin_apart_whatever_its_episodes_are(pieces, margin, shares):
    begins = np.cumsum([0, *[gap + length for (_, length), (gap, _) in pairwise(pieces)]])
    episodes = [recording(b, n, name=str(i)) for i, (b, (_, n)) in enumerate(zip(begins, pieces, strict=True))]
    found, _ = in_time(episodes, val_share=shares[0], test_share=shares[1], margin=margin)
    numbers = {split: [] for split in ("train", "val", "test")}
    for each in found:
        if each.length > 1 or len(episodes) == 1:
            numbers[each.split] += np.round(each.timestamps / STEP).tolist()
    everything = np.sort(np.concatenate([each.timestamps for each in episodes]))
    for before, behind in (("train", "val"), ("train", "test"), ("val", "test")):
        if numbers[before] and numbers[behind]:
            assert min(numbers[behind]) - max(numbers[before]) > margin
    train = round((1 - sum(shares)) * len(everything))
    assert sum(each.length for each in found if each.split == "train") == train


def test_by_time_frames_of_all_agents_are_cut_at_the_same_moments():
    early, late = recording(0, 60), recording(50, 60, agent_id="b", name="late")
    found, _ = in_time([early, late, dream_from(agent_id="a", episode="x")], margin=0)
    ends = {each.split: max(e.timestamps[-1] for e in found if e.split == each.split) for each in found[:-1]}
    for split, others in (("val", "train"), ("test", "val")):
        assert all(each.timestamps[0] > ends[others] for each in found if each.split == split)
    assert found[-1].source == "dream"


def test_by_time_what_meta_split_names_stays_whole():
    fixed = recording(0, 50, name="fixed", split="test")
    found, intake = in_time([fixed, recording(0, 50, agent_id="b")], margin=1)
    assert found[0] == fixed
    assert assign(found, intake)[0] == "test"


def test_one_long_recording_is_told_what_it_can_be_split_by():
    with pytest.raises(ValueError, match=r"no observed.*prepare\.split_by: time, or prepare\.max_length_s"):
        assign([recording(0, 500)], make_intake())
    found, intake = in_time([recording(0, 50)], margin=40)
    with pytest.raises(ValueError, match=r"no observed episode is val.*lower prepare\.margin .*40 frames"):
        assign(found, intake)
