"""The model card that lies in every bundle."""

from worldmodel.core.params import ExportStage
from worldmodel.model.artifact import Trained

CARD = """# World model {run_id}

Predicts what an agent will see: `encoder.onnx` turns the last {history} frames into a latent `z` of {z_dim} numbers,
`predictor.onnx` turns `z` and {plan} into the next {horizon} frames. Raw units in and out; float32; dynamic batch.

| file | inputs | outputs |
|---|---|---|
| encoder.onnx | {encoder_inputs} | z [batch, {z_dim}] |
| predictor.onnx | {predictor_inputs} | {outputs} |

`std` is the standard deviation of each prediction, {spread}.
{actions}
## Use

```python
from worldmodel.client import WorldModel

model = WorldModel.load("{run_id}")
z = model.encode({encode_call})
future = model.predict({predict_call})
```

## What it is for

Comparing plans of up to {horizon} frames before one is carried out: planning, control, what-if questions, for agents as
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

{selection}
What it does on test episodes, beside holding the last frame and ridge, is measured after this card is written. It is in
`artifacts/metrics.json` of the commit that this finds in the project:

```bash
git log --reverse --format=%h -S {run_id} -- artifacts/timing.json
```

## Limits

It knows the agents, the actions and the sampling interval of its logs, and no others. Errors grow along the horizon.
States and actions that the logs hardly show are predicted worse than `std` may tell.
"""


def model_card(run_id: str, trained: Trained, settings: ExportStage) -> str:
    shape, manifest, train = trained.model.shape, trained.manifest, settings.train
    past = f"actions [batch, {shape.history - 1}, {shape.actions}]" if shape.actions and shape.history > 1 else ""
    plan = f"actions [batch, {shape.horizon}, {shape.actions}]" if shape.actions else ""
    frames = f"[batch, {shape.horizon}, {shape.features}]"
    reward = f", reward [batch, {shape.horizon}]" if shape.rewards else ""
    spread, choice, selection = SELECTED if manifest["windows"]["val"] else UNSELECTED
    return CARD.format(
        run_id=run_id,
        history=shape.history,
        horizon=shape.horizon,
        z_dim=shape.z_dim,
        plan=f"{shape.horizon} planned actions" if plan else "nothing else",
        encoder_inputs=", ".join(filter(None, [f"features [batch, {shape.history}, {shape.features}]", past])),
        predictor_inputs=", ".join(filter(None, [f"z [batch, {shape.z_dim}]", plan])),
        outputs=f"features {frames}, std {frames}{reward}",
        actions=ACTIONS[manifest["action_kind"]],
        encode_call="features, actions" if past else "features",
        predict_call="z, plan" if plan else "z",
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
        spread=spread,
        choice=choice,
        selection=selection.format(**manifest["selected"]),
        features=shape.features,
        action_count=f" and {shape.actions} actions" if shape.actions else "",
        source=settings.dreams.source,
        split_by=settings.prepare.split_by,
        val_share=settings.prepare.val_share,
        test_share=settings.prepare.test_share,
    )


SELECTED = (
    "scaled so that 90 % intervals held 90 % of the validation windows",
    "they do best on the validation windows",
    "Mean squared error on validation windows, in standardized units: {val_mse:.4g}, the one they were chosen by.",
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
