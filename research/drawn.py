"""Logs of systems whose best floor is known, drawn from a seed: what a model must not make worse.

python -m research.drawn --out my-logs
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from numpy.random import Generator, default_rng

from worldmodel.core.errors import run
from worldmodel.core.options import PATH
from worldmodel.core.typing import Doubles
from worldmodel.episodes.schema import Episode
from worldmodel.logs.writing import write_jsonl

SEED = 0
WIDTH = 6  # features, where a system does not say otherwise
Frames = tuple[Doubles, Doubles | None]  # features [T, F], actions [T, A]


class System(NamedTuple):
    """`draw` makes one episode: a generator that is the same for all episodes, one of its own, T."""

    draw: Callable[[Generator, Generator, int], Frames]
    best: str  # its best floor; "" where none is good


def rolled(start: Doubles, moved: Callable[[Doubles, int], Doubles], frames: int) -> Doubles:
    states = [start]
    for t in range(frames - 1):
        states.append(moved(states[-1], t))
    return np.array(states)


def independent(system: Generator, own: Generator, frames: int) -> Frames:
    """More features than z has numbers, each autoregressive on its own."""
    keep = system.uniform(0.3, 0.99, 80)
    noise = own.normal(size=(frames, 80)) * np.sqrt(1 - keep**2)
    return rolled(own.normal(size=80), lambda x, t: keep * x + noise[t], frames), None


def walk(system: Generator, own: Generator, frames: int) -> Frames:
    return np.cumsum(own.normal(size=(frames, WIDTH)), axis=0), None


def noise(system: Generator, own: Generator, frames: int) -> Frames:
    return own.normal(size=(frames, WIDTH)), None


def coasting(system: Generator, own: Generator, frames: int) -> Frames:
    """Velocities that hardly change and are not logged."""
    pushes = 0.01 * own.normal(size=(frames, WIDTH))
    return np.cumsum(own.normal(size=WIDTH) + np.cumsum(pushes, axis=0), axis=0), None


def drifting(system: Generator, own: Generator, frames: int) -> Frames:
    """As `coasting`, each episode somewhere else: what is tested lies where nothing was trained."""
    x, _ = coasting(system, own, frames)
    return x + 300 * own.standard_t(2, WIDTH), None


def linear(system: Generator, own: Generator, frames: int) -> Frames:
    """Stable, moved by two actions that are held for a while."""
    turn, _ = np.linalg.qr(system.normal(size=(WIDTH, WIDTH)))
    push, wobble = system.normal(size=(WIDTH, 2)), 0.05 * own.normal(size=(frames, WIDTH))
    actions = np.repeat(own.uniform(-1, 1, (frames // 5 + 1, 2)), 5, axis=0)[:frames]
    return rolled(own.normal(size=WIDTH), lambda x, t: 0.97 * turn @ x + push @ actions[t] + wobble[t], frames), actions


def jumps(system: Generator, own: Generator, frames: int) -> Frames:
    """Steps with very heavy tails."""
    return np.cumsum(np.clip(own.standard_t(1.5, (frames, WIDTH)), -300, 300), axis=0), None


def levels(system: Generator, own: Generator, frames: int) -> Frames:
    """Constant until a rare jump to another level."""
    jumps = (own.random((frames, WIDTH)) < 0.02) * own.normal(size=(frames, WIDTH))
    return own.normal(size=WIDTH) + np.cumsum(jumps, axis=0), None


def mixed(system: Generator, own: Generator, frames: int) -> Frames:
    """Two features of each: best held, best taken as the mean, best carried on, best by ridge."""
    controlled, actions = linear(system, own, frames)
    parts = [each(system, own, frames)[0][:, :2] for each in (walk, noise, coasting)]
    return np.concatenate([*parts, controlled[:, :2]], axis=1), actions


def oscillator(system: Generator, own: Generator, frames: int) -> Frames:
    """Three Duffing oscillators, one action each: a nonlinear map."""

    def moved(x: Doubles, t: int) -> Doubles:
        for _ in range(5):
            velocity = x[3:] + 0.05 * (x[:3] - x[:3] ** 3 - 0.2 * x[3:] + actions[t])
            x = np.concatenate([x[:3] + 0.05 * velocity, velocity])
        return x

    actions = np.repeat(own.uniform(-1, 1, (frames // 4 + 1, 3)), 4, axis=0)[:frames]
    return rolled(own.uniform(-1.5, 1.5, 6), moved, frames), actions


def lorenz(system: Generator, own: Generator, frames: int) -> Frames:
    """Chaotic, without actions."""

    def moved(x: Doubles, t: int) -> Doubles:
        for _ in range(10):
            a, b, c = x
            x = x + 0.005 * np.array([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])
        return x

    return rolled(own.normal(size=3) * 8 + [0, 0, 25], moved, frames), None


def periodic(system: Generator, own: Generator, frames: int) -> Frames:
    """Sines of any phase, their derivatives not logged."""
    pace, phase = system.uniform(0.1, 0.8, WIDTH), own.uniform(0, 2 * np.pi, WIDTH)
    size = own.uniform(0.5, 1.5, WIDTH)
    return size * np.sin(pace * np.arange(frames)[:, None] + phase) + 0.02 * own.normal(size=(frames, WIDTH)), None


def sensors(system: Generator, own: Generator, frames: int) -> Frames:
    """Slow states under much noise."""
    slow, _ = walk(system, own, frames)
    return 0.1 * slow + own.normal(size=(frames, WIDTH)), None


def volatile(system: Generator, own: Generator, frames: int) -> Frames:
    """Steps of no mean whose size comes and goes for a while."""
    size = np.exp(0.15 * np.cumsum(own.normal(size=(frames, WIDTH)), axis=0))
    return np.cumsum(0.01 * np.clip(size, 0.01, 100) * own.normal(size=(frames, WIDTH)), axis=0), None


SYSTEMS = {
    "independent": System(independent, "linear"),
    "walk": System(walk, "persistence"),
    "noise": System(noise, "mean"),
    "coasting": System(coasting, "last_change"),
    "drifting": System(drifting, "last_change"),
    "linear": System(linear, "linear"),
    "jumps": System(jumps, "persistence"),
    "levels": System(levels, "persistence"),
    "mixed": System(mixed, ""),
    "oscillator": System(oscillator, ""),
    "lorenz": System(lorenz, ""),
    "periodic": System(periodic, ""),
    "sensors": System(sensors, ""),
    "volatile": System(volatile, "persistence"),
}


def episodes(name: str, count: int, frames: int) -> Iterator[Episode]:
    for number in range(count):
        features, actions = SYSTEMS[name].draw(default_rng(SEED), default_rng([SEED, number, 1]), frames)
        yield Episode(
            agent_id=name,
            name=f"{number:04d}",
            timestamps=np.arange(frames, dtype=np.float64) + 2 * frames * number,
            features=features.round(5).astype(np.float32),
            actions=None if actions is None else actions.round(5).astype(np.float32),
        )


@click.command(help="Write the logs of systems whose best floor is known, a file each.")
@click.option("--out", type=PATH, required=True, help="Folder for the logs.")
@click.option("--episodes", "count", type=click.IntRange(1), default=300, show_default=True)
@click.option("--frames", type=click.IntRange(2), default=100, show_default=True, help="Of an episode.")
def command(out: Path, count: int, frames: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in SYSTEMS:
        write_jsonl(out / f"drawn-{name}.jsonl.gz", episodes(name, count, frames))
        print(out / f"drawn-{name}.jsonl.gz", flush=True)


if __name__ == "__main__":
    run(command)
