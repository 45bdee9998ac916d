"""The teacher's own error on held-out windows: what a model that learns from it alone could reach at best.

The teacher is fitted again from the logs: the same params and seed give the same bits as in the stage `dreams`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.arrays.packing import encoded, pack
from worldmodel.arrays.windows import Windows, windows
from worldmodel.core import params
from worldmodel.core.fingerprint import fingerprint
from worldmodel.core.tables import read_csv, write_csv
from worldmodel.dreams.dreamer import fit_on_logs
from worldmodel.dreams.teacher import Teacher
from worldmodel.episodes.schema import Episode, Split
from worldmodel.evaluation.scoring import chunks
from worldmodel.logs.ingest import ingest
from worldmodel.numerics import setup
from worldmodel.sweeps.grid import PARAMS, Run

HELD_OUT: tuple[Split, Split] = ("val", "test")


def teachers_errors(runs: Sequence[Run], logs: Path, cache: Path, code: str) -> dict[str, list[dict[str, str]]]:
    """Rows as in episodes.csv, by Run.dreams, for every run whose dreams are a teacher's; fitted once, then cached."""
    values = {run.dreams: dict(run.values) for run in runs if run.values["dreams"]["source"] == "teacher"}
    paths = {key: cache / f"teacher-{_fingerprint(each, code)}.csv" for key, each in values.items()}
    missing = [key for key, path in paths.items() if not path.is_file()]
    for count, key in enumerate(missing, start=1):  # one by one: a teacher's members are fitted side by side
        measure(values[key], logs, paths[key])
        print(f"teachers fitted again: {count} of {len(missing)}", flush=True)
    return {key: read_csv(path.read_text(encoding="utf-8")) for key, path in paths.items()}


def _fingerprint(values: Mapping[str, Any], code: str) -> str:
    checked = params.check(dict(values), PARAMS)
    stage = asdict(params.part(checked, params.DreamsStage))
    return fingerprint({"stage": stage, "horizon": checked.validate.horizon, "code": code})[:12]


def measure(values: dict[str, Any], logs: Path, out: Path) -> None:
    """Fit one teacher, write the error of its members' mean by held-out episode."""
    settings = params.check(values, PARAMS)
    device = setup.configure(settings.train)
    horizon, history = settings.validate.horizon, settings.train.history
    found = ingest([logs], settings.prepare, Episode.whole, history=history)
    train, space = found.observed("train"), found.action_space
    teacher, _, scaler = fit_on_logs(train, space, settings.dreams, settings.normalize, history, device)
    rows: list[tuple[str, str, str, int, float]] = []
    for split in HELD_OUT:
        logged = found.observed(split)
        samples = [encoded(each.table(), space) for each in logged]
        if samples:
            held_out = windows(pack(samples, scaler), np.arange(len(samples)), history, horizon)
            for episode, (count, error) in by_episode(teacher, held_out).items():
                rows.append((split, logged[episode].agent_id, logged[episode].name, count, error))
    write_csv(out, ("split", "agent_id", "episode", "windows", "model"), sorted(rows))


def by_episode(teacher: Teacher, held_out: Windows) -> dict[int, tuple[int, float]]:
    """Number of windows and mean squared error of each episode that has any."""
    total, weight = np.zeros(len(held_out)), np.zeros(len(held_out))
    begin = 0
    for batch in chunks(held_out):
        end = begin + len(batch.weight)
        error = np.square(teacher.rollout(batch).features.astype(np.float64) - batch.features).mean(axis=2)
        total[begin:end], weight[begin:end] = (error * batch.weight).sum(axis=1), batch.weight.sum(axis=1)
        begin = end
    owner = held_out.episode
    episodes: list[int] = np.unique(owner).tolist()
    return {
        episode: (int((own := owner == episode).sum()), float(total[own].sum() / weight[own].sum()))
        for episode in episodes
    }
