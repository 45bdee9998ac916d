"""Rows of the page's tables, where no file has them as they are shown."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby

import numpy as np

from worldmodel.arrays.affine import Affine
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Packed
from worldmodel.evaluation.intervals import Change, change
from worldmodel.evaluation.latency import BATCH
from worldmodel.evaluation.plots import names_of
from worldmodel.model.baselines import FLOORS
from worldmodel.report.collect import ReportData, Rows
from worldmodel.report.controlled import Controlled
from worldmodel.report.wording import count, interval, number, percent

Row = Sequence[str]

AGENTS, FEATURES = 40, 40  # in a table
MOVING = 2  # features of a run, in charts
WHOSE = {
    "linear": "ridge's",
    "persistence": "that of holding the last frame",
    "mean": "that of the mean of the train frames",
    "last_change": "that of repeating the last change",
}
KINDS = (("train", "observed"), ("val", "observed"), ("test", "observed"), ("train", "dream"))
MEANS = {"model": "mse.mean"} | {name: f"baseline.{floor}.mse" for floor, name in FLOORS.items()}


def against_floors(tests: Rows) -> dict[str, Change]:
    """Whose error -> how the model's differs from it on test episodes, for the best two floors; empty without them."""
    columns = {key: np.array([float(row[key]) for row in tests]) for key in ("model", "windows", *FLOORS)}
    best = sorted(FLOORS, key=lambda floor: columns[floor] @ columns["windows"])[:2]
    return {
        WHOSE[key]: change(columns["model"][None], columns[key][None], columns["windows"])
        for key in best
        if tests and columns[key].all()
    }


def episodes_by_agent(packed: Packed) -> list[Row]:
    """How many of each of the KINDS, and of all their frames."""
    labels, frames = packed.labels, Counter[tuple[str, str]]()
    kinds = list(zip(labels.splits, labels.sources, strict=True))
    for kind, length in zip(kinds, packed.lengths.tolist(), strict=True):
        frames[kind] += length
    episodes, agents = Counter(zip(labels.agents, kinds, strict=True)), sorted(set(labels.agents))
    groups = [(agent, [agent]) for agent in agents[:AGENTS]] + [("all episodes", agents)]
    if rest := agents[AGENTS:]:
        groups.insert(AGENTS, (f"{count(len(rest))} more", rest))
    rows = [(title, [sum(episodes[agent, kind] for agent in group) for kind in KINDS]) for title, group in groups]
    rows.append(("all frames", [frames[kind] for kind in KINDS]))
    return [(title, *map(count, numbers)) for title, numbers in rows]


def errors_by_frame(data: ReportData) -> Iterator[Row]:
    """Frames ahead, errors with their intervals, share of the best floor's error that the model does not make."""
    series = {name: ys for name, (_, ys) in data.series("horizon", "frame", "mse").items()}
    length = len(series["model"])
    for frame in (2**power for power in range(length.bit_length())):
        yield _errors(data, str(frame), {name: series[name][frame - 1] for name in MEANS}, frame - 1)
    if set(MEANS.values()) <= set(data.metrics):
        yield _errors(data, f"all {length}", {name: data.metrics[key] for name, key in MEANS.items()}, -1)


def _errors(data: ReportData, title: str, errors: Mapping[str, float], column: int) -> Row:
    means = data.scored.intervals if data.scored else {}
    ends = {name: f" ({interval(each.low[column], each.high[column])})" for name, each in means.items()}
    cells = [number(error) + ends.get(name, "") for name, error in errors.items()]
    return title, *cells, _removed(errors["model"], min(error for name, error in errors.items() if name != "model"))


def _removed(model: float, baseline: float) -> str:
    return percent(1 - model / baseline) if baseline > 0 else "-"


