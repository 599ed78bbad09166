"""The keys of recipes with their possible values, from the recipe's own types, kept in the user's cache.

Reading the types loads pydantic, a tenth of a second; a completion is to be faster than that, and the types change only with
the program.
"""

from __future__ import annotations

import contextlib
import json
import os
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
    from striate.app.recipe import Recipe

    schema = Recipe.model_json_schema()
    shared = {name: field for name, field in schema["properties"].items() if name != "model"}
    keys = {key: values for name, field in shared.items() for key, values in _walk(name, field, schema)}
    kinds = schema["properties"]["model"]["discriminator"]["mapping"]
    return {
        kind: {**keys, **dict(_walk("model", {"$ref": group}, schema)), "model.kind": list(kinds)}
        for kind, group in kinds.items()
    }


def _walk(key: str, field: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """A field's key and values, or those of the fields in it."""
    options = [_resolve(option, schema) for option in field.get("anyOf", [field])]
    inner = [(name, one) for option in options for name, one in option.get("properties", {}).items()]
    if inner:
        return [found for name, one in inner for found in _walk(f"{key}.{name}", one, schema)]
    return [(key, [value for option in options for value in _named(option)])]


def _resolve(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field


def _named(option: dict[str, Any]) -> list[str]:
    if option.get("type") == "boolean":
        return ["true", "false"]
    return [str(value) for value in option.get("enum", [option["const"]] if "const" in option else [])]
