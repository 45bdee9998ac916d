"""How many injected faults `worldmodel check-logs` finds, and what it says of clean logs, as a Markdown table.

python -m research.linter --logs FOLDER     (a .jsonl of each environment, as examples/collect_gymnasium.py writes)
"""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.random import Generator, default_rng

from worldmodel.cli.check_logs import check
from worldmodel.core.params import Params, load
from worldmodel.core.project import default_params
from worldmodel.linting.remarks import Limits

Frame = dict[str, Any]
Episodes = list[list[Frame]]
Files = dict[str, Iterable[Frame]]
FEWEST, MOST = 12, 60  # episodes of a log
STAND_INS = (-999.0, -9999.0, 9999.0, 99999.0, 1e20, -1e20, 3.4028234e38, -32768.0)


def one_file(episodes: Episodes) -> Files:
    return {"log.jsonl": chain.from_iterable(episodes)}


def renamed(episodes: Episodes, name: Callable[[int, int], dict[str, Any]]) -> Episodes:
    """meta of frame t of episode number e becomes name(e, t)."""
    for number, episode in enumerate(episodes):
        for t, frame in enumerate(episode):
            frame["meta"] = name(number, t)
    return episodes


def time_unit(episodes: Episodes, rng: Generator) -> Files:
    unit, origin = rng.choice([1e3, 1e6, 1e9]), rng.choice([0.0, episodes[0][0]["timestamp"]])
    for frame in chain.from_iterable(episodes):
        frame["timestamp"] = round((frame["timestamp"] - origin) * unit)
    return one_file(episodes)


def no_windows(episodes: Episodes, rng: Generator) -> Files:
    length, cut = int(rng.integers(2, 8)), rng.uniform(0.2, 1.0) * len(episodes)
    return one_file(renamed(episodes, lambda e, t: {"episode": f"{e}-{t // length if e < cut else 0}"}))


