"""All that the page is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worldmodel.ci.fresh import stale
from worldmodel.ci.revisions import git
from worldmodel.report import dreamed, latents, scored
from worldmodel.report.dreamed import Dreamed
from worldmodel.report.latents import Latents
from worldmodel.report.outputs import Outputs, read_outputs
from worldmodel.report.scored import Scored


@dataclass(frozen=True)
class Material:
    outputs: Outputs
    scored: Scored | None
    latents: Latents | None
    dreamed: Dreamed | None
    stale: Mapping[str, Sequence[str]] | None  # stage -> what has changed since; None where DVC cannot tell
    revision: str | None  # of git


def gather() -> Material:
    """Of the folder that this runs in; raises ValueError where its parts do not belong together."""
    outputs = read_outputs()
    on_test = scored.score_bundle(outputs)
    shape = outputs.manifest.get("shape", {})
    beside = dreamed.compare(outputs.data, shape["history"]) if outputs.data and shape else None
    return Material(
        outputs, on_test, latents.project(on_test) if on_test else None, beside, _stale(), git("rev-parse", "HEAD")
    )


def _stale() -> Mapping[str, Sequence[str]] | None:
    try:
        return stale()
    except (ValueError, OSError):
        return None
