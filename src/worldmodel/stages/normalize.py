"""prepared episodes -> artifacts/normalizer.json, packed arrays in standardized units.

Scales are fitted on observed train episodes; val, test and dreams are only transformed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import click
import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.packing import label_of, sample_of, write_packed
from worldmodel.arrays.scaler import Sample, Scaler, fit
from worldmodel.core import params
from worldmodel.core.atomic import replacing
from worldmodel.core.options import PATH, params_option
from worldmodel.core.stage_run import begin
from worldmodel.core.typing import Floats
from worldmodel.episodes.table import Table
from worldmodel.episodes.temporary_store import EpisodeStore, Offsets
from worldmodel.store.prepared import read_prepared

LIBRARIES = ("numpy",)
SHOWN = 10  # constant features that are named


def normalize(prepared: Path, out: Path, normalizer: Path, settings: params.Normalize) -> Scaler:
    """Fit scales, write them and the packed arrays. Raises ValueError where no observed train episode is there.

    Each episode is read once and then waits in one file, since the scales go over it several times.
    """
    episodes = read_prepared(prepared)
    with EpisodeStore.within(out) as store:
        places, fitted_on, frames = Offsets(), Offsets(), 0
        for record in episodes:
            place = store.put(Table(**vars(episodes.load(record))))
            places.append(place)
            frames += record.frames
            if (record.source, record.split) == ("observed", "train"):
                fitted_on.append(place)
        one_hot = episodes.action_space.kind == "discrete"
        scaler = fit(Waiting(store, fitted_on), settings.method, settings.min_std, one_hot)
        with replacing(normalizer) as temporary:
            temporary.write_text(scaler.to_json(), encoding="utf-8")
        labels = (label_of(record, record.split, record.frames) for record in episodes)
        write_packed(out, Waiting(store, places), frames, labels, episodes.action_space, scaler)
    print(f"scales of {len(fitted_on)} observed train episodes; packed {len(places)} episodes, {frames} frames")
    if scaler.constant.any():
        print(told(scaler.constant))
    return scaler


def told(constant: NDArray[np.bool_]) -> str:
    """Which features count as constant, the first few by number."""
    found = np.flatnonzero(constant)
    more = ", ..." if len(found) > SHOWN else ""
    return (
        f"{len(found)} of {len(constant)} features never change, or by less than normalize.min_std, and count as "
        f"constant: numbers {', '.join(map(str, found[:SHOWN]))}{more}"
    )


@dataclass(frozen=True)
class Waiting:
    """Samples that are read anew each time they are gone over."""

    store: EpisodeStore
    places: Offsets

    def __iter__(self) -> Iterator[Sample]:
        for place in self.places:
            table = self.store.read(place)
            actions = cast(Floats | None, table.actions)  # prepared ones are encoded
            yield sample_of(table.features, actions, table.rewards, table.confidence)


@click.command(help="Fit scales on observed train episodes and pack all episodes.")
@click.option("--prepared", type=PATH, required=True, help="Folder that prepare wrote.")
@click.option("--out", type=PATH, required=True, help="Folder for the packed arrays.")
@click.option("--normalizer", type=PATH, required=True, help="File for the scales.")
@params_option
def command(prepared: Path, out: Path, normalizer: Path, params_file: Path) -> None:
    settings = params.load(params_file, params.NormalizeStage)
    with begin("normalize", settings, {"prepared": prepared}, LIBRARIES).watched(params_file):
        normalize(prepared, out, normalizer, settings.normalize)
