"""The model card that lies in every bundle."""

import math
from typing import Any

import numpy as np

from worldmodel.arrays.scaler import UNITS, Scaler
from worldmodel.core.params import ExportStage
from worldmodel.core.student_t import half_width
from worldmodel.core.text import markdown_cell
from worldmodel.model.artifact import Trained
from worldmodel.model.baselines import FLOORS

CARD = """# World model {run_id}

Predicts what an agent will see: `encoder.onnx` turns the last {history} frames into a latent `z` of {z_dim} numbers,
`predictor.onnx` turns `z` and {plan} into the frames to come, `step.onnx` goes on by one of them. It was trained to
predict {horizon} frames. Raw units in and out; {scalars}; dynamic batch.

| file | inputs | outputs |
|---|---|---|
| encoder.onnx | {encoder_inputs} | z [batch, {z_dim}] |
| predictor.onnx | {predictor_inputs} | {outputs} |
| step.onnx | {step_inputs} | z_next [batch, {z_dim}], {step_outputs} |{policy_files}

`std` is the standard deviation of each prediction, that of {distribution}: its 90 % intervals reach {reach:.3f} std
to either side. It is {spread}.
`disagreement` grows where a plan leaves the logs, in standard deviations of the observed train frames.{ending}
{missing}
{policy}{actions}{context}{columns}
## Use

```python
from worldmodel.client import WorldModel

model = WorldModel.load("{run_id}")
z = model.encode({encode_call})
future = model.predict({predict_call})
```

## What it is for

Comparing plans of about {horizon} frames before one is carried out: planning, control, what-if questions, for agents as
in its logs. `std` says how far to trust a prediction. It is no safeguard: what must never happen needs its own check.

## What it learned from

- {observed} observed and {dream} dreamed windows to draw from, of {features} features{action_count} a frame.
  Dreams by `{source}`.
- Split by {split_by}: {val_share:.0%} validation, {test_share:.0%} test. Neither was trained on or dreamed from, and
  scales are those of observed train episodes.
- Trained for {steps} steps of {batch_size} windows; {share:.1%} of what was drawn were dreams ({schedule} rho,
  ending at {rho:g}).
- Encoder {encoder}, seed {seed}. Weights of step {step} were kept: {choice}.
- `manifest.yaml` has all arguments, hashes of data and code, and library versions; `params.yaml` the params.

## How good it is

{selection}{gain}
What it does on test episodes, and whether it is to be trusted, is measured after this card is written. It is in
`artifacts/metrics.json` (`verdict`) and `artifacts/plots/verdict.csv` of the commit that this finds in the project:

```bash
git log --reverse --format=%h -S {run_id} -- artifacts/timing.json
```

## Limits

It knows the agents, the actions and the sampling interval of its logs{interval}, and no others. Errors grow along the
horizon, and more so beyond {horizon} frames. States and actions that the logs hardly show are predicted worse than
`std` may tell: `disagreement` is large there.
"""


def model_card(run_id: str, trained: Trained, scaler: Scaler, settings: ExportStage) -> str:
    shape, manifest, train = trained.model.shape, trained.manifest, settings.train
    degrees = trained.model.degrees
    widths = {"actions": scaler.actions.width, "context": scaler.context.width}
    ahead = {name: width for name, width in widths.items() if width}
    past = {name: f"{name} [batch, {shape.history - 1}, {width}]" for name, width in ahead.items() if shape.history > 1}
    plan = {name: f"{name} [batch, K, {width}]" for name, width in ahead.items()}
    now = {name: f"{ONE[name]} [batch, {width}]" for name, width in ahead.items()}
    features, has_policy = scaler.features.width, trained.policy is not None
    told = {"disagreement": True, "reward": shape.rewards, "termination": shape.terminals}

    def outputs(frames: str) -> str:
        by_feature = [f"{name} [batch, {frames}{features}]" for name in ("features", "std")]
        axes = ", ".join(["batch", *frames.split(", ")[:-1]])
        return ", ".join([*by_feature, *(f"{name} [{axes}]" for name, there in told.items() if there)])

    spread, choice, selection = SELECTED if manifest["windows"]["val"] else UNSELECTED
    return CARD.format(
        run_id=run_id,
        history=shape.history,
        horizon=shape.horizon,
        z_dim=shape.z_dim,
        scalars="float32" if scaler.features.center.dtype == np.float32 else "float32, but features float64",
        plan=PLANS[" ".join(ahead)],
        encoder_inputs=", ".join([f"features [batch, {shape.history}, {features}]", *past.values()]),
        predictor_inputs=", ".join([f"z [batch, {shape.z_dim}]", *plan.values()]),
        outputs=outputs("K, " if ahead else f"{shape.horizon}, ") + f", z_next [batch, {shape.z_dim}]" * has_policy,
        step_inputs=", ".join([f"z [batch, {shape.z_dim}]", *now.values()]),
        step_outputs=outputs(""),
        policy_files=POLICY_FILES.format(z_dim=shape.z_dim, actions=widths["actions"]) if has_policy else "",
        policy=POLICY if has_policy else "",
        ending=ENDING if shape.terminals else "",
        actions=ACTIONS[manifest["action_kind"]],
        missing=MASKED if shape.masked else WHOLE,
        context=CONTEXT if widths["context"] else "",
        columns=_columns(manifest.get("columns", {})),
        interval=f" ({manifest['interval_s']:g} s)" if "interval_s" in manifest else "",
        encode_call=", ".join(["features", *map(CALLS.__getitem__, past)]),
        predict_call=", ".join(["z", *map(AHEAD.__getitem__, plan)]),
        steps=train.steps,
        batch_size=train.batch_size,
        observed=manifest["windows"]["observed"],
        dream=manifest["windows"]["dream"],
        share=trained.dream_share,
        schedule=train.rho_schedule,
        rho=train.rho,
        encoder=train.encoder,
        seed=train.seed,
        step=manifest["selected"]["step"],
        distribution=f"a Student's t with {degrees:g} degrees of freedom" if degrees < math.inf else "a normal",
        reach=half_width(degrees),
        spread=spread,
        choice=choice,
        selection=selection.format(unit=UNITS[scaler.method], **manifest["selected"]),
        gain=_gain(manifest["selected"]),
        features=features,
        action_count="".join(f" and {width} {COUNTED[name]}" for name, width in ahead.items()),
        source=settings.dreams.source,
        split_by=settings.prepare.split_by,
        val_share=settings.prepare.val_share,
        test_share=settings.prepare.test_share,
    )


