"""Tiny projects on disk: the stages' own functions, from episodes to metrics."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from factories import PARAMS, make_dreams, make_episodes, make_intake, make_normalize, make_train, space_of
from worldmodel.arrays.packing import PackedData, read_packed
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Windows, windows
from worldmodel.client import WorldModel
from worldmodel.core import params
from worldmodel.episodes.columns import NAMELESS, Columns
from worldmodel.episodes.schema import Episode, Split
from worldmodel.model.artifact import Trained, read_trained
from worldmodel.stages import export, normalize, train, validate
from worldmodel.store.prepared import write_prepared

SPLITS: list[Split] = ["train", "train", "train", "train", "val", "val", "test", "test"]

# encoder -> what the episodes are like, and what the model is like
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mlp": ({"kind": "continuous", "rewards": True}, {"history": 3}),
    "gru": ({"kind": "discrete", "rewards": False}, {"history": 2}),
    "transformer": ({"kind": "none", "actions": 0, "rewards": False}, {"history": 3}),
}


@dataclass(frozen=True)
class Project:
    """Where the stages read and write, and the settings that it was built with."""

    folder: Path
    settings: params.Train

    @property
    def normalized(self) -> Path:
        return self.folder / "normalized"

    @property
    def normalizer(self) -> Path:
        return self.folder / "normalizer.json"

    @property
    def trained(self) -> Path:
        return self.folder / "train"

    @property
    def plots(self) -> Path:
        return self.folder / "plots"

    @property
    def clock(self) -> Path:
        return self.folder / "timing.json"

    @property
    def bundles(self) -> Path:
        return self.folder / "worldmodel"

    @property
    def bundle(self) -> Path:
        return next(self.bundles.iterdir())

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def scaler(self) -> Scaler:
        return Scaler.read(self.normalizer)

    def client(self) -> WorldModel:
        return WorldModel.load(self.bundles)

    def read_trained(self) -> Trained:
        return read_trained(self.trained)

    def read_packed(self) -> PackedData:
        return read_packed(self.normalized)

    def held_out(self) -> Windows:
        packed = self.read_packed().packed
        return windows(packed, packed.where("test"), self.settings.history, self.settings.horizon)

    def write(
        self, episodes: Sequence[Episode], splits: Sequence[Split], columns: Columns = NAMELESS, **fields: Any
    ) -> "Project":
        """Prepared and normalized."""
        write_prepared(self.folder / "prepared", episodes, splits, space_of(episodes), columns=columns)
        normalize.normalize(self.folder / "prepared", self.normalized, self.normalizer, make_normalize(**fields))
        return self

    def train(self) -> dict[str, Any]:
        return train.train(self.normalized, self.normalizer, self.trained, self.plots, self.clock, self.settings)

    def export(self) -> Path:
        return export.export(self.trained, self.normalizer, self.bundles, export_stage(self.settings))

    def validate(self, **fields: Any) -> dict[str, Any]:
        settings = make_validate(**({"horizon": self.settings.horizon} | fields))
        return validate.validate(self.bundles, self.normalized, self.metrics, self.plots, self.clock, settings)


def make_project(folder: Path, episodes: Sequence[Episode] | None = None, **fields: Any) -> Project:
    """Eight observed episodes and three dreams, normalized; `fields` override the settings of train."""
    given = observed_and_dreams() if episodes is None else episodes
    return Project(folder, make_train(**fields)).write(given, splits_of(given))


def observed_and_dreams(length: int = 12, dreams: int = 3, **fields: Any) -> list[Episode]:
    observed = make_episodes(len(SPLITS), length, **fields)
    return observed + make_episodes(dreams, 7, source="dream", **fields)


def splits_of(episodes: Sequence[Episode]) -> list[Split]:
    """SPLITS again and again for what is observed; dreams are train."""
    observed = iter(SPLITS * len(episodes))
    return ["train" if episode.source == "dream" else next(observed) for episode in episodes]


def build(folder: Path, encoder: str) -> None:
    """Normalized, trained, exported and validated."""
    project = built(folder, encoder)
    episodes = observed_and_dreams(**VARIANTS[encoder][0])
    project.write(episodes, splits_of(episodes))
    project.train()
    project.export()
    project.validate()


def built(folder: Path, encoder: str) -> Project:
    """What `build` left in the folder."""
    return Project(folder, make_train(encoder=encoder, **VARIANTS[encoder][1]))


def make_validate(**fields: Any) -> params.Validate:
    return replace(PARAMS.validate, **({"horizon": 4, "latency_calls": 3} | fields))


def export_stage(settings: params.Train, opset: int = 20) -> params.ExportStage:
    return params.ExportStage(make_dreams(), make_intake(), make_normalize(), settings, params.Export(opset=opset))
