"""Our own YAML loader: doubled keys refused, `yes`, `no`, `on` and `off` kept as text, 1e-4 read as a number, no aliases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from striate.errors import BadInput


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the rules of YAML 1.2 where 1.1 surprises."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not used in recipes", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_BOOLEAN, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOLEAN, _FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$|^[-+]?\.(?:inf|nan)$"),
    list("-+0123456789."),
)


def load_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    Raises:
        BadInput: it does not parse, with the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise BadInput(f"{where}, line {line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise BadInput(f"{where}: {error}") from None


def read_yaml(file: Path) -> Any:
    """The value of a YAML file.

    Raises:
        BadInput: it cannot be read or does not parse.
    """
    try:
        return load_yaml(file.read_text(), file.name)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from None


def dump_yaml(value: Any) -> str:
    """YAML that `load_yaml` reads back."""
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text
