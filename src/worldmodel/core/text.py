"""Text of users, logs and branches as terminals, tables and pages may show it: never as what they run."""

import re

MOST = 300  # characters of a name or a sentence in Markdown
# Control characters, line ends, marks that turn the direction of writing, lone surrogates.
_UNSHOWABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
# Where a spreadsheet, whatever it takes for the end of a cell, may find a formula.
_FORMULA = re.compile(r"(^|[;\t])(?='*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])")
_QUOTED_FORMULA = re.compile(r"(^|[;\t])'(?='*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])")
_PLAIN_CELL = re.compile(r"(?!.*www\.)[\w .,=()%+±-]*")  # www. would become a link


def escaped(text: str, keep: str = "") -> str:
    r"""On one line, with what a terminal would obey as \x1b, \n or \u202e; characters of `keep` stay."""
    return _UNSHOWABLE.sub(lambda found: found[0] if found[0] in keep else _code_point(found[0]), text)


def _code_point(character: str) -> str:
    return character.encode("unicode_escape").decode()


def csv_label(text: str) -> str:
    """The text, where neither a spreadsheet nor a page that holds the CSV file can take it for a formula or a tag.

    Most names stay as they are; `from_csv_label` gives back the others.
    """
    if _NUMBER.fullmatch(text):
        return text
    return _FORMULA.sub(r"\1'", re.sub("&(?=(?:amp;)*lt;)", "&amp;", text).replace("<", "&lt;"))


def from_csv_label(text: str) -> str:
    return re.sub("&amp;(?=(?:amp;)*lt;)", "&", re.sub("&lt;", "<", _QUOTED_FORMULA.sub(r"\1", text)))


def in_markdown_code(text: str) -> str:
    """The text for between two backticks, in a cell of a table too."""
    short = text if len(text) <= MOST else f"{text[:MOST]}..."
    return escaped(re.sub(r"\s", " ", short)).replace("`", "'").replace("|", r"\|")


def markdown_cell(text: str) -> str:
    """The text as a cell of a table: as code, where Markdown could take it for anything but text."""
    return text if _PLAIN_CELL.fullmatch(text) else f"`{in_markdown_code(text)}`"
