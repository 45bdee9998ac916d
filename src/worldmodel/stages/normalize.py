"""prepared episodes -> artifacts/normalizer.json, packed arrays in standardized units.

Scales are fitted on observed train episodes; val, test and dreams are only transformed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import click
import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.packing import OWN, label_of, sample_of, write_packed
from worldmodel.arrays.scaler import Sample, Scaler, fit
from worldmodel.core import params
from worldmodel.core.atomic import publishing
from worldmodel.core.options import PATH, params_option
from worldmodel.core.stage_run import begin
from worldmodel.core.typing import Floats
from worldmodel.episodes.temporary_store import EpisodeStore, StoredTable
from worldmodel.store.prepared import read_prepared

LIBRARIES = ("numpy",)
SHOWN = 10  # constant features that are named


def normalize(prepared: Path, out: Path, normalizer: Path, settings: params.Normalize) -> Scaler:
    """Fit scales, write them and the packed arrays. Raises ValueError where no observed train episode is there.

    Each episode is read once and then stays in one temporary file, since the scales go over it several times.
    """
    episodes = read_prepared(prepared)
    with publishing(out, normalizer, own=OWN) as (folder, scales), EpisodeStore.within(folder) as store:
        tables, train_tables, frames = list[StoredTable](), list[StoredTable](), 0
        for record in episodes:
            tables.append(store.put(episodes.load(record)))
            frames += record.frames
            if (record.source, record.split) == ("observed", "train"):
                train_tables.append(tables[-1])
        one_hot = episodes.action_space.kind == "discrete"
        scaler = fit(StoredSamples(train_tables), settings.method, settings.min_std, one_hot)
        scales.write_text(scaler.to_json(), encoding="utf-8")
        labels = (label_of(record, record.split, record.frames) for record in episodes)
        write_packed(folder, StoredSamples(tables), frames, labels, episodes.action_space, scaler)
    print(f"scales of {len(train_tables)} observed train episodes; packed {len(tables)} episodes, {frames} frames")
    if scaler.constant.any():
        print(constant_message(scaler.constant))
    return scaler


def constant_message(constant: NDArray[np.bool_]) -> str:
    """Which features count as constant, the first few by number; `constant` is [F]."""
    numbers = np.flatnonzero(constant)
    more = ", ..." if len(numbers) > SHOWN else ""
    return (
        f"{len(numbers)} of {len(constant)} features never change, or by less than normalize.min_std, and count as "
        f"constant: numbers {', '.join(map(str, numbers[:SHOWN]))}{more}"
    )


@dataclass(frozen=True)
class StoredSamples:
    """Samples that are read from their store each time somebody iterates over them."""

    tables: Sequence[StoredTable]

    def __iter__(self) -> Iterator[Sample]:
        for stored in self.tables:
            table = stored.read()
            actions = cast(Floats | None, table.actions)  # prepared ones are encoded
            yield sample_of(table.features, actions, table.rewards, table.confidence)


@click.command(help="Fit scales on observed train episodes and pack all episodes.")
@click.option("--prepared", type=PATH, required=True, help="Folder that prepare wrote.")
@click.option("--out", type=PATH, required=True, help="Folder for the packed arrays.")
@click.option("--normalizer", type=PATH, required=True, help="File for the scales.")
@params_option
def command(prepared: Path, out: Path, normalizer: Path, params_file: Path) -> None:
    settings = params.load(params_file, params.NormalizeStage)
    with begin("normalize", settings, {"prepared": prepared}, LIBRARIES).record(params_file):
        normalize(prepared, out, normalizer, settings.normalize)
