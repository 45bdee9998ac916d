"""Train, val or test: a hash of the episode's identity decides, so that other episodes never move it; or time does."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from worldmodel.core.checked import Text, Whole, checked
from worldmodel.core.params import IngestParams
from worldmodel.core.typing import Doubles
from worldmodel.episodes.schema import Episode, Split, identity_of
from worldmodel.episodes.temporary_store import EpisodeView, View
from worldmodel.logs.rollouts import distinct

SEEDS_TRIED = 100  # to advise one
IN_TIME: tuple[Split, ...] = ("train", "val", "test")


def by_time(episodes: Sequence[View], intake: IngestParams, keep: Callable[[Episode], View]) -> list[View]:
    """Where split_by is time, observed episodes cut at two moments, before which their shares of all frames passed.

    Of what follows such a moment, the first `margin` frames after an agent's last one before it are left out.
    What meta.split names stays whole, as dreams do.
    """
    if intake.split_by != "time":
        return list(episodes)
    observed = [episode for episode in episodes if episode.source == "observed"]
    fixed, moments = _fixed(observed), _moments(observed, intake)
    latest: dict[str, Doubles] = {}  # by agent, its last frame before each moment
    for episode in observed:
        times = np.append(-np.inf, episode.timestamps)
        before = times[np.searchsorted(times, moments) - 1]
        latest[episode.agent_id] = np.maximum(before, latest.get(episode.agent_id, before))
    found = list[View]()
    for episode in episodes:
        if episode.source == "dream" or episode.identity in fixed:
            found.append(episode)
            continue
        whole = episode.whole()
        for split, begin, end in _spans(whole.timestamps, moments, latest[episode.agent_id], intake.margin):
            found.append(keep(replace(whole.between(begin, end), name=f"{whole.name}#{split}", split=split)))
    return distinct(found)


def _moments(observed: Sequence[EpisodeView], intake: IngestParams) -> Doubles:
    """[2] seconds; infinity where all frames are before it."""
    times = np.sort(np.concatenate([episode.timestamps for episode in observed] or [np.zeros(0)]))
    shares = np.array([1 - intake.val_share - intake.test_share, 1 - intake.test_share])
    return np.append(times, np.inf)[np.round(shares * len(times)).astype(np.int64)]


def _spans(times: Doubles, moments: Doubles, latest: Doubles, margin: int) -> Iterator[tuple[Split, int, int]]:
    """Split, first frame and the one after the last, where there is any; `latest` is the agent's before each moment."""
    step = np.median(np.diff(times)) if len(times) > 1 else np.float64(0)
    bounds = pairwise([0, *np.searchsorted(times, moments).tolist(), len(times)])
    for split, (begin, end), last in zip(IN_TIME, bounds, [-np.inf, *latest], strict=True):
        with np.errstate(divide="ignore"):
            steps = 1 if begin else (times[0] - last) / step
        begin += int(max(0, np.round(margin + 1 - steps)))
        if begin < end:
            yield split, begin, end


def assign(episodes: Sequence[EpisodeView], intake: IngestParams) -> list[Split | None]:
    """The split of each episode, None where train_episodes leaves it out. All segments of an episode share one.

    A hash decides for observed episodes unless meta.split does; dreams are train.
    Raises ValueError where a split with a share gets no observed episode, where segments of one episode name different
    splits, and where a dream starts from an episode that is not trained on.
    """
    observed = [episode for episode in episodes if episode.source == "observed"]
    fixed = _fixed(observed)
    splits: list[Split | None] = [
        "train" if episode.source == "dream" else _decided(episode, fixed, intake) for episode in episodes
    ]
    _require_all(observed, fixed, intake)
    if intake.train_episodes:
        _leave_out(episodes, splits, intake)
    _require_trained_starts(episodes, splits)
    return splits


