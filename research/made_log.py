"""A log of any size, made on the fly: the committed sample again and again, each time with other names of episodes."""

import gzip
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "data" / "worldmodel" / "offline" / "halfcheetah.jsonl.gz"


def make_log(path: Path, megabytes: float) -> None:
    """At least so many megabytes of JSON lines."""
    with gzip.open(SAMPLE, "rb") as stream:
        text = stream.read()
    with path.open("wb") as out:
        for turn in range(10**6):
            named = text.replace(b'"episode":"', b'"episode":"%d-' % turn)
            room = int(megabytes * 1e6) - out.tell()
            out.write(named if room > len(named) else named[: named.index(b"\n", max(room, 0)) + 1])
            if room <= len(named):
                return
