"""A text in a Markdown file, between two markers that find it again."""

from pathlib import Path

from worldmodel.core.atomic import replacing


def write_between_markers(path: Path, text: str, name: str) -> None:
    """In place of what stands between <!-- name:begin --> and <!-- name:end -->; a file without them gets both."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    block = f"{begin}\n\n{text}\n\n{end}"
    if begin in before and end in before:
        head, rest = before.split(begin, 1)
        page = head + block + rest.split(end, 1)[1]
    else:
        page = f"{before.rstrip()}\n\n{block}\n".lstrip()
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
