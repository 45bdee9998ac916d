"""The exported model against the trained one, and what a clock said of both."""

from worldmodel.evaluation.latency import BATCH
from worldmodel.report.markup import Html, Section, code, join, missing, paragraph
from worldmodel.report.material import Material
from worldmodel.report.outputs import Outputs
from worldmodel.report.table import table
from worldmodel.report.wording import number

UNITS = {
    "latency_ms_p50": ("one call, encode and predict, median", "ms"),
    "latency_ms_p90": ("one call, encode and predict, 90th percentile", "ms"),
    "ms_per_batch": ("a batch of {batch} windows", "ms"),
    "samples_per_s": ("windows in batches", "a second"),
}
PARTS = {"train": "training", "inference": "the exported model"}


def timing(material: Material) -> Section:
    outputs = material.outputs
    if not outputs.timing:
        body = missing("artifacts/timing.json", "dvc repro --force --single-item train validate")
    else:
        body = join((_table(outputs), *_cached(outputs)))
    return Section("timing", "Export and time", join((_equality(outputs), body)))


def _equality(outputs: Outputs) -> Html:
    apart = outputs.metrics.get("onnx.max_abs_diff")
    if apart is None:
        return missing("The exported model against the trained one", "dvc repro validate")
    equal = "agree" if outputs.metrics.get("onnx.equivalent") else "DISAGREE"
    return paragraph(f"ONNX and torch {equal}: the largest difference is {number(apart, 1)} standardized units.")


def _table(outputs: Outputs) -> Html:
    batches = {"train": outputs.params.get("train.batch_size", "its"), "inference": BATCH}
    rows = [
        (PARTS[part], UNITS[key][0].format(batch=batches[part]), number(outputs.timing[part][key]), UNITS[key][1])
        for part in PARTS
        for key in UNITS
        if key in outputs.timing.get(part, {})
    ]
    return table("On the machine that ran it", ("of", "what", "value", "unit"), rows, (0, 1, 3))


def _cached(outputs: Outputs) -> list[Html]:
    """Where the result came from the cache, the clock ran for another one."""
    here = {"train": outputs.trained, "inference": outputs.bundle.name if outputs.bundle else None}
    return [
        paragraph(
            f"Of {PARTS[part]}: timed for ",
            code(told),
            ", while ",
            code(here[part]),
            " lies here (from the cache).",
            class_="note",
        )
        for part in PARTS
        if here[part] and (told := outputs.timing.get(part, {}).get("of")) not in (None, here[part])
    ]