def errors_by_agent(data: ReportData) -> Iterator[Row]:
    """As the page's header has them, worst first."""
    errors: dict[str, list[float]] = {}
    for row in data.tests:
        errors.setdefault(row["agent_id"], []).append(float(row["model"]))
    for row in data.plots["agents"][:AGENTS]:
        model, ridge, last = (float(row[key]) for key in ("model", "ridge", "hold-last"))
        own = errors.get(row["agent"], [])
        ends = interval(min(own), max(own)) if len(own) > 1 else "-"
        means = (number(model), ends, number(ridge), number(last), _removed(model, ridge))
        yield row["agent"], row["episodes"], *means, row["worst_episode"]


def errors_by_feature(data: ReportData) -> Iterator[Row]:
    """As the page's header has them, worst first."""
    rows = data.plots["features"]
    whole = sum(float(row["model"]) for row in rows)
    for row in rows[:FEATURES]:
        share = percent(float(row["model"]) / whole) if whole else "-"
        errors = (number(float(row[name])) for name in FLOORS.values())
        held, skill, outside = (percent(float(row[key])) for key in ("held", "skill", "outside"))
        nats = number(float(row["likelihood"])) if row["likelihood"] else "-"
        yield row["feature"], number(float(row["model"])), share, *errors, skill, held, nats, outside


def returns(run: Controlled) -> Iterator[Row]:
    """As the page's header has them, in the order of the file."""
    for name, row in run.rows.items():
        way, lead = run.way(name), run.leads.get(name)
        of_two = [(number(each.mean), interval(each.low, each.high)) if each else ("-", "-") for each in (row, lead)]
        yield name, *chain.from_iterable(of_two), "-" if way is None else percent(way)


def most_moving(data: ReportData, run: Controlled) -> list[int]:
    """Numbers of the features that move most in the run, in standard deviations of the train frames."""
    spread = np.asarray(data.scaler.features.spread if data.scaler else np.ones(len(run.trace.features[0])), np.float64)
    if len(spread) != len(run.trace.features[0]):
        raise ValueError(f"the run in {run.env} has {len(run.trace.features[0])} features, the scales {len(spread)}")
    return run.trace.most_moving(spread, MOVING)


def named_columns(scaler: Scaler | None) -> Iterator[tuple[str, str]]:
    """Of features, actions and context, where the logs name them: which, names."""
    for part in ("features", "actions", "context") if scaler else ():
        affine: Affine = getattr(scaler, part)
        if affine.names:
            names = names_of(affine, part.removesuffix("s"))
            yield f"names of {part}", ", ".join(names[:FEATURES]) + (", ..." if len(names) > FEATURES else "")


def times(data: ReportData) -> Iterator[Row]:
    """Of what, what, value, unit."""
    sizes = {"train": data.params.get("train.batch_size", "its"), "inference": BATCH}
    for part, of in (("train", "training"), ("inference", "the exported model")):
        for key, what, unit in (
            ("latency_ms_p50", "one call, encode and predict, median", "ms"),
            ("latency_ms_p90", "one call, encode and predict, 90th percentile", "ms"),
            ("ms_per_batch", f"a batch of {sizes[part]} windows", "ms"),
            ("samples_per_s", "windows in batches", "a second"),
        ):
            if key in data.timing.get(part, {}):
                yield of, what, number(data.timing[part][key]), unit


def params_by_section(data: ReportData) -> Iterator[tuple[str, Sequence[Row]]]:
    for section, params in groupby(data.params.items(), lambda item: item[0].partition(".")[0]):
        yield section, [(key.partition(".")[2] or key, str(value)) for key, value in params]


def locked(data: ReportData) -> Sequence[tuple[str, Sequence[Row]]]:
    """Path, md5 and stage of the logs and of what the stages made, by dvc.lock."""
    entries = data.stages.items()
    outs = [(out["path"], out.get("md5", "-"), stage) for stage, entry in entries for out in entry.get("outs", [])]
    made = {path for path, _, _ in outs}
    deps = {dep["path"]: dep.get("md5", "-") for _, entry in entries for dep in entry.get("deps", [])}
    logs = sorted((path, md5, "-") for path, md5 in deps.items() if path.startswith("data/") and path not in made)
    return ("Logs, by dvc.lock", logs), ("Outs of the stages, by dvc.lock", outs)
