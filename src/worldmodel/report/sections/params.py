"""Every param, by section of params.yaml."""

from itertools import groupby

from worldmodel.report.markup import Html, Section, code, missing, tag
from worldmodel.report.material import Material
from worldmodel.report.table import table


def params(material: Material) -> Section:
    found = material.outputs.params
    groups = groupby(found.items(), lambda item: item[0].partition(".")[0])
    parts = [_group(title, [(key, str(value)) for key, value in items]) for title, items in groups]
    body = tag("div", *parts, class_="columns") if parts else missing("params.yaml", "git checkout params.yaml")
    return Section("params", "Params", body)


def _group(title: str, items: list[tuple[str, str]]) -> Html:
    rows = [(code(key.partition(".")[2] or key), value) for key, value in items]
    return table(title, ("key", "value"), rows, (0, 1))
