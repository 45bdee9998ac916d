"""What was trained on what."""

from collections import Counter

from worldmodel.arrays.windows import Packed
from worldmodel.report.markup import Html, Section, code, join, missing, name, paragraph
from worldmodel.report.material import Material
from worldmodel.report.outputs import Outputs
from worldmodel.report.table import facts, table
from worldmodel.report.wording import count, counted, percent

SHOWN = 40  # agents in the table
KINDS = (("train", "observed"), ("val", "observed"), ("test", "observed"), ("train", "dream"))


def data(material: Material) -> Section:
    outputs = material.outputs
    packed = outputs.data.packed if outputs.data else None
    logged = _agents(packed) if packed else missing("Episodes by agent (packed arrays)", "dvc pull", "make data")
    return Section("data", "What was trained on what", join((_model(outputs), logged)))


def _model(outputs: Outputs) -> Html:
    manifest = outputs.manifest
    if not manifest:
        return missing("The trained model", "dvc pull", "make repro")
    shape, given, windows = manifest["shape"], manifest["arguments"], manifest["windows"]
    drawn = given["steps"] * given["batch_size"]
    actions = f"{manifest['action_kind']}, {counted(shape['actions'], 'number')}" if shape["actions"] else "none"
    return facts(
        [
            ("run-id", code(outputs.run_id)),
            ("model", f"{shape['encoder']} encoder, z of {shape['z_dim']} numbers, {shape['hidden_dim']} hidden units"),
            ("sees", f"{counted(shape['history'], 'frame')} of {counted(shape['features'], 'feature')}"),
            ("predicts", f"{counted(shape['horizon'], 'frame')}" + (" and rewards" if shape["rewards"] else "")),
            ("actions", actions),
            ("windows to draw from", f"{count(windows['observed'])} observed, {count(windows['dream'])} dreamed"),
            ("drawn", f"{count(drawn)}: {counted(given['steps'], 'step')} of {count(given['batch_size'])}"),
            ("of these dreamed", percent(manifest["dreams_drawn"] / drawn)),
            ("chosen on", f"{count(windows['val'])} val windows"),
        ]
    )


def _agents(packed: Packed) -> Html:
    labels = packed.labels
    episodes = Counter(zip(labels.agents, labels.splits, labels.sources, strict=True))
    frames = Counter[tuple[str, str]]()
    for split, source, length in zip(labels.splits, labels.sources, packed.lengths.tolist(), strict=True):
        frames[split, source] += length
    whole = Counter(labels.agents)
    rows = [(name(agent), *(count(episodes[agent, *kind]) for kind in KINDS)) for agent in sorted(whole)[:SHOWN]]
    if len(whole) > SHOWN:
        rest = sorted(whole)[SHOWN:]
        sums = (count(sum(episodes[agent, *kind] for agent in rest)) for kind in KINDS)
        rows.append((f"{count(len(rest))} more", *sums))
    totals = (sum(episodes[agent, *kind] for agent in whole) for kind in KINDS)
    rows.append(("all episodes", *(count(total) for total in totals)))
    rows.append(("all frames", *(count(frames[kind]) for kind in KINDS)))
    note = (
        "Scales, floors, dreams and model are fitted on train episodes; weights are chosen on val episodes; errors are "
        "of test episodes."
    )
    header = ("agent", "train", "val", "test", "dreams (train)")
    return join((table("Episodes by agent", header, rows), paragraph(note, class_="note")))
