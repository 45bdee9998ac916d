"""HTML that is well-formed XML too, and in which text from logs is only ever text."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

VOID = {"meta", "br"}


class Html(str):
    """Markup; any other text is escaped on its way into a tag."""

    __slots__ = ()


def html(content: object) -> Html:
    return content if isinstance(content, Html) else Html(escape(str(content)))


def join(parts: Iterable[object], between: str = "") -> Html:
    return Html(between.join(html(part) for part in parts))


def tag(tag_name: str, *content: object, **attributes: object) -> Html:
    """`class_` and `aria_label` are the attributes class and aria-label; those that are None are left out."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    head = "".join(f' {key}="{escape(str(value))}"' for key, value in given.items())
    if tag_name in VOID:
        return Html(f"<{tag_name}{head} />")
    return Html(f"<{tag_name}{head}>{join(content)}</{tag_name}>")


def paragraph(*content: object, class_: str | None = None) -> Html:
    return tag("p", *content, class_=class_)


def code(text: object) -> Html:
    return tag("code", text)


def name(text: object) -> Html:
    """Of something in the logs: it may be written from right to left, and be long."""
    return tag("bdi", text, class_="name")


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    body: Html


def missing(what: str, *commands: str) -> Html:
    """In the place of what cannot be shown: what it is, and what makes it."""
    ways = join((code(command) for command in commands), " or ")
    return paragraph(f"{what}: not here. It comes with ", ways, ".", class_="missing")
