"""Tables that scroll in a box of their own, however wide they are."""

from collections.abc import Collection, Iterable, Sequence

from worldmodel.report.markup import Html, join, tag


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]], words: Collection[int] = (0,)) -> Html:
    """The columns numbered `words` hold words, the others numbers; the first cell of a row is its heading."""
    head = tag("tr", *(tag("th", title, scope="col", class_=_kind(n, words)) for n, title in enumerate(header)))
    body = join(
        tag(
            "tr",
            *(
                tag("td" if n else "th", cell, scope=None if n else "row", class_=_kind(n, words))
                for n, cell in enumerate(row)
            ),
        )
        for row in rows
    )
    whole = tag("table", tag("thead", head), tag("tbody", body), aria_label=caption)
    box = tag("div", whole, class_="scroll", role="region", aria_label=caption, tabindex=0)
    return tag("div", tag("p", caption, class_="caption"), box, class_="table")


def _kind(column: int, words: Collection[int]) -> str | None:
    return None if column in words else "number"


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values, one under the other."""
    return tag("dl", *(tag("div", tag("dt", key), tag("dd", value)) for key, value in pairs), class_="facts")
