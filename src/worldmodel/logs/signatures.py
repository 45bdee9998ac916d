"""Which signature the rows of a data set have in common, and which rows deviate from it."""

from collections.abc import Iterator
from dataclasses import replace

from worldmodel.logs.frame_batch import FrameBatch, Rows, Signature
from worldmodel.logs.rows import Row


def votes_of(rows: Rows) -> Iterator[tuple[bool, Signature, int]]:
    """Whether dreamed, signature, number of frames."""
    if isinstance(rows, FrameBatch):
        dreams = sum(label.source == "dream" for label in rows.labels)
        counts = {True: dreams, False: len(rows) - dreams}
        yield from ((dream, rows.signature, count) for dream, count in counts.items() if count)
        return
    for row in rows:
        if row.frame is not None:
            yield row.meta.get("source") == "dream", Signature.of(row.frame), 1


def conform(row: Row, signature: Signature) -> Row:
    """The row, refused where its frame deviates from the signature; one that only lacks something may be a last one."""
    if row.frame is None or row.reason or Signature.of(row.frame) == signature:
        return row
    own = Signature.of(row.frame)
    same_action = own[1:3] in (("none", 0), signature[1:3])
    if same_action and own.features == signature.features and own.reward <= signature.reward:
        return replace(row, unless_last=unlike(own, signature))
    return replace(row, reason=unlike(own, signature))


def unlike(own: Signature, signature: Signature) -> str:
    """In what they differ."""
    fields = [
        (f"features: found {own.features} numbers", f"{signature.features}", own.features != signature.features),
        (f"action: found {_action_text(own)}", _action_text(signature), own[1:3] != signature[1:3]),
        (f"reward: found {_reward_text(own)}", _reward_text(signature), own.reward != signature.reward),
    ]
    return "; ".join(f"{what}, expected {expected} as in most rows" for what, expected, differs in fields if differs)


def _action_text(signature: Signature) -> str:
    return {"none": "none", "discrete": "an integer", "continuous": f"{signature.action} numbers"}[signature.kind]


def _reward_text(signature: Signature) -> str:
    return "one" if signature.reward else "none"
