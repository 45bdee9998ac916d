"""README and docs as their readers use them: blocks of commands and code, and what a test does with each command.

A command is run as it stands, unless it is listed here: smaller, or not at all, with the reason.
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "data/worldmodel/README.md"]
PAGES += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
LANGUAGES = {"bash", "python", "json", "jsonl", "mermaid", "text"}

SLEPT = "while dvc queue status | grep -qE 'Queued|Running'; do sleep 1; done"
INSTEAD = {  # what takes long here, or asks, or needs something to be there before
    "dvc exp run --queue -S 'train.rho=0,0.7'": "dvc exp run --queue -S train.rho=0.3",
    "dvc queue start -j 1": f"dvc queue start -j 1 && {SLEPT}",
    'make sweep S="train.rho=0,0.3,0.7 train.seed=0,1,2" JOBS=2': (
        "git restore . && dvc checkout --quiet && worldmodel sweep train.rho=0.3 --poll 1"
    ),
    "dvc exp run -S dreams.source=simulator -S dreams.simulator=simulators.mine:run -S dreams.episodes=1000": (
        "dvc exp run -S dreams.source=simulator -S dreams.simulator=simulators.mine:run -S dreams.episodes=9"
    ),
    "python examples/collect_gymnasium.py Walker2d-v5 --episodes 96 --out my-logs/walker.jsonl.gz": (
        "python examples/collect_gymnasium.py Walker2d-v5 --episodes 1 --out my-logs/walker.jsonl.gz"
    ),
    "python examples/collect_gymnasium.py HalfCheetah-v5 --episodes 272 "
    "--out data/worldmodel/offline/halfcheetah.jsonl.gz": (
        "python examples/collect_gymnasium.py HalfCheetah-v5 --episodes 1 --out my-logs/halfcheetah.jsonl.gz"
    ),
    "worldmodel check-logs s3://lake/logs": (
        "AWS_ENDPOINT_URL=http://minio.example:9000 AWS_RESPONSE_CHECKSUM_VALIDATION=when_required "
        "worldmodel check-logs s3://lake/logs"
    ),
    'dvc repro && git add . && git commit -m "What changed"': (
        "sed -i 's/latency_calls: 3/latency_calls: 4/' params.yaml && "
        'dvc repro && git add . && git commit -m "What changed"'
    ),
    "dvc gc --all-branches --all-tags --all-experiments --cloud": (
        "dvc gc --all-branches --all-tags --all-experiments --cloud --force"
    ),
    "git merge other-branch": (
        'git add . && git commit --quiet -m "Logs from a bucket" && git branch other-branch && git merge other-branch'
    ),
}
NOT_RUN = {
    "make test": "it is what runs this",
    "make check": "a minute; CI runs it beside the tests (.ci/run)",
    "make reproduce": "a whole run; tests/test_reproduce.py has one",
    "make pins": "installs from the network",
    "make bench": "minutes of timing; tests/test_bench.py calls it",
    "make bench-logs": "minutes of timing",
    "make rho-study": "hours; tests/test_rho_study.py has a small one",
    "make peers LOGS=my-logs": "hours; tests/test_peers_table.py has a small one",
    "make export-mlflow": "brings its libraries from the network; tests/test_export_runs.py",
    "make export-tensorboard": "brings its libraries from the network; tests/test_export_runs.py",
    "dvc exp run -S dreams.source=simulator -S dreams.episodes=1000": (
        "needs the sample's logs; tests/test_simulate_gymnasium.py"
    ),
}


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(name or "text", body) for name, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)]


def commands(block: Block) -> list[str]:
    """Without comments, a line each."""
    lines = block.text.replace("\\\n", " ").splitlines()
    found = [re.sub(r"(^|\s)\s*# .*", "", line).strip() for line in lines]
    return [line for line in found if line]


def script(page: str, block: Block) -> str:
    """What a test runs of a block of commands; what README takes from a page of docs is run there."""
    left_out = NOT_RUN.keys() | (_shown_in_docs() if page == "README.md" else set())
    return "\n".join(INSTEAD.get(command, command) for command in commands(block) if command not in left_out)


def _shown_in_docs() -> set[str]:
    found = [block for page in PAGES if page.startswith("docs/") for block in blocks(page) if block.language == "bash"]
    return {command for block in found for command in commands(block)}
