"""`worldmodel ...` and the stages' commands, called in the tests' own process."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from copies import ROOT
from worldmodel.cli import main
from worldmodel.core.errors import run


def call(*arguments: object) -> int:
    """The exit code; what it prints is there for capsys."""
    try:
        main([str(each) for each in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def stage(name: str, folder: Path, changes: Mapping[str, Any], **paths: object) -> int:
    """Exit code of a stage's command on params.yaml with other values in these sections, written to the folder."""
    whole = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in changes.items():
        whole[section] |= values
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    options = {"params": folder / "params.yaml"} | paths
    given = [part for option, path in options.items() for part in (f"--{option}", str(path))]
    try:
        run(import_module(f"worldmodel.stages.{name}").command, given)
    except SystemExit as end:
        return int(end.code or 0)
    return 0
