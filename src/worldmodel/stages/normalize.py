"""prepared episodes -> artifacts/normalizer.json, packed arrays in standardized units.

Scales are fitted on observed train episodes; val, test and dreams are only transformed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from worldmodel.arrays.batches import Look, Result
from worldmodel.arrays.packing import OWN, label_of, write_packed
from worldmodel.arrays.scaler import Scaler, fit
from worldmodel.core import params
from worldmodel.core.atomic import publishing
from worldmodel.core.jobs import run_all
from worldmodel.core.options import PATH, params_option
from worldmodel.core.stage_run import begin
from worldmodel.core.text import escaped
from worldmodel.store.manifest import Record
from worldmodel.store.prepared import Prepared, read_prepared

LIBRARIES = ("numpy",)
SHOWN = 10  # constant features that are named
BATCH_BYTES = 16 << 20  # of episodes that one process reads at a time
MANY = 8  # batches; for fewer, starting processes costs more than it gains


def normalize(prepared: Path, out: Path, normalizer: Path, settings: params.Normalize) -> Scaler:
    """Fit scales, write them and the packed arrays. Raises ValueError where no observed train episode is there.

    Each episode is read twice, train ones three times where angles or categories are among their columns.
    """
    episodes = read_prepared(prepared)
    records = list(episodes)
    train = Tables(episodes, [each for each in records if (each.source, each.split) == ("observed", "train")], "scales")
    one_hot = episodes.action_space.kind == "discrete"
    with publishing(out, normalizer, own=OWN) as (folder, scales):
        scaler = fit(train, settings.method, settings.min_std, one_hot, episodes.columns)
        scales.write_text(scaler.to_json(), encoding="utf-8")
        labels = (label_of(record, record.split, record.frames) for record in records)
        frames = sum(record.frames for record in records)
        tables = Tables(episodes, records, "packed")
        write_packed(folder, tables, frames, labels, episodes.action_space, scaler, episodes.interval_s)
    print(f"scales of {len(train.records)} observed train episodes; packed {len(records)} episodes, {frames} frames")
    if scaler.constant.any():
        print(constant_message(scaler))
    return scaler


def constant_message(scaler: Scaler) -> str:
    """Which features count as constant, the first few by name or number."""
    numbers = np.flatnonzero(scaler.constant).tolist()
    more, names = ", ..." if len(numbers) > SHOWN else "", scaler.features.names
    shown = [escaped(names[number]) if names and names[number] else str(number) for number in numbers[:SHOWN]]
    return (
        f"{len(numbers)} of {scaler.features.width} features never change, or by less than normalize.min_std, and "
        f"count as constant: {'' if names else 'numbers '}{', '.join(shown)}{more}"
    )


@dataclass(frozen=True)
class Tables:
    """Episodes that are read each time somebody goes over them, in other processes where they are many."""

    prepared: Prepared
    records: list[Record]
    what: str  # is done with them, for a progress bar

    def apply(self, look: Look[Result]) -> Iterator[Result]:
        parts = list(self._batches())
        with tqdm(total=len(self.records), desc=self.what, unit="episode", disable=None) as bar:
            if len(parts) < MANY:
                for result in look(map(self.prepared.load, self.records), 0):
                    yield result
                    bar.update()
                return
            calls = [(look, self.prepared, records, first) for records, first in parts]
            for (records, _), found in zip(parts, run_all(_looked, calls), strict=True):
                yield from found
                bar.update(len(records))

    def _batches(self) -> Iterator[tuple[list[Record], int]]:
        """Records, and the row of the first frame."""
        width = self.prepared.feature_count + self.prepared.action_space.size + self.prepared.context_count + 3
        first = begin = at = 0
        for number, record in enumerate(self.records, start=1):
            at += record.frames
            if (at - first) * width * 4 > BATCH_BYTES or number == len(self.records):
                yield self.records[begin:number], first
                first, begin = at, number


def _looked(look: Look[Result], prepared: Prepared, records: list[Record], first: int) -> list[Result]:
    return list(look(map(prepared.load, records), first))


@click.command(help="Fit scales on observed train episodes and pack all episodes.")
@click.option("--prepared", type=PATH, required=True, help="Folder that prepare wrote.")
@click.option("--out", type=PATH, required=True, help="Folder for the packed arrays.")
@click.option("--normalizer", type=PATH, required=True, help="File for the scales.")
@params_option
def command(prepared: Path, out: Path, normalizer: Path, params_file: Path) -> None:
    settings = params.load(params_file, params.NormalizeStage)
    with begin("normalize", settings, {"prepared": prepared}, LIBRARIES).record(params_file):
        normalize(prepared, out, normalizer, settings.normalize)
