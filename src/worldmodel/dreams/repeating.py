"""Logged windows over again, as they are: the control that dreams must beat.

A model that trains on them sees no frames but those of the log: what real dreams bring beyond this is their own.
"""

from collections.abc import Iterator, Sequence
from itertools import count, islice

import numpy as np

from worldmodel.core.params import Dreams
from worldmodel.dreams.simulating import start_identity
from worldmodel.dreams.starts import StartSampler
from worldmodel.episodes.schema import Episode


def repeat_dreams(train: Sequence[Episode], starts: StartSampler, dreams: Dreams) -> list[Episode]:
    """dreams.episodes windows from the starts that the teacher would draw: history and up to dreams.length frames.

    Raises ValueError where no episode is longer than the history.
    """
    history = starts.windows.history
    if not len(starts.windows):
        raise ValueError(
            f"a dream needs a train episode of more than train.history = {history} frames, "
            f"the longest of {len(train)} has {max((episode.length for episode in train), default=0)}"
        )
    drawn = islice(_drawn(starts, dreams.seed), dreams.episodes)
    return [
        _repeated(train, starts, chosen, frames, directed, number, dreams.seed)
        for number, (chosen, frames, directed) in enumerate(drawn)
    ]


def _drawn(starts: StartSampler, seed: int) -> Iterator[tuple[int, int, bool]]:
    for number in count():
        drawn = starts.draw(number, np.random.default_rng([seed, number]))
        yield from zip(*(each.tolist() for each in drawn), strict=True)


def _repeated(
    train: Sequence[Episode], starts: StartSampler, chosen: int, most: int, directed: bool, number: int, seed: int
) -> Episode:
    episode, begin = starts.begin(chosen)
    source, frames = train[episode], slice(begin, begin + starts.windows.history + most)
    return Episode(
        agent_id=source.agent_id,
        name=f"dream-{number:06d}",
        timestamps=source.timestamps[frames],
        features=source.features[frames],
        actions=None if source.actions is None else source.actions[frames],
        rewards=None if source.rewards is None else source.rewards[frames],
        confidence=np.ones(len(source.timestamps[frames]), np.float32),
        context=None if source.context is None else source.context[frames],
        source="dream",
        terminal=source.terminal and frames.stop >= source.length,
        provenance={
            "repeats": "logged frames as they are",
            "seed": seed,
            "start": start_identity(source, begin),
            "directed": directed,
        },
    )
