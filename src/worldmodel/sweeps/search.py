"""Params looked for beside grids: Optuna proposes runs in batches, and learns from each batch's errors on val episodes.

What is proposed depends on the batches before and on nothing else: not on how many work, nor on what was killed.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldmodel.core.yaml12 import parse
from worldmodel.sweeps import experiments
from worldmodel.sweeps.grid import SEED, Run, sweep_runs
from worldmodel.sweeps.results import ranked
from worldmodel.sweeps.runner import Runner

RANGE = re.compile(r"([-+.\w]*\d\.?)\.\.([-+.]*\d[-+.\w]*)")
DECADE = 10.0  # ends of a range that are so many times apart are searched by their logarithm
JOURNAL = "optuna.journal"


@dataclass(frozen=True)
class Range:
    low: float
    high: float
    whole: bool

    @property
    def log(self) -> bool:
        return self.low > 0 and self.high / self.low >= DECADE

    def proposed(self, trial: Any, key: str) -> str:
        if self.whole:
            return str(trial.suggest_int(key, int(self.low), int(self.high), log=self.log))
        return f"{trial.suggest_float(key, self.low, self.high, log=self.log):.6g}"


Axis = Range | Sequence[str]


def axis_of(key: str, texts: Sequence[str], values: Mapping[str, Any]) -> Axis:
    """A range, where the only text is one, else the texts. Raises ValueError for a range without room or numbers."""
    found = RANGE.fullmatch(texts[0]) if len(texts) == 1 else None
    if not found:
        return texts
    low, high = (parse(end) for end in found.groups())
    if not all(type(end) in (int, float) for end in (low, high)) or not low < high or key.endswith(SEED):
        raise ValueError(
            f"{key}={texts[0]}: expected two numbers, the lower one first, such as 0.0003..0.01, of no seed"
        )
    for end in found.groups():
        sweep_runs({key: [end]}, values, "")
    *path, last = key.split(".")
    section: Any = values
    for part in path:
        section = section[part]
    return Range(low, high, all(type(each) is int for each in (low, high, section[last])))


class Search:
    """A study of Optuna's, kept in `folder`, that goes on where it was left; called as a Runner is."""

    def __init__(
        self,
        axes: Mapping[str, Axis],
        values: Mapping[str, Any],
        code: str,
        folder: Path,
        trials: int,
        batch: int,
        jobs: int | None,
    ) -> None:
        """So many trials, `batch` of them proposed together."""
        self.axes, self.values, self.code, self.jobs = axes, values, code, jobs
        self.runs: list[Run] = []  # proposed until now
        self.failed: dict[str, str] = {}  # name -> why
        self._batches = [range(first, min(first + batch, trials)) for first in range(0, trials, batch)]
        self._study = _study(folder / JOURNAL)

    def run(self) -> None:
        for number, batch in enumerate(self._batches):
            proposed = self.propose(number)
            runner = Runner(self.runs, self.jobs)
            try:
                commits = runner.run()
            finally:
                self.failed = runner.failed
            for trial, runs in zip(batch, proposed, strict=True):
                self._tell(trial, runs, commits)

    def propose(self, batch: int) -> list[list[Run]]:
        """Runs of its trials, one for each combination of seeds."""
        proposed = [self._trial(number) for number in self._batches[batch]]
        self.runs = list({run.name: run for runs in (self.runs, *proposed) for run in runs}.values())
        return proposed

    def _trial(self, number: int) -> list[Run]:
        import optuna

        self._study.sampler = optuna.samplers.TPESampler(seed=number)
        known = self._study.trials[number:]
        trial = optuna.trial.Trial(self._study, known[0]._trial_id) if known else self._study.ask()
        texts = {key: self._texts(trial, key, axis) for key, axis in self.axes.items()}
        try:
            return sweep_runs(texts, self.values, self.code)
        except ValueError as error:  # two values that do not go together
            print(f"trial {number} is left out: {error}", flush=True)
            return []

    def _texts(self, trial: Any, key: str, axis: Axis) -> Sequence[str]:
        if isinstance(axis, Range):
            return [axis.proposed(trial, key)]
        return axis if key.endswith(SEED) else [trial.suggest_categorical(key, list(axis))]

    def _tell(self, number: int, runs: Sequence[Run], commits: Mapping[str, str]) -> None:
        """The mean error over the seeds, on val episodes."""
        from optuna.trial import TrialState

        rows = {run.name: experiments.episodes_of(commits[run.name]) for run in runs if run.name in commits}
        if not runs or len(rows) < len(runs):
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        else:
            self._study.tell(number, ranked(runs, rows)[0].val, skip_if_finished=True)


def _study(journal: Path) -> Any:
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise ValueError("a search needs Optuna, which is not installed: `pip install worldmodel[cluster]`") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.create_study(storage=storage, study_name="sweep", direction="minimize", load_if_exists=True)
