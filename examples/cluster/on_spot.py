"""The pipeline on a machine that may be taken away: whoever calls this next, on the same commit, goes on.

Results go to the DVC remote, stage by stage. Below WORLDMODEL_CHECKPOINTS=s3://bucket/prefix lie checkpoints of the
stage that runs, and what git is to have of the others' results. Called on one's own machine in the end, it runs nothing
and brings dvc.lock, metrics and plots, to be committed.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import yaml

RESULTS = ("dvc.lock", "artifacts")  # what git has of results


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], stdout=subprocess.PIPE, check=True).stdout


def results() -> bytes:
    """As a patch of the commit."""
    return git("diff", "--binary", "--relative", "HEAD", "--", *RESULTS)


def main(address: str) -> None:
    work = git("rev-parse", "HEAD") + git("diff", "HEAD", "--", ".", *(f":!{name}" for name in RESULTS))
    system, place = fsspec.url_to_fs(f"{address.rstrip('/')}/results/{hashlib.sha256(work).hexdigest()[:16]}.patch")
    if system.exists(place) and not results():
        subprocess.run(["git", "apply"], input=system.cat_file(place), check=True)
        subprocess.run(["dvc", "pull", "--force", "--allow-missing"], check=True)
    known = results()
    for stage in yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]:
        subprocess.run(["dvc", "repro", "--pull", "--allow-missing", stage], check=True)
        if (now := results()) != known:
            subprocess.run(["dvc", "push", "--run-cache"], check=True)
            system.pipe_file(place, now)
            known = now


if __name__ == "__main__":
    try:
        main(os.environ["WORLDMODEL_CHECKPOINTS"])
    except KeyError:
        sys.exit("error: WORLDMODEL_CHECKPOINTS is not set, expected an address such as s3://bucket/prefix")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: `{' '.join(error.cmd)}` ended with exit code {error.returncode}; call this again to go on")
