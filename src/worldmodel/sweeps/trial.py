"""One run of a sweep, on whatever machine: a clone of the commit, `dvc exp run` in there, and the experiment as bytes.

A machine that sees the project's disk shares its cache, checkpoints and records of runs; another one pushes what it
made to the DVC remote, and keeps checkpoints where WORLDMODEL_CHECKPOINTS says.
"""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from configparser import RawConfigParser
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import worldmodel
from worldmodel.core.atomic import replacing
from worldmodel.core.jobs import CLUSTER, VARIABLE, cores
from worldmodel.core.processes import environment, git

ATTEMPTS = 3  # at a run that ends before one of its stages fails
RESULTS = Path(".dvc/tmp/sweeps")  # which git and DVC ignore: logs, and experiments on their way
STAGE_FAILED = "failed to reproduce"  # as DVC puts it
SHARED = (".checkpoints", "runs")  # folders of the project that stages keep checkpoints and records in
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", VARIABLE)
# dvc, which ends with the process that started it
DVC = (
    "import sys; sys.path.append(sys.argv.pop(1)); from worldmodel.core import parent; "
    "parent.end_with([parent.STARTED_BY]); from dvc.cli import main; sys.exit(main(sys.argv[1:]))"
)


class Outcome(NamedTuple):
    experiment: bytes  # a git bundle; empty where it failed
    why: str = ""  # it failed
    log: str = ""  # of what failed


@dataclass(frozen=True)
class Source:
    """What a machine needs to run the commit, and to see whether it shares the project's disk."""

    commits: bytes = field(repr=False)  # a git bundle
    shallow: str  # where git's history is cut off, as git keeps it
    head: str
    below: str  # the project's path in the repository
    project: Path
    mark: Path  # a folder in there that lasts as long as the sweep
    cache: str  # DVC's
    settings: str = field(repr=False)  # .dvc/config.local
    remote: str  # DVC's default one; empty where there is none
    variables: Mapping[str, str] = field(repr=False)  # keys of S3, where checkpoints go
    jobs: int  # runs at once

    @cached_property
    def is_here(self) -> bool:
        return self.mark.is_dir()


def make(source: Source, name: str, overrides: Mapping[str, str]) -> Outcome:
    """Raises ValueError where nobody could have what it makes."""
    if not source.is_here and not source.remote:
        raise ValueError(
            f"{platform.node()} does not see {source.project}, and there is no default DVC remote to bring results "
            "back by: set one up (`make remote`), or put the project on a disk that all machines share"
        )
    kept = source.project / RESULTS / f"{name}.bundle"
    if source.is_here and kept.is_file():  # of a sweep that ended before it took it
        return Outcome(kept.read_bytes())
    with TemporaryDirectory(dir=source.mark if source.is_here else None, ignore_cleanup_errors=True) as folder:
        log = kept.with_suffix(".log") if source.is_here else Path(folder, "log")
        for _ in range(ATTEMPTS):
            outcome = _attempt(source, name, overrides, Path(folder), log)
            if outcome.experiment or STAGE_FAILED in outcome.log:
                break
        if outcome.experiment and source.is_here:
            with replacing(kept) as temporary:
                temporary.write_bytes(outcome.experiment)
        return outcome


def _attempt(source: Source, name: str, overrides: Mapping[str, str], folder: Path, log: Path) -> Outcome:
    log.write_bytes(b"")
    try:
        with TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as clone:
            project = _cloned(source, Path(clone))
            pull = () if source.is_here else ("--pull",)
            sets = [part for key, text in overrides.items() for part in ("-S", f"{key}={text}")]
            _dvc(source, project, log, "exp", "run", *pull, "--name", name, *sets)
            if not source.is_here:
                _dvc(source, project, log, "push", "--run-cache")
            return Outcome(_bundled(project, name))
    except ValueError as error:
        said = log.read_text(encoding="utf-8", errors="replace")
        first = next((line.strip() for line in said.splitlines() if "error:" in line.lower()), str(error))
        return Outcome(b"", first, said)


def _cloned(source: Source, clone: Path) -> Path:
    """The project in there."""
    git("init", "--quiet", folder=clone)
    if source.shallow:
        (clone / ".git/shallow").write_text(source.shallow, encoding="utf-8")
    commits = clone / ".git/commits.bundle"
    commits.write_bytes(source.commits)
    git("fetch", "--quiet", str(commits), "HEAD", folder=clone)
    git("checkout", "--quiet", "--detach", source.head, folder=clone)
    commits.unlink()
    project, settings = clone / source.below, RawConfigParser()
    settings.read_string(source.settings)
    if source.is_here:
        settings.read_dict({"cache": {"dir": source.cache}})
        (clone / ".git/info/exclude").write_text("\n".join(SHARED) + "\n", encoding="utf-8")
        for shared in SHARED:
            (source.project / shared).mkdir(exist_ok=True)
            (project / shared).symlink_to(source.project / shared)
    with (project / ".dvc/config.local").open("w", encoding="utf-8") as stream:
        settings.write(stream)
    return project


def _dvc(source: Source, project: Path, log: Path, *arguments: str) -> None:
    """Raises ValueError where it fails. What ends this process meanwhile ends it and its stage as well."""
    share = str(max(1, cores() // source.jobs))
    package = str(Path(worldmodel.__file__).parents[1])
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", DVC, package, *arguments],
            cwd=project,
            env={**environment(without=["DVC_ROOT", CLUSTER]), **dict.fromkeys(THREADS, share), **source.variables},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)  # a training saves its state
            process.wait()
            raise
    if code:
        raise ValueError(f"`dvc {' '.join(arguments[:2])}` ended with exit code {code}")


def _bundled(project: Path, name: str) -> bytes:
    reference = git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}", folder=project)
    path = project / ".git-bundle"
    git("bundle", "create", "--quiet", str(path), reference, "--not", "HEAD", folder=project)
    return path.read_bytes()
