"""Say what logs hold, or which rows are wrong: a file or a folder, without touching anything in it.

Exit code 0 where every row is good, 1 where one is not or nothing can be read.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from worldmodel.config.params import PrepareStage, load  # noqa: E402
from worldmodel.data.files import find_logs  # noqa: E402
from worldmodel.data.logs import collect_logs  # noqa: E402
from worldmodel.data.rejects import SHOWN_REJECTS, by_reason  # noqa: E402
from worldmodel.data.spool import Spool  # noqa: E402
from worldmodel.data.survey import survey  # noqa: E402
from worldmodel.runtime import stage  # noqa: E402


def check(logs: Path, max_gap_s: float) -> tuple[bool, list[str]]:
    """Whether every row is good, and what there is to say. Raises ValueError where there is no row at all."""
    with tempfile.TemporaryDirectory() as folder, Spool.within(Path(folder)) as spool:
        found = collect_logs([logs], max_gap_s, spool.add)
        if not found.rejects:
            return True, survey(found.episodes).lines(find_logs([logs]))
    shown = [str(reject) for reject in found.rejects[:SHOWN_REJECTS]]
    counts = [f"{count:>8} {reason}" for reason, count in by_reason(found.rejects)]
    return False, [*shown, "", f"{len(found.rejects)} of {found.rows} rows are wrong:", *counts]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path, help="a .jsonl or .jsonl.gz file, or a folder of them")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml", help="where prepare.max_gap_s stands")
    given = parser.parse_args(arguments)
    good, lines = check(given.logs, load(given.params, PrepareStage).prepare.max_gap_s)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    print("\n".join(lines))
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    stage.run(main)