def interleaved(episodes: Episodes, rng: Generator) -> Files:
    pairs = int(rng.integers(1, len(episodes) // 2))
    for number in range(pairs):
        one, other = episodes[2 * number], episodes[2 * number + 1]
        for frame, leader in zip(other, one, strict=False):
            frame["agent_id"], frame["timestamp"] = leader["agent_id"], leader["timestamp"] + 0.001
        del other[len(one) :]
        mixed = [frame for both in zip_longest(one, other) for frame in both if frame]
        episodes[2 * number], episodes[2 * number + 1] = mixed, []
    return one_file(episodes)


def duplicate_frames(episodes: Episodes, rng: Generator) -> Files:
    again = int(rng.integers(1, 5))
    return one_file(episodes) | {"more.jsonl": deepcopy(list(chain.from_iterable(episodes[:again])))}


def out_of_order(episodes: Episodes, rng: Generator) -> Files:
    for episode in episodes[: int(rng.integers(1, len(episodes)))]:
        if len(episode) > 8:
            at = int(rng.integers(2, len(episode) - 4))
            episode.insert(at + int(rng.integers(1, 3)), episode.pop(at))
    return one_file(renamed(episodes, lambda e, t: {}))


def same_name(episodes: Episodes, rng: Generator) -> Files:
    half = len(episodes) // 2
    for episode in episodes:
        begin = episode[0]["timestamp"]
        for frame in episode:
            frame["agent_id"], frame["timestamp"] = "robot", round(frame["timestamp"] - begin, 6)
    if rng.integers(2):
        renamed(episodes, lambda e, t: {"episode": e % half})
        return {"a.jsonl": chain.from_iterable(episodes[:half]), "b.jsonl": chain.from_iterable(episodes[half:])}
    return one_file(renamed(episodes, lambda e, t: {}))


def unused_meta(episodes: Episodes, rng: Generator) -> Files:
    key = str(rng.choice(["episode_index", "episode_id", "rollout", "done", "is_last", "terminated"]))
    by_end = key in ("done", "is_last", "terminated")
    lengths = [len(episode) for episode in episodes]
    return one_file(renamed(episodes, lambda e, t: {key: t == lengths[e] - 1 if by_end else e}))


def teleport(episodes: Episodes, rng: Generator) -> Files:
    joined, size = list[list[Frame]](), int(rng.integers(2, 5))
    step = episodes[0][1]["timestamp"] - episodes[0][0]["timestamp"]
    for begin in range(0, len(episodes), size):
        episode = list(chain.from_iterable(episodes[begin : begin + size]))
        for t, frame in enumerate(episode):
            frame["timestamp"], frame["agent_id"] = episode[0]["timestamp"] + t * step, episode[0]["agent_id"]
        joined.append(episode)
    return one_file(renamed(joined, lambda e, t: {"episode": e}))


def gap(episodes: Episodes, rng: Generator) -> Files:
    for episode in sorted(episodes, key=len)[-int(rng.integers(1, 6)) :]:
        at = int(rng.integers(5, len(episode) - 10))
        del episode[at : at + int(rng.integers(6, 10))]
    return one_file(episodes)


def one_episode(episodes: Episodes, rng: Generator) -> Files:
    longest = max(episodes, key=len)
    named = bool(rng.integers(2))
    return one_file(renamed([longest], lambda e, t: {"episode": "all"} if named else {}))


def few_episodes(episodes: Episodes, rng: Generator) -> Files:
    return one_file(sorted(episodes, key=len)[-int(rng.integers(2, 10)) :])


def action_shift(episodes: Episodes, rng: Generator) -> Files:
    way = int(rng.choice([-1, 1]))
    for episode in episodes:
        actions = [frame["action"] for frame in episode]
        for frame, action in zip(episode, actions[-way:] + actions[:-way], strict=True):
            frame["action"] = action
    return one_file(episodes)


def action_kind(episodes: Episodes, rng: Generator) -> Files:
    for frame in chain.from_iterable(episodes):
        action = frame["action"]
        frame["action"] = [action] if isinstance(action, int) else [round(3 * number) for number in action]
    return one_file(episodes)


def changed(episodes: Episodes, rng: Generator, change: Callable[[np.ndarray[Any, Any]], Any]) -> Files:
    """One feature that is measured, of all frames in a row [N]."""
    frames = list(chain.from_iterable(episodes))
    values = np.array([frame["features"] for frame in frames])
    measured = [number for number in range(values.shape[1]) if len(np.unique(values[:, number])) > 50]
    number = int(rng.choice(measured))
    for frame, value in zip(frames, np.asarray(change(values[:, number])).tolist(), strict=True):
        frame["features"][number] = value
    return one_file(episodes)


def saturated(episodes: Episodes, rng: Generator) -> Files:
    share = rng.uniform(0.07, 0.3)
    return changed(episodes, rng, lambda values: np.minimum(values, np.quantile(values, 1 - share)))


def constant(episodes: Episodes, rng: Generator) -> Files:
    value = float(rng.choice([0.0, 1.0, rng.normal()]))
    return changed(episodes, rng, lambda values: np.full_like(values, value))


def sentinel(episodes: Episodes, rng: Generator) -> Files:
    value, share = float(rng.choice(STAND_INS)), rng.uniform(0.001, 0.2)

    def replaced(values: Any) -> Any:
        chosen = rng.random(len(values)) < share
        chosen[int(rng.integers(len(values)))] = True
        return np.where(chosen, value, values)

    return changed(episodes, rng, replaced)


def float32_loss(episodes: Episodes, rng: Generator) -> Files:
    def moved(values: Any) -> Any:
        step = np.median(np.abs(np.diff(values)))
        return values + step * 2.0**23 * rng.uniform(0.5, 8)

    return changed(episodes, rng, moved)


def angle(episodes: Episodes, rng: Generator) -> Files:
    turn = float(rng.choice([360.0, 2 * np.pi]))
    low = float(rng.choice([0.0, -turn / 2]))

    def heading(values: Any) -> Any:
        walked = np.cumsum(rng.normal(0, 0.02 * turn, len(values))) + rng.uniform(0.005, 0.02) * turn * np.arange(
            len(values)
        )
        return np.round((walked - low) % turn + low, 4)

    return changed(episodes, rng, heading)


def unread_files(episodes: Episodes, rng: Generator) -> Files:
    name = str(rng.choice(["log.jsonl.1", "more.ndjson", "MORE.JSONL", "table.csv", ".old/x.parquet", "._log.jsonl"]))
    return one_file(episodes) | {name: episodes[0]}


INJECTIONS: dict[str, Callable[[Episodes, Generator], Files]] = {
    "time-unit": time_unit,
    "no-windows": no_windows,
    "interleaved": interleaved,
    "duplicate-frames": duplicate_frames,
    "out-of-order": out_of_order,
    "same-name": same_name,
    "unused-meta": unused_meta,
    "teleport": teleport,
    "gap": gap,
    "one-episode": one_episode,
    "few-episodes": few_episodes,
    "action-shift": action_shift,
    "action-kind": action_kind,
    "saturated": saturated,
    "constant": constant,
    "sentinel": sentinel,
    "float32-loss": float32_loss,
    "angle": angle,
    "unread-files": unread_files,
}


def some_episodes(log: Path, rng: Generator) -> Episodes:
    by_name = defaultdict[str, list[Frame]](list)
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            frame = json.loads(line)
            by_name[frame["meta"]["episode"]].append(frame)
    whole = list(by_name.values())
    chosen = rng.permutation(len(whole))[: int(rng.integers(FEWEST, MOST))]
    return [whole[number] for number in sorted(chosen.tolist())]


def kinds_found(files: Files, limits: Limits) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        for name, frames in files.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(json.dumps(frame) + "\n" for frame in frames), encoding="utf-8")
        found = check(Path(folder), limits)
        return [remark.kind for remark in found.remarks] + ["ERRORS"] * bool(found.rejects)


def table(logs: list[Path], times: int, limits: Limits, only: str) -> Iterator[str]:
    yield "| fault | found | missed in | also said |\n|---|---|---|---|"
    for kind, inject in INJECTIONS.items():
        if only and kind != only:
            continue
        found, beside, missed = 0, Counter[str](), Counter[str]()
        for number in range(times):
            rng = default_rng([number, *kind.encode()])
            log = logs[number % len(logs)]
            kinds = kinds_found(inject(some_episodes(log, rng), rng), limits)
            found += kind in kinds
            missed.update([log.stem] if kind not in kinds else [])
            beside.update(each for each in kinds if each != kind)
        shown = ", ".join(f"{each} {count}" for each, count in beside.most_common())
        yield f"| `{kind}` | {found} of {times} | {', '.join(map(str, missed))} | {shown} |"
    clean = [
        kinds_found(one_file(some_episodes(log, default_rng(number))), limits) for number in range(4) for log in logs
    ]
    said = ", ".join(f"{kind} {count}" for kind, count in Counter(chain(*clean)).most_common())
    yield f"\nClean logs with any remark: {sum(map(bool, clean))} of {len(clean)}: {said}"


@click.command(help=__doc__)
@click.option("--logs", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--times", default=40, show_default=True, help="Injections of each kind.")
@click.option("--kind", "only", default="", help="This one alone.")
def command(logs: Path, times: int, only: str) -> None:
    params = load(default_params(), Params)
    limits = Limits(params.prepare, params.train.history, params.train.horizon)
    for line in table(sorted(logs.glob("*.jsonl")), times, limits, only):
        print(line, flush=True)


if __name__ == "__main__":
    command()
