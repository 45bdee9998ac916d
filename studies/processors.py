"""Are the bits the same on another processor? All stages that promise it, run small: here and on emulated processors.

    python studies/processors.py                                   # an Intel and an AMD processor; a quarter of an hour
    python studies/processors.py --processors EPYC-Rome-v1,Broadwell-v1

It takes QEMU's user mode (`apt-get install qemu-user`), which answers bit by bit what such a processor answers, some 30
times slower. It has no AVX512, and one answer to approximate instructions, where makers differ: what differs in it
differs, what is equal may differ yet.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from subprocess import PIPE, run

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import worldmodel.runtime.instructions  # noqa: E402, F401  (before NumPy, which goes by it)

# isort: split
from dreams import dreams  # noqa: E402
from export import export  # noqa: E402
from normalize import normalize  # noqa: E402
from prepare import prepare  # noqa: E402
from train import train  # noqa: E402
from worldmodel.config import params  # noqa: E402
from worldmodel.config.yaml12 import read_yaml  # noqa: E402
from worldmodel.data.logs import read_logs, write_jsonl  # noqa: E402
from worldmodel.data.schema import Episode  # noqa: E402
from worldmodel.learning.model import ENCODERS  # noqa: E402
from worldmodel.runtime import stage  # noqa: E402
from worldmodel.runtime.fingerprint import content_hashes  # noqa: E402

EPISODES, FRAMES = 30, 48  # of the logs, their first ones
Hashes = dict[str, str]  # sha256 by path


def small(settings: params.Params) -> params.Params:
    """The same in little: all that computes takes part, few times."""
    teacher = replace(settings.dreams.teacher, members=2, steps=5, batch_size=16, points=60, transition_steps=5)
    return replace(
        settings,
        dreams=replace(settings.dreams, episodes=32, teacher=teacher),
        train=replace(settings.train, steps=5, batch_size=16, kl_weight=0.01, contrastive_weight=0.01),
    )


def beginning(episode: Episode) -> Episode:
    """Its first frames: long arrays are more than QEMU 7.2 can sort."""
    found = {name: getattr(episode, name) for name in ("timestamps", "features", "actions", "rewards")}
    cut = {name: values[:FRAMES] for name, values in found.items() if values is not None}
    return replace(episode, terminal=False, **cut)


def hashes(log: Path, settings: params.Params, folder: Path) -> Hashes:
    """Run the stages in this process and in this folder, training with each encoder; what they wrote."""
    log, made = log.resolve(), folder / "outs"
    dreams(log, made / "dreams", params.part(settings, params.DreamsStage))
    prepare(log, made / "dreams", folder / "prepared", settings.prepare)
    normalize(folder / "prepared", made / "normalized", made / "normalizer.json", settings.normalize)
    for encoder in ENCODERS:
        chosen = replace(settings, train=replace(settings.train, encoder=encoder))  # type: ignore[arg-type]
        trained, clock = made / encoder, folder / "timing.json"
        train(made / "normalized", made / "normalizer.json", trained, made / "plots" / encoder, clock, chosen.train)
        export(trained, made / "normalizer.json", made / "bundles" / encoder, params.part(chosen, params.ExportStage))
    return content_hashes({"outs": made})


def asked(log: Path, given: Path, command: Sequence[str]) -> Hashes:
    """What `hashes` answers in a process of its own, started with this before it.

    Raises ValueError where that process fails.
    """
    python = [*command, sys.executable, __file__, "--params", str(given), "--here", str(log)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TQDM_DISABLE": "1"}
    answered = run(python, env=environment, stdout=PIPE, check=False)
    if answered.returncode:
        raise ValueError(f"{' '.join(command) or 'here'}: ended with {answered.returncode}; what it said stands above")
    found: Hashes = json.loads(answered.stdout)
    return found


def table(found: dict[str, Hashes]) -> str:
    """A line for each file: the beginning of its hash by the first of them, and whether the others have the same."""
    first, *others = found.values()
    heads = ["file", *found]
    rows = [
        [path, digest[:12], *("same" if other.get(path) == digest else "differs" for other in others)]
        for path, digest in first.items()
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [[f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)] for row in (heads, *rows)]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=ROOT / "data/worldmodel/offline", help="folder of observed logs")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml", help="run with fewer steps and dreams")
    parser.add_argument(
        "--processors", default="Haswell-v1,EPYC-Milan-v1", help="as `qemu-x86_64 -cpu help` lists them"
    )
    parser.add_argument(
        "--here", type=Path, metavar="LOG", help="only print the hashes that this processor makes of it"
    )
    given = parser.parse_args(arguments)
    settings = small(params.check(read_yaml(given.params), given.params))
    with tempfile.TemporaryDirectory() as folder:
        if given.here:
            with redirect_stdout(sys.stderr):
                found = hashes(given.here, settings, Path(folder))
            print(json.dumps(found))
            return
        log = Path(folder, "log.jsonl")
        episodes = read_logs([given.logs], settings.prepare.max_gap_s).episodes[:EPISODES]
        write_jsonl(log, map(beginning, episodes))
        names = given.processors.split(",")
        commands: dict[str, list[str]] = {"here": []} | {name: ["qemu-x86_64", "-cpu", name] for name in names}
        with ThreadPoolExecutor() as pool:
            answers = pool.map(partial(asked, log, given.params), commands.values())
            compared = dict(zip(commands, answers, strict=True))
    print(table(compared))
    if any(each != compared["here"] for each in compared.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    stage.run(main)
