"""Command-line options that several commands have."""

from pathlib import Path

import click

PATH = click.Path(path_type=Path)
params_option = click.option(
    "--params", "params_file", type=PATH, default=Path("params.yaml"), show_default=True, help="File of params."
)
