"""YAML with numbers as YAML 1.2 has them, and no key twice; PyYAML reads 1.1 and takes the last of two."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run from the project's folder, or name it with --params")
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds {type(found).__name__}, expected sections such as `train:`")
    return found


def parse(text: str) -> Any:
    """Raises yaml.YAMLError."""
    return yaml.load(text, _Yaml12Floats)


class _Yaml12Floats(yaml.SafeLoader):
    """PyYAML takes 1e-05 (what `dvc exp run -S train.lr=0.00001` writes) for text, and the last of two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in (key for key in keys if keys.count(key) > 1):
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Yaml12Floats.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml12Floats.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.\d+|\d+\.\d*)([eE][-+]?\d+)?$|[-+]?\d+[eE][-+]?\d+$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def leaves(values: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted name and value of whatever is no mapping."""
    if not isinstance(values, Mapping):
        return [(prefix[:-1], values)] if prefix else []
    return [leaf for key, value in values.items() for leaf in leaves(value, f"{prefix}{key}.")]