def _gain(selected: dict[str, Any]) -> str:
    """What training is worth on val windows beside the floors, as far as it is known."""
    error, floors = selected["val_mse"], selected.get("floors") or {}
    if error is None:
        return ""
    best = min(floors, key=floors.__getitem__, default="linear")
    told = ", ".join(f"{FLOORS[name]} {floor:.4g}" for name, floor in sorted(floors.items(), key=lambda item: item[1]))
    beside = f" On the same windows: {told}." if told else ""
    if (best in floors and error >= floors[best]) or not (floors or selected["step"]):
        return f"{beside}\n**Training improved nothing: use {FLOORS[best]}.**"
    if selected["step"] == 0:
        return f"{beside}\n**Training improved nothing: the model is its start, the best floor of each feature.**"
    return beside


def _columns(columns: dict[str, list[dict[str, str]]]) -> str:
    """A table for each part of which something is known."""
    titles = {"features": "feature", "actions": "action", "context": "context"}
    tables = []
    for part, title in titles.items():
        if part in columns:
            rows = [
                f"| {number} | {markdown_cell(each['name'])} | {markdown_cell(each['unit'])} | {each['kind']} |"
                for number, each in enumerate(columns[part])
            ]
            tables.append("\n".join(["", f"| {title} | name | unit | kind |", "|---|---|---|---|", *rows, ""]))
    return "".join(tables)


PLANS = {
    "": "nothing else",
    "actions": "K planned actions",
    "context": "the context of K frames",
    "actions context": "K planned actions, each with its context,",
}
POLICY_FILES = (
    "\n| prior.onnx | z [batch, {z_dim}] | action [batch, {actions}] |"
    "\n| value.onnx | z [batch, {z_dim}] | value [batch] |"
)
POLICY = (
    "`prior.onnx` is what a policy does at a `z` that was trained in the model alone, and `value.onnx` what it\n"
    "expects to earn from there on, which helps a planner. Neither was ever tried in the world.\n"
)
ONE = {"actions": "action", "context": "context"}
ENDING = (
    "\n`termination` is the probability that the task ends with a frame, given that it has not ended before: what\n"
    "comes after an ending is worth nothing."
)
CALLS = {"actions": "actions", "context": "context=context"}
AHEAD = {"actions": "plan", "context": "context=context_ahead"}
COUNTED = {"actions": "actions", "context": "numbers of context"}
WHOLE = "Every reading must be there: NaN is refused."
MASKED = "A reading may be missing: give NaN, or a masked array of numpy."
CONTEXT = "`context` is known ahead: that of a frame stands where the action stands that is applied there.\n"

SELECTED = (
    "scaled so that these held 90 % of the validation windows, and more where such episodes are few",
    "they do best on the validation windows",
    "Mean squared error on validation windows, in {unit} of the observed train frames: {val_mse:.4g}, the one they\n"
    "were chosen by.",
)
UNSELECTED = (
    "as trained, for there was no validation episode to scale it on",
    "the last ones, for there was no validation episode to choose on",
    "There was no validation episode to measure it on.",
)

ACTIONS = {
    "none": "",
    "continuous": "An action leads from its frame to the next; the first planned one is applied at the last frame.\n",
    "discrete": "Actions are one-hot. An action leads from its frame to the next; the first planned one is\n"
    "applied at the last frame.\n",
}
