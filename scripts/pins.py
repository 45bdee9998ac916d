"""Write versions.yaml and constraints.txt anew, from what is installed (`make pins`).

requirements*.txt name what the project uses, constraints.txt also what those need in turn, versions.yaml what can
change a result; dvc.yaml says of which stages.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from worldmodel.core import errors as stage
from worldmodel.core.atomic import replacing
from worldmodel.core.versions import installed

REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")
TRACKED = "# What results were made with; dvc.yaml says which stages each can change. Written by `make pins`.\n"
ALL = (
    "# Every package that requirements*.txt bring along, for `pip install -c`. Written by `make pins`.\n"
    "# What torch needs for a GPU is not here: torch names those versions itself.\n"
)


def required(root: Path) -> list[Requirement]:
    """The lines of requirements*.txt."""
    lines = [line.strip() for name in REQUIREMENTS for line in (root / name).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if re.match(r"[A-Za-z]", line)]


def brought_along(roots: Iterable[Requirement]) -> dict[str, str]:
    """Canonical name -> installed version, of these packages and all that they need here."""
    found: dict[str, str] = {}
    waiting, seen = list(roots), set[tuple[str, str]]()
    while waiting:
        wanted = waiting.pop()
        for extra in ("", *wanted.extras):
            key = (canonicalize_name(wanted.name), extra)
            if key not in seen and _is_installed(wanted.name):
                seen.add(key)
                found[key[0]] = installed([wanted.name])[wanted.name]
                waiting.extend(_needs(wanted.name, extra))
    return dict(sorted(found.items()))


def _needs(name: str, extra: str) -> Iterator[Requirement]:
    for line in metadata.requires(name) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def tracked(root: Path) -> list[str]:
    """All libraries that some stage of dvc.yaml lists."""
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    files = [entry for each in stages for entry in each["params"] if isinstance(entry, dict)]
    return sorted({name for entry in files for name in entry["versions.yaml"]})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT)
    root: Path = parser.parse_args(arguments).root
    versions = "".join(f'{name}: "{version}"\n' for name, version in installed(tracked(root)).items())
    pins = "".join(f"{name}=={version}\n" for name, version in brought_along(required(root)).items())
    for name, text in {"versions.yaml": TRACKED + versions, "constraints.txt": ALL + pins}.items():
        with replacing(root / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
