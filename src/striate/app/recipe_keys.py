"""The keys of recipes with their possible values, from the recipe's own types, kept in the user's cache.

Reading the types loads pydantic, a tenth of a second; a completion is to be faster than that, and the types change only with
the program.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate import __version__


def recipe_keys(kind: str | None = None) -> dict[str, list[str]]:
    """Dotted keys of a recipe for one kind of model (None: of all), each with its values where those can be listed."""
    known = _cached()
    wanted = known[kind] if kind in known else {key: values for keys in known.values() for key, values in keys.items()}
    return dict(sorted(wanted.items()))


def _cached() -> dict[str, dict[str, list[str]]]:
    file = _cache_file()
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(file.read_text()))
    keys = _keys_by_kind()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(keys))
        temporary.replace(file)
    return keys


def _cache_file() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "striate"
    changed = max((Path(__file__).parent / name).stat().st_mtime_ns for name in ("groups.py", "recipe.py", "recipe_keys.py"))
    return folder / f"keys-{__version__}-{changed}.json"


def _keys_by_kind() -> dict[str, dict[str, list[str]]]:
    keys = [key for key in described_keys() if "[" not in key.name]
    kinds = [kind for key in keys if key.name == "model.kind" for kind in key.values]
    return {kind: {key.name: list(key.values) for key in keys if kind in (key.kinds or kinds)} for kind in kinds}


@dataclass(frozen=True)
class Key:
    """One key of a recipe.

    Args:
        name: dotted; `[]` stands for any place in a list.
        kinds: of models that have it; empty: a recipe of any.
        values: what it may be, where that can be listed.
        type: in words.
        default: as YAML has it; empty: none.
        meaning: in a sentence, or nothing where the name says it.
    """

    name: str
    kinds: tuple[str, ...]
    values: tuple[str, ...]
    type: str
    default: str
    meaning: str


def described_keys() -> list[Key]:
    """Every key, from the JSON Schema that editors read."""
    from striate.app.recipe import Recipe

    schema = Recipe.model_json_schema()
    fields = schema["properties"]
    found = [key for name, field in fields.items() if name != "model" for key in _walk(name, field, (), schema)]
    kinds = fields["model"]["discriminator"]["mapping"]
    found.append(Key("model.kind", (), tuple(kinds), "word", "rbm", "what is trained: " + ", ".join(kinds)))
    for kind, group in kinds.items():
        found += [key for key in _walk("model", {"$ref": group}, (kind,), schema) if key.name != "model.kind"]
    return found


def _walk(name: str, field: dict[str, Any], kinds: tuple[str, ...], schema: dict[str, Any]) -> list[Key]:
    """A field as a key, or the fields in it."""
    options = [_resolve(option, schema) for option in field.get("anyOf", [field])]
    inner = [(f"{name}.{sub}", one) for option in options for sub, one in option.get("properties", {}).items()]
    listed = [_resolve(option["items"], schema) for option in options if "$ref" in option.get("items", {})]
    inner += [(f"{name}[].{sub}", one) for option in listed for sub, one in option.get("properties", {}).items()]
    if inner:
        return [key for sub, one in inner for key in _walk(sub, one, kinds, schema)]
    values = tuple(value for option in options for value in _named(option))
    types = " or ".join(dict.fromkeys(_type(option) for option in options))
    default = json.dumps(field["default"]).strip('"') if "default" in field else ""
    return [Key(name, kinds, values, types, default, field.get("description", ""))]


def _resolve(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return dict(schema["$defs"][field["$ref"].rpartition("/")[2]]) if "$ref" in field else field


def _named(option: dict[str, Any]) -> list[str]:
    if option.get("type") == "boolean":
        return ["true", "false"]
    return [str(value) for value in option.get("enum", [option["const"]] if "const" in option else [])]


_WORDS = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "word", "null": "null"}


def _type(option: dict[str, Any]) -> str:
    if "enum" in option or "const" in option:
        return ", ".join(_named(option))
    if option.get("format") == "path":
        return "path"
    if option.get("type") == "array":
        return "list"
    return _WORDS.get(option.get("type", ""), "mapping")
