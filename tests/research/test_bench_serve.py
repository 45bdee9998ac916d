import subprocess
import sys

import pytest

from copies import ENVIRONMENT, ROOT
from serving import PLAIN
from tiny_bundles import write_bundle


def test_each_way_to_ask_is_a_row_of_the_table(tmp_path):
    bundle = write_bundle(tmp_path / "a", texts=PLAIN, context_min=None, context_max=None)
    command = [sys.executable, "-m", "research.bench_serve", bundle, "--seconds", "0.1", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=True)
    first, header, *rows = done.stdout.splitlines()
    assert first.startswith("encoder of 000000000000, in one's own process: 0.")
    assert header.split()[:2] == ["P50", "ms"]
    names = ["serve, binary", "serve, JSON", "serve, gRPC", "bare FastAPI, JSON"]
    assert [row.partition("  ")[0] for row in rows] == names
    for row in rows:
        alone, over, _, ratio, rate, many, times = map(float, row.partition("  ")[2].split())
        assert 0 < over < alone
        assert ratio >= 1
        assert many / rate == pytest.approx(times, abs=0.1)
