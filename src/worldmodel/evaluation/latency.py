"""How long a call of the bundle takes: encode and predict, as `control` calls them."""

import time

import numpy as np

from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Windows
from worldmodel.client import WorldModel
from worldmodel.evaluation.scoring import predict_raw, raw_inputs

WARM_UP = 20  # calls that are not timed
BATCH = 64  # windows
BATCH_CALLS = 20


def measure(model: WorldModel, scaler: Scaler, held_out: Windows, calls: int) -> dict[str, float]:
    """Milliseconds of a single call (P50, P90) and of a batch of 64, and windows a second of the latter."""
    single, batch = (_seconds(model, scaler, held_out, size, n) for size, n in ((1, calls), (BATCH, BATCH_CALLS)))
    per_batch = float(np.median(batch))
    return {
        "latency_ms_p50": 1e3 * float(np.quantile(single, 0.5)),
        "latency_ms_p90": 1e3 * float(np.quantile(single, 0.9)),
        "ms_per_batch": 1e3 * per_batch,
        "samples_per_s": BATCH / per_batch,
    }


def _seconds(model: WorldModel, scaler: Scaler, held_out: Windows, size: int, calls: int) -> list[float]:
    spent = []
    for call in range(WARM_UP + calls):
        chosen = (np.arange(size) + call * size) % len(held_out)
        inputs = raw_inputs(held_out.take(chosen), scaler)
        begin = time.perf_counter()
        predict_raw(model, inputs)
        spent.append(time.perf_counter() - begin)
    return spent[WARM_UP:]
