import json

import pytest
import yaml

from copies import tiny_params
from research.executed import command


@pytest.mark.slow
def test_a_study_from_logs_to_a_table_of_each_kind(tmp_path, capsys):
    params, out = tmp_path / "params.yaml", tmp_path / "out"
    params.write_text(yaml.safe_dump(tiny_params()), encoding="utf-8")
    asked = ["--env", "Pendulum-v1", "--episodes", "16", "--starts", "8", "--set", "train.rho=0", "--out", str(out)]
    command.main([*asked, "--params", str(params)], standalone_mode=False)
    found = json.loads((out / "executed.json").read_text())["Pendulum-v1"]
    assert set(found["plans"]) == {"logged", "other", "full", "switching", "noise", "optimized", "steered", "all"}
    every = found["plans"]["all"]
    assert (every["plans"], every["frames"]) == (56, 4)
    assert every["low"] < every["rank"] < every["high"]
    assert every["within"] >= every["within_std"]
    assert found["growth"]["64"]["plans"] == 8
    assert "switching" in capsys.readouterr().out
    with pytest.raises(ValueError, match="was made with other params"):
        command.main([*asked, "--params", str(params), "--set", "train.lr=0.1"], standalone_mode=False)
