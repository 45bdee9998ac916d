"""Where it all comes from: revision, run, hashes, versions."""

from collections.abc import Mapping
from typing import Any

from worldmodel.report.markup import Html, Section, code, join, missing, paragraph, tag
from worldmodel.report.material import Material
from worldmodel.report.table import facts, table


def provenance(material: Material) -> Section:
    parts = [_origin(material), _run(material), _stages(material.outputs.stages)]
    return Section("provenance", "Provenance", join(parts))


def _origin(material: Material) -> Html:
    outputs, manifest = material.outputs, material.outputs.manifest
    current = {None: "not known: DVC cannot be asked here", True: "yes", False: "no"}
    versions = manifest.get("exported", manifest).get("versions", {})
    pairs: list[tuple[str, object]] = [
        ("run-id", code(outputs.run_id or "not known")),
        ("git revision of this folder", code(material.revision or "not known")),
        ("dvc.lock belongs to its files", current[None if material.stale is None else not material.stale]),
    ]
    if manifest:
        pairs += [
            ("seed", manifest["arguments"]["seed"]),
            ("training code, sha256", code(manifest["code"])),
            ("scales, sha256", code(manifest["data"]["normalizer"])),
            ("libraries", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ]
    return facts(pairs)


def _run(material: Material) -> Html:
    record = material.outputs.run
    if record is None:
        return paragraph(
            "When and where the bundle was made is not known here: ",
            code("runs/"),
            " has no record of it, as when it was pulled or came from the cache.",
            class_="missing",
        )
    last = record["attempts"][-1]
    changed = "with changed files" if last["git"]["changed"] else "without changes"
    return paragraph(
        f"The bundle was exported on {last['host']}, {last['start']} to {last['end'] or 'unknown'}, from git revision ",
        code(last["git"]["revision"] or "none"),
        f" {changed}: ",
        code(last["command"]),
        f" (Python {last['python']}).",
    )


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> Html:
    if not stages:
        return missing("dvc.lock", "make repro")
    rows = [
        (code(out["path"]), stage, code(out.get("md5", "-")))
        for stage, entry in stages.items()
        for out in entry.get("outs", [])
    ]
    inputs = [
        (code(dep["path"]), code(dep.get("md5", "-")))
        for path, dep in sorted(
            {dep["path"]: dep for entry in stages.values() for dep in entry.get("deps", [])}.items()
        )
        if path.startswith("data/")
        and path not in {out["path"] for entry in stages.values() for out in entry.get("outs", [])}
    ]
    return tag(
        "div",
        table("Logs, by dvc.lock", ("path", "md5"), inputs, (0, 1)),
        table("Outs of the stages, by dvc.lock", ("path", "stage", "md5"), rows, (0, 1, 2)),
    )
