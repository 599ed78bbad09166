"""Our own YAML loader: doubled keys refused, `yes`, `no`, `on` and `off` kept as text, 1e-4 read as a number, no aliases.

Numbers are YAML 1.2's: 010 is not eight, and 1:30 is not ninety.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
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
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_BOOLEAN, _FLOAT, _INT = (f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOLEAN, _FLOAT, _INT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$|^[-+]?\.(?:inf|nan)$"),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))


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
        raise BadInput(f"{where}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise BadInput(f"{where}: nested deeper than any recipe") from None


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
