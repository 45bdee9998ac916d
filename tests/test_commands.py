"""The command `worldmodel`: what it lists, how it refuses wrong use, that it computes alike wherever it is called."""

import re
import subprocess
import sys

from commands import call
from settling import run_unsettled
from test_episodes import contents
from worldmodel.cli import COMMANDS

HEAVY = ("numpy", "torch", "dvc", "onnxruntime", "pydantic", "yaml", "fsspec")


def test_help_has_a_line_for_every_subcommand_and_loads_nothing_heavy():
    code = f"""
import sys
from worldmodel.cli import main
try:
    main(["--help"])
finally:
    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]\n"
    listed = [line.split()[0] for line in done.stdout.partition("Commands:\n")[2].splitlines()]
    assert listed == list(COMMANDS)


def test_wrong_use_of_any_subcommand_is_one_line_and_exit_code_2(capsys):
    for arguments in ([], ["no-such-command"], *([name, "--no-such-option"] for name in COMMANDS)):
        assert call(*arguments) == 2, arguments
        said = capsys.readouterr()
        assert said.err.startswith("error: "), arguments
        assert (said.out, said.err.count("\n")) == ("", 1), arguments


def test_every_subcommand_says_what_it_is_for(capsys):
    for name in COMMANDS:
        assert call(name, "--help") == 0
        usage, _, about = capsys.readouterr().out.partition("\n\n")
        assert f" {name} " in usage
        assert re.match(r"  [A-Z]\w+ .{20}", about), name


def test_a_program_that_has_loaded_numpy_and_computed_gets_the_same_exit_code_and_message(tmp_path):
    code = f"""
import numpy, torch
torch.exp(torch.ones(9))
from worldmodel.cli import main
main(["check-logs", {str(tmp_path / "gone")!r}])
"""
    done = run_unsettled(code)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path / 'gone'}")
    assert done.stderr.count("\n") == 1


def test_stages_called_in_such_a_program_write_the_bytes_that_the_pipeline_has(copy):
    code = """
from pathlib import Path
import numpy as np
import torch
torch.exp(torch.ones(999)), np.tanh(np.ones(999))
from worldmodel.core import params
from worldmodel.stages import dreams, train, validate

def settings(stage):
    return params.load(Path("params.yaml"), stage)

learning = settings(params.TrainStage).train
data, artifacts = Path("data/worldmodel"), Path("artifacts")
dreams.dreams(data / "offline", Path("own/dreams"), settings(params.DreamsStage))
normalized, plots, clock = data / "normalized", Path("own/plots"), Path("own/timing.json")
train.train(normalized, artifacts / "normalizer.json", Path("own/train"), plots, clock, learning)
whole = settings(params.ValidateStage).validate
validate.validate(artifacts / "worldmodel", normalized, Path("own/metrics.json"), plots, clock, whole)
"""
    done = run_unsettled(code, cwd=copy.folder)
    assert done.returncode == 0, done.stderr
    for own, committed in [("dreams", "data/worldmodel/dreams"), ("train", "artifacts/train")]:
        assert contents(copy.folder / "own" / own) == contents(copy.folder / committed)
    for name in ("metrics.json", "plots/loss.csv", "plots/horizon.csv"):
        assert copy.read(f"own/{name}") == copy.read(f"artifacts/{name}")
