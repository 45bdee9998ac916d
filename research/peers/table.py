"""Ours and its peers side by side on many logs: what `compare.py` measures, for each kind of logs and each size.

    make peers LOGS=my-kinds        # or: python studies/peers/table.py --logs my-kinds --sizes 16,256 --jobs 2

Each log file is a kind of logs and named after it. What a model reached is kept in a file as soon as it is known: call
this again after anything went wrong, and only what is missing is run. The table takes its place in docs/results.md.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "studies")]

import worldmodel.numerics.pinning  # noqa: E402, F401  (before NumPy, which goes by it)

# isort: split
from research import rho_report as report
from research.peers.cells import Cell, Shelf, kinds_of
from research.peers.compare import add_options, line, on_the_processor, parsed
from research.peers.material import Material, read_material
from research.peers.measuring import in_order, measure
from research.peers.ranking import COLUMNS, markdown
from worldmodel.core import errors as stage
from worldmodel.numerics import setup

BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"


@dataclass(frozen=True)
class Filler:
    """Runs what a cell lacks. A class of its own, so that it reaches other processes with all it needs."""

    shelf: Shelf
    models: Sequence[str]

    def __call__(self, cell: Cell) -> None:
        setup.configure(self.shelf.settings.train)
        missing = [name for name in in_order(self.models) if self.shelf.found(cell, name) is None]
        if not missing:
            return
        material = self._material(cell)
        for name in missing:
            seconds = self.shelf.seconds_of(cell)
            row = measure(name, material, self.shelf.settings, seconds, cell.seed)
            self.shelf.keep(cell, name, row)
            print(f"{cell.kind}, {cell.size or 'all'}: {line(row)}", flush=True)

    def _material(self, cell: Cell) -> Material:
        settings = self.shelf.settings
        intake = replace(settings.prepare, train_episodes=cell.size)
        material = read_material([cell.logs], intake, settings.normalize)
        if len(material.train) < cell.size:
            found = f"{cell.logs}: {len(material.train)} train episodes, --sizes asks for {cell.size}"
            raise ValueError(f"{found}; record more or ask for fewer")
        return material


def main(arguments: Sequence[str] | None = None) -> None:
    given = parsed(_parser(), arguments)
    shelf = Shelf(given.cells, on_the_processor(given.params), given.seconds)
    kinds = kinds_of(given.logs)
    cells = [Cell(kind, path, size, given.seed) for kind, path in kinds.items() for size in given.sizes]
    fill = Filler(shelf, given.models)
    if given.jobs == 1:
        for cell in cells:
            fill(cell)
    else:
        with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
            list(pool.map(fill, cells))
    rows = {cell: {name: row for name in COLUMNS if (row := shelf.found(cell, name))} for cell in cells}
    report.write_between_markers(given.out, markdown(rows, given.seconds), BEGIN, END)
    print(f"table in {given.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, nargs="+", required=True, help="log files, or folders of them")
    parser.add_argument("--sizes", type=_sizes, default="16,256", help="train episodes; 0 = all")
    add_options(parser)
    parser.add_argument("--jobs", type=int, default=1, help="processes, each on one thread")
    parser.add_argument("--cells", type=Path, default=ROOT / "runs/peers", help="folder for what each model reached")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results.md", help="file with the table's markers")
    return parser


def _sizes(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    stage.run(main)
