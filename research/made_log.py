"""A log of any size: the committed sample again and again, each time and in each file with other names of episodes."""

import gzip
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "data/worldmodel/offline/halfcheetah.jsonl.gz"


def make_log(path: Path, megabytes: float) -> None:
    """At least so many megabytes of JSON lines; meta has a number of the line, so that no two lines are alike."""
    written = number = turn = 0
    name = path.stem.encode()
    with path.open("wb") as out:
        while written < 1e6 * megabytes:
            with gzip.open(SAMPLE, "rb") as lines:
                for line in lines:
                    changed = line.replace(b'"episode":"', b'"line":%d,"episode":"%s-%d-' % (number, name, turn))
                    written, number = written + out.write(changed), number + 1
                    if written >= 1e6 * megabytes:
                        break
            turn += 1
