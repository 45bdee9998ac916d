"""README and docs as their readers use them: blocks of commands and code, and what the tests do with each command.

A command is run as it stands, unless it is listed here: smaller, or elsewhere with the reason.
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "data/worldmodel/README.md"]
PAGES += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
SMALLER = {
    "worldmodel train --logs my-logs --out my-model --epochs 5 --rho 0.3": (
        "worldmodel train --logs my-logs --out my-model --epochs 1 --rho 0.3"
    ),
    "git merge other-branch": "git branch other-branch && git merge other-branch",
}
SERVER = "needs an S3 server: tests/test_remote.py, tests/test_moving.py and tests/test_registry.py start one"
NETWORK = "installs from the network, as CI does before it calls anything"
ELSEWHERE = {  # how a command begins: why it is not run here
    "make test": "it runs this",
    "make check": "CI runs it beside the tests (.ci/run)",
    "make pins": NETWORK,
    "make export-": f"{NETWORK}; tests/test_export_runs.py calls what it calls",
    "pip install -c": NETWORK,
    "source .venv": "the environment that make makes",
    "make reproduce": "a whole run: tests/test_reproduce.py",
    "make sweep": "several trainings: tests/test_sweep.py",
    "dvc exp run": "a training: tests/test_everywhere.py",
    "python examples/collect_gymnasium.py": "minutes in a simulator: tests/test_collect_gymnasium.py",
    "python examples/train_in_model.py": "minutes of training: tests/test_train_in_model.py",
    "worldmodel convert": "needs logs of other formats: tests/test_convert.py writes some",
    "worldmodel control": "needs a bundle of the simulator: tests/test_control.py makes one",
    "make bench": "minutes of timing",
    "make rho-study": "hours; its dry run is run here",
    "make explorer": "npm gets a library for it: tests/test_explorer.py",
    "make peers": "hours: tests/research/test_peers_table.py",
    "worldmodel check-logs s3://": "needs an S3 server: tests/test_docs.py starts one",
}


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: str, *languages: str) -> list[Block]:
    """Those of some languages, or all."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [Block(name or "text", body) for name, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)]
    return [block for block in found if not languages or block.language in languages]


def commands(page: str) -> list[str]:
    """What stands in blocks of bash, without comments, a line each."""
    lines = [line for block in blocks(page, "bash") for line in block.text.splitlines()]
    found = [re.sub(r"(^|\s)\s*# .*", "", line).strip() for line in lines]
    return [line for line in found if line]


def elsewhere(page: str, command: str) -> str | None:
    """Why the tests of pages do not run it; None: they do."""
    if page == "docs/s3.md":
        return SERVER
    if page == "docs/cluster.md":
        return (
            "needs a cluster: tests/test_jobs.py starts one; tests/test_training_processes.py, tests/test_run_stages.py"
        )
    if page == "docs/serve.md":
        return "asks a server: tests/test_serve.py starts one"
    return next((reason for start, reason in ELSEWHERE.items() if command.startswith(start)), None)