def hashed_share(seed: int, text: str) -> float:
    """A hash of both as a number in 0..1, uniform over texts."""
    digest = hashlib.sha256(f"{seed}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _decided(episode: EpisodeView, fixed: Mapping[str, Split], intake: IngestParams) -> Split:
    if fixed and (split := fixed.get(episode.identity)):
        return split
    u = hashed_share(intake.seed, episode.identity if intake.split_by == "episode" else episode.agent_id)
    if u < intake.test_share:
        return "test"
    return "val" if u < intake.test_share + intake.val_share else "train"


def _fixed(observed: Sequence[EpisodeView]) -> dict[str, Split]:
    """The splits that meta.split names, by identity."""
    fixed: dict[str, Split] = {}
    for episode in observed:
        if episode.split is not None and fixed.setdefault(episode.identity, episode.split) != episode.split:
            raise ValueError(
                f"episode {episode.identity}: found meta.split {fixed[episode.identity]} and {episode.split}, expected "
                "one; make the first frames of its pieces agree"
            )
    return fixed


def _leave_out(episodes: Sequence[EpisodeView], splits: list[Split | None], intake: IngestParams) -> None:
    """Set the split of train episodes beyond train_episodes to None; a smaller number keeps a subset."""
    train = {
        index: episode.identity
        for index, episode in enumerate(episodes)
        if (episode.source, splits[index]) == ("observed", "train")
    }
    ordered = sorted(set(train.values()), key=lambda identity: (hashed_share(intake.seed, identity), identity))
    beyond = set(ordered[: -intake.train_episodes])
    for index, identity in train.items():
        if identity in beyond:
            splits[index] = None


def _require_all(observed: Sequence[EpisodeView], fixed: Mapping[str, Split], intake: IngestParams) -> None:
    counts = Counter({episode.identity: _decided(episode, fixed, intake) for episode in observed}.values())
    for split, share in _empty(counts, intake).items():
        numbers = ", ".join(f"{name} {counts[name]}" for name in _shares(intake))
        raise ValueError(
            f"no observed episode is {split}, which should get a share of {share:g} (found {numbers}); add logs, "
            f"{_advice(observed, fixed, intake)}change prepare.val_share or prepare.test_share, or mark episodes with "
            "meta.split"
        )


def _shares(intake: IngestParams) -> dict[Split, float]:
    return {
        "train": 1 - intake.val_share - intake.test_share,
        "val": intake.val_share,
        "test": intake.test_share,
    }


def _empty(present: Collection[Split], intake: IngestParams) -> dict[Split, float]:
    """Splits that should have a share and are not present, with that share."""
    return {split: share for split, share in _shares(intake).items() if share > 0 and split not in present}


def _advice(observed: Sequence[EpisodeView], fixed: Mapping[str, Split], intake: IngestParams) -> str:
    """Advise a seed that leaves no split empty, if one of the first does: with few episodes most seeds leave one."""
    if intake.split_by == "time":
        return f"lower prepare.margin (of each part {intake.margin} frames are left out), "
    for seed in range(SEEDS_TRIED):
        other = replace(intake, seed=seed)
        if not _empty({_decided(episode, fixed, other) for episode in observed}, other):
            return f"set prepare.seed to {seed} (which gives each split some), "
    by_episode = "split by episode (prepare.split_by), " if intake.split_by == "agent" else ""
    return f"{by_episode}cut long recordings (prepare.split_by: time, or prepare.max_length_s), "


def _require_trained_starts(episodes: Sequence[EpisodeView], splits: Sequence[Split | None]) -> None:
    starts = {
        index: identity
        for index, episode in enumerate(episodes)
        if episode.source == "dream" and (identity := _start(episode))
    }
    if not starts:
        return
    wanted = set(starts.values())
    start_splits = {
        episode.identity: split
        for episode, split in zip(episodes, splits, strict=True)
        if split and episode.source == "observed" and episode.identity in wanted
    }
    for index, identity in starts.items():
        split = start_splits.get(identity, "not in the logs or left out")
        if split != "train":
            raise ValueError(
                f"{_who(episodes[index])}: starts from episode {identity}, which is {split}, expected one that is "
                "trained on; dream again (dvc repro dreams), or remove this dream"
            )


@dataclass(frozen=True)
class _Start:
    """meta.start of a dream."""

    agent_id: Text
    episode: Text | Whole
    segment: Whole = 0
    frame: Whole = 0


def _start(dream: EpisodeView) -> str | None:
    """The identity of the episode in a dream's meta.start."""
    if (start := dream.provenance.get("start")) is None:
        return None
    try:
        found = checked(_Start, start)
    except ValueError as error:
        raise ValueError(f"{_who(dream)}: meta.start: {error}; it has agent_id, episode, segment, frame") from None
    return identity_of(found.agent_id, str(found.episode))


def _who(dream: EpisodeView) -> str:
    return f"dream {dream.name!r} of agent {dream.agent_id!r}"
