"""The command of the study: `python -m research.control`."""

from research.control.table import command
from worldmodel.core.errors import run

run(command)
