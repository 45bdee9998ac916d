"""Library versions that results were made with, as versions.yaml has them: DVC reruns what a new one changes.

A stage that ran with others would be recorded as made with these.
"""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from worldmodel.core.yaml12 import read_yaml

VERSIONS = Path("versions.yaml")  # of the project, whose folder stages run in


def installed(libraries: Sequence[str]) -> dict[str, str]:
    """Without local parts such as +cpu."""
    return {name: metadata.version(name).split("+")[0] for name in libraries}


def require(libraries: Sequence[str], tracked: Path = VERSIONS) -> None:
    """Raises ValueError where other versions are installed than are tracked."""
    expected, found = read_yaml(tracked), installed(libraries)
    wrong = [
        f"{name} {version} (expected {expected.get(name)})"
        for name, version in found.items()
        if version != expected.get(name)
    ]
    if wrong:
        raise ValueError(
            f"{tracked}: found {', '.join(wrong)}; "
            "`pip install -r requirements.txt -c constraints.txt` installs what is expected; "
            "to move on to others, put them into requirements.txt and run `make pins`"
        )
