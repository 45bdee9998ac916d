import re
from collections import Counter

import pytest

from factories import make_episodes, make_intake
from worldmodel.logs.split import assign, hashed_share


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


@pytest.mark.parametrize("held", ["val", "test"])
def test_a_dream_that_starts_from_a_held_out_episode_is_refused(held):
    observed = make_episodes(40, 1)
    start = next(e for e, split in zip(observed, assign(observed, make_intake()), strict=True) if split == held)
    dream = dream_from(agent_id=start.agent_id, episode=start.name)
    with pytest.raises(ValueError, match=f"dream 'dream-0'.* starts from .* which is {held}, expected one that is tr"):
        assign([*observed, dream], make_intake())


def test_a_dream_that_starts_from_nowhere_or_says_so_badly_is_refused():
    observed = make_episodes(40, 1)
    with pytest.raises(ValueError, match="which is not in the logs or left out"):
        assign([*observed, dream_from(agent_id="agent-0", episode="gone")], make_intake())
    with pytest.raises(ValueError, match="expected an object with agent_id and episode"):
        assign([*observed, dream_from(agent_id="agent-0")], make_intake())
    for key, value in (("frame", -1), ("frame", 1.5), ("segment", "1"), ("frame", True)):
        with pytest.raises(ValueError, match=rf"meta\.start\.{key} is .*expected an integer from 0, or no such key"):
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
