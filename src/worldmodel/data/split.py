"""Train, val or test: decided by hashing who an episode is, never by which others there are."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from worldmodel.config.params import Intake
from worldmodel.data.schema import Split, canonical, identity_of
from worldmodel.data.spool import Kept

SEEDS_TRIED = 100  # for an advice


def assign(episodes: Sequence[Kept], intake: Intake) -> list[Split | None]:
    """The split of each episode, None where train_episodes leaves it out. All pieces of an episode share one.

    Observed episodes go by hash unless a piece of them fixes the split (meta.split); dreams are train.
    Raises ValueError where a split that should exist gets no observed episode, where pieces of one episode ask for
    different splits, and where a dream says that it starts from an episode that is not trained on.
    """
    observed = [episode for episode in episodes if episode.source == "observed"]
    splits = _decided(observed, intake)
    _require_all(splits, observed, intake)
    kept = _kept(splits, intake)
    for episode in episodes:
        if episode.source == "dream":
            _require_trained_start(episode, kept)
    return ["train" if episode.source == "dream" else kept.get(episode.identity) for episode in episodes]


def hashed_share(seed: int, text: str) -> float:
    """A number in 0..1 that only these two decide, evenly spread over texts."""
    digest = hashlib.sha256(f"{seed}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _decided(observed: Sequence[Kept], intake: Intake) -> dict[str, Split]:
    """The split of each identity."""
    fixed = _fixed(observed)
    return {episode.identity: fixed.get(episode.identity) or _hashed(episode, intake) for episode in observed}


def _hashed(episode: Kept, intake: Intake) -> Split:
    u = hashed_share(intake.seed, episode.identity if intake.split_by == "episode" else episode.agent_id)
    if u < intake.test_share:
        return "test"
    return "val" if u < intake.test_share + intake.val_share else "train"


def _fixed(observed: Sequence[Kept]) -> dict[str, Split]:
    """Splits that the logs ask for, by identity."""
    fixed: dict[str, Split] = {}
    for episode in observed:
        if episode.split is not None and fixed.setdefault(episode.identity, episode.split) != episode.split:
            raise ValueError(
                f"episode {episode.identity}: found meta.split {fixed[episode.identity]} and {episode.split}, expected "
                "one; make the first frames of its pieces agree"
            )
    return fixed


def _kept(splits: Mapping[str, Split], intake: Intake) -> dict[str, Split]:
    """The splits less the train episodes beyond train_episodes; a smaller number keeps a subset of a larger one."""
    train = sorted(
        (identity for identity, split in splits.items() if split == "train"),
        key=lambda identity: (hashed_share(intake.seed, identity), identity),
    )
    left_out = set(train[: -intake.train_episodes] if intake.train_episodes else ())
    return {identity: split for identity, split in splits.items() if identity not in left_out}


def _require_all(splits: Mapping[str, Split], observed: Sequence[Kept], intake: Intake) -> None:
    counts = Counter(splits.values())
    for split, share in _empty(counts, intake).items():
        found = ", ".join(f"{name} {counts[name]}" for name in _shares(intake))
        raise ValueError(
            f"no observed episode is {split}, which should get a share of {share:g} (found {found}); add logs, "
            f"{_advice(observed, intake)}change prepare.val_share or prepare.test_share, or mark episodes with "
            "meta.split"
        )


def _shares(intake: Intake) -> dict[Split, float]:
    return {
        "train": 1 - intake.val_share - intake.test_share,
        "val": intake.val_share,
        "test": intake.test_share,
    }


def _empty(counts: Mapping[Split, int], intake: Intake) -> dict[Split, float]:
    """Splits that should have a share and have no episode, with that share."""
    return {split: share for split, share in _shares(intake).items() if share > 0 and not counts.get(split)}


def _advice(observed: Sequence[Kept], intake: Intake) -> str:
    """A seed that leaves no split empty, where one of SEEDS_TRIED does: of few episodes, most leave one."""
    for seed in range(SEEDS_TRIED):
        other = replace(intake, seed=seed)
        if not _empty(Counter(_decided(observed, other).values()), other):
            return f"set prepare.seed to {seed} (which gives each split some), "
    return "split by episode (prepare.split_by), " if intake.split_by == "agent" else ""


def _require_trained_start(dream: Kept, kept: Mapping[str, Split]) -> None:
    start = dream.provenance.get("start")
    if start is None:
        return
    who = f"dream {dream.name!r} of agent {dream.agent_id!r}"
    if not isinstance(start, Mapping) or not {"agent_id", "episode"} <= set(start):
        raise ValueError(f"{who}: meta.start is {canonical(start)}, expected an object with agent_id and episode")
    for key in ("segment", "frame"):
        if type(start.get(key, 0)) is not int or start.get(key, 0) < 0:
            raise ValueError(
                f"{who}: meta.start.{key} is {canonical(start[key])}, expected an integer from 0, or no such key"
            )
    identity = identity_of(start["agent_id"], str(start["episode"]))
    if kept.get(identity) != "train":
        raise ValueError(
            f"{who}: starts from episode {identity}, which is {kept.get(identity, 'not in the logs or left out')}, "
            "expected one that is trained on; dream again (dvc repro dreams), or remove this dream"
        )
