"""worldmodel convert: what it writes is read back as the same episodes; what it cannot convert leaves nothing."""

import gzip
import json

import numpy as np
import zstandard

from commands import call
from factories import make_episodes
from lines import GAP
from test_readers import MCAP_MAP, TABLE_MAP, csv, d4rl, mcap, parquet
from worldmodel.core.yaml12 import read_yaml
from worldmodel.logs.reader import read_logs
from worldmodel.logs.writing import write_jsonl
from worldmodel.readers.source import open_source

MAP = """\
timestamp: t
episode: run
features: [x, y, z]
action: [u, v]
reward: gain
terminal: over
truncated: cut
columns: {z: {unit: degrees, kind: angle}}
"""


def test_converted_logs_hold_the_same_episodes(tmp_path, capsys):
    (tmp_path / "map.yaml").write_text(MAP)
    (tmp_path / "topics.yaml").write_text(
        'rate: 20\nfeatures: ["/state.x[0]", "/state.x[1]", "/state.x[2]"]\n'
        "action: [/cmd.vel.twist.u, /cmd.vel.twist.v]\n"
    )
    sources = {
        "d4rl": (d4rl(tmp_path / "hopper.hdf5"), None),
        "parquet": (parquet(tmp_path / "a.parquet"), TABLE_MAP),
        "csv": (csv(tmp_path / "a.csv"), TABLE_MAP),
        "mcap": (mcap(tmp_path / "a.mcap"), MCAP_MAP),
    }
    for form, (path, fields) in sources.items():
        out = tmp_path / "out" / f"{form}.jsonl.gz"
        named = {"d4rl": (), "mcap": ("--map", tmp_path / "topics.yaml")}.get(form, ("--map", tmp_path / "map.yaml"))
        assert call("convert", path, "--out", out, *named) == 0
        logs, expected = read_logs([out], GAP), list(open_source(path, fields))
        assert not logs.rejects
        assert [each.narrowed() for each in logs.episodes] == [each.narrowed() for each in expected]
        said = capsys.readouterr().out.splitlines()
        assert said[:3] == [f"{out}:", f"episodes  {len(expected)}", f"frames    {logs.rows}"]
        assert (said[-1] == f"names     written to {tmp_path / 'out/features.yaml'}") == (form == "d4rl")
    assert said[3] == "features  3: /state.x[0], /state.x[1], /state.x[2]"
    assert gzip.decompress((tmp_path / "out/csv.jsonl.gz").read_bytes()).count(b"\n") == 12


def test_missing_readings_are_null_and_counted_and_names_go_into_features_yaml(tmp_path, capsys):
    features = np.array([[1_690_000_000.123456, np.nan], [1_690_000_128.0, 0.25], [1.5, 2.5], [np.nan, np.nan]])
    rows = "".join(f"{t},{x},{y}\n" for t, (x, y) in enumerate(features.tolist())).replace("nan", "")
    (tmp_path / "a.csv").write_text(f"t,x,heading\n{rows}")
    (tmp_path / "a.yaml").write_text(
        "timestamp: t\nfeatures: [x, heading]\ncolumns: {heading: {unit: radians, kind: angle}}\n"
    )
    out = tmp_path / "out/a.jsonl"
    assert call("convert", tmp_path / "a.csv", "--map", tmp_path / "a.yaml", "--out", out) == 0
    assert "missing   x 1 of 4, heading 2 of 4" in capsys.readouterr().out
    found = [json.loads(line)["features"] for line in out.read_text().splitlines()]
    assert np.array_equal(np.array(found, np.float64), features, equal_nan=True)
    names = out.with_name("features.yaml")
    heading = {"name": "heading", "unit": "radians", "kind": "angle"}
    assert read_yaml(names) == {"features": ["x", heading]}
    names.write_text("features: [a, b]\n")
    assert call("convert", tmp_path / "a.csv", "--map", tmp_path / "a.yaml", "--out", out) == 0
    assert names.read_text() == "features: [a, b]\n"


def test_lines_packed_by_zstd_become_canonical_lines(tmp_path, capsys):
    path, out = tmp_path / "a.jsonl.zst", tmp_path / "out.jsonl"
    write_jsonl(tmp_path / "plain.jsonl", make_episodes(3, 4, kind="discrete"))
    path.write_bytes(zstandard.compress((tmp_path / "plain.jsonl").read_bytes()))
    assert call("convert", path, "--out", out) == 0
    assert out.read_bytes() == (tmp_path / "plain.jsonl").read_bytes()
    assert capsys.readouterr().out.splitlines()[1:4] == ["episodes  3", "frames    12", "features  2"]
    path.write_bytes(zstandard.compress(b"{}\n"))
    assert call("convert", path, "--out", out) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: a.jsonl.zst:1: agent_id: missing")
    assert said.endswith("`worldmodel check-logs` names all 1 wrong rows\n")


def test_one_line_and_no_file_where_it_cannot_be_done(tmp_path, capsys):
    path, out = d4rl(tmp_path / "a.hdf5", actions=np.full((12, 2), np.nan)), tmp_path / "out.jsonl"
    (tmp_path / "a.yaml").write_text("rate: 0\n")
    for arguments, code, expected in (
        (("--out", out), 1, f"error: {path}: episode 0, row 0: actions.0 is missing; mend it, "),
        (("--out", out, "--map", tmp_path / "a.yaml"), 1, f"error: {tmp_path / 'a.yaml'}: rate: expected greater than"),
        (("--out", out, "--map", tmp_path / "b.yaml"), 1, f"error: {tmp_path / 'b.yaml'}: No such file"),
        (("--out", out, "--format", "parquet"), 1, f"error: {path}: cannot be read (Parquet magic bytes"),
        (("--out", tmp_path / "out.json"), 2, f"error: --out {tmp_path / 'out.json'}: expected a name that ends in"),
    ):
        assert call("convert", path, *arguments) == code
        said = capsys.readouterr().err
        assert said.startswith(expected), said
        assert said.count("\n") == 1
    assert call("convert", tmp_path / "none.csv", "--out", out) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'none.csv'}: no such file or folder\n"
    assert not out.exists()
