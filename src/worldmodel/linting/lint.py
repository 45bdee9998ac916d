"""All remarks on logs, and what is gathered for them while the logs are read."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from worldmodel.core.regular import walk
from worldmodel.core.text import escaped
from worldmodel.episodes.temporary_store import EpisodeView
from worldmodel.linting import clock, content, motion, values
from worldmodel.linting.remarks import Check, Limits, LintedLogs, Placed, Remark
from worldmodel.logs.files import Location, LogFile

CHECKS: tuple[Check, ...] = (
    clock.time_unit,
    content.no_windows,
    content.few_episodes,
    content.unused_meta,
    clock.interleaved,
    clock.out_of_order,
    clock.same_name,
    clock.duplicate_frames,
    clock.gaps,
    motion.teleport,
    motion.action_shift,
    content.action_kind,
    values.sentinel,
    values.saturated,
    values.constant,
    values.float32_loss,
    values.angle,
    content.unread_files,
)
NO_LOGS = (".gitignore", ".gitkeep", ".DS_Store", "LICENSE", "README")
NO_LOG_SUFFIXES = (".md", ".dvc", ".yaml", ".yml", ".txt")


@dataclass
class Collector:
    """Observes a reading of logs; dreams are left out."""

    placed: list[Placed] = field(default_factory=list)
    meta_keys: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def begin(self) -> None:
        self.placed, self.meta_keys = [], {}

    def meta(self, file: str, keys: Mapping[str, tuple[int, int]]) -> None:
        for key, (line, count) in keys.items():
            first, number, earlier = self.meta_keys.get(key, (file, line, 0))
            self.meta_keys[key] = first, number, earlier + count

    def episode(self, file: str, line: int, episode: EpisodeView, returns: int) -> None:
        if episode.source == "observed":
            self.placed.append(Placed(file, line, episode, returns))

    def logs(self, limits: Limits, unread: Sequence[str]) -> LintedLogs:
        placed = sorted(self.placed, key=lambda each: (each.file, each.line))
        return LintedLogs(placed, limits, unread, self.meta_keys)


def lint(logs: LintedLogs) -> list[Remark]:
    """In the order of CHECKS; one of each kind, of `unused-meta` one for each key."""
    checks = CHECKS if logs.placed else [content.unread_files]
    return [remark for check in checks for remark in check(logs)]


def unread_files(folder: Location, files: Iterable[LogFile]) -> list[str]:
    """Files below the folder that no reader takes, by their path in there; what surely is no log aside."""
    if isinstance(folder, str) or not folder.is_dir():
        return []
    read = {str(file.path) for file in files}
    folders = tuple(f"{file.path}{os.sep}" for file in files if file.source)
    found = [parent / name for parent, _, names in walk(folder) for name in names]
    found = [path for path in found if not str(path).startswith(folders)]
    return sorted(
        escaped(path.relative_to(folder).as_posix())
        for path in found
        if str(path) not in read and path.name not in NO_LOGS and path.suffix not in NO_LOG_SUFFIXES
    )
