"""What is wrong in params.yaml, in words: single keys, and pairs of keys that cannot work together."""

import difflib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from worldmodel.core.yaml12 import cut

if TYPE_CHECKING:
    from worldmodel.core.params import Params


MOST = 20  # mistakes that a message lists


def of_keys(error: ValidationError, known: Sequence[str]) -> Iterator[str]:
    """Key, what was found and what was expected; `known`: the dotted names of all keys."""
    found = error.errors()
    yield from (_of_key(item, known) for item in found[:MOST])
    if len(found) > MOST:
        yield f"and {len(found) - MOST} more"


def of_pairs(whole: "Params", dreams_given: bool) -> list[str]:
    """What a later stage would fail for, or pass over in silence: both keys with their values, and what to do."""
    train, found = whole.train, []
    asked = train.rho if train.rho_schedule == "constant" else max(train.rho, train.rho_start or 0)
    if train.rho_schedule == "constant" and train.rho_start not in (None, train.rho):
        found.append(
            f"train.rho_start is {train.rho_start:g}, and train.rho_schedule constant, which has no start; "
            "make train.rho_start null, or train.rho_schedule linear or cosine"
        )
    if train.rho_schedule != "constant" and train.rho_start is None:
        found.append(
            f"train.rho_start is null, and train.rho_schedule {train.rho_schedule}; give it a share from 0 to 1"
        )
    if asked > 0 and not (whole.dreams.episodes or dreams_given):
        found.append(
            f"dreams.episodes is 0 and train.rho{'' if train.rho else '_start'} {asked:g}, a share of dreams that are "
            "not there; raise dreams.episodes, or set train.rho to 0 (and train.rho_start to null or 0)"
        )
    window = train.history + train.horizon
    if whole.prepare.split_by == "time" and whole.prepare.margin < window:
        found.append(
            f"prepare.split_by is time and prepare.margin {whole.prepare.margin}, less than a window (train.history + "
            f"train.horizon = {window} frames): train and val would share moments; raise prepare.margin to {window}"
        )
    length, step = whole.prepare.max_length_s, whole.prepare.resample_s
    if length is not None and step is not None and length <= train.history * step:
        found.append(
            f"prepare.max_length_s is {length:g} and prepare.resample_s {step:g}, which makes episodes of at most "
            f"train.history ({train.history}) frames, too short for a window; raise prepare.max_length_s above "
            f"{train.history * step:g}"
        )
    if train.contrastive_weight > 0 and train.batch_size == 1:
        found.append(
            f"train.contrastive_weight is {train.contrastive_weight:g} and train.batch_size 1, which leaves no other "
            "window to tell one from; raise train.batch_size, or set train.contrastive_weight to 0"
        )
    return found


def _of_key(item: Any, known: Sequence[str]) -> str:
    key = cut(".".join(str(part) for part in item["loc"]))
    if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        near = difflib.get_close_matches(key, known, n=1)
        return f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    if item["type"] in ("missing", "missing_argument"):
        return f"{key}: missing"
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{key}: found {cut(repr(item['input']))}, {message}" if key in known else f"{key}: {message}"
