"""Recipes: one small YAML file, typed and checked on load, composed of each room's settings.

`sizes:` lists what differs for small, gpu and paper; `key.sub=value` on the command line overrides anything. A mistyped key
is an error that names the nearest valid one. A new model kind is a group in `groups.py`, a
builder in `kinds/`, and a line in each one's registry.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from striate.app.groups import AugmentGroup as AugmentGroup
from striate.app.groups import AutoencoderGroup as AutoencoderGroup
from striate.app.groups import ClusterGroup as ClusterGroup
from striate.app.groups import ConvnetGroup as ConvnetGroup
from striate.app.groups import DataSettings as DataSettings
from striate.app.groups import EvalGroup as EvalGroup
from striate.app.groups import ExchangeGroup as ExchangeGroup
from striate.app.groups import ExponentialGroup as ExponentialGroup
from striate.app.groups import NetGroup as NetGroup
from striate.app.groups import PatchesGroup as PatchesGroup
from striate.app.groups import PlateauGroup as PlateauGroup
from striate.app.groups import PreprocessGroup as PreprocessGroup
from striate.app.groups import RBMGroup as RBMGroup
from striate.app.groups import StageGroup as StageGroup
from striate.app.groups import StartSettings as StartSettings
from striate.app.groups import Strict as Strict
from striate.app.groups import TrainGroup as TrainGroup
from striate.app.recipe_files import find_recipe as find_recipe
from striate.app.recipe_files import recipe_folders as recipe_folders
from striate.app.stage_groups import RecogniserGroup as RecogniserGroup
from striate.app.stage_groups import SparseGroup as SparseGroup
from striate.app.yaml import load_yaml, read_yaml
from striate.errors import BadInput


class Recipe(Strict):
    """A whole experiment."""

    name: str
    data: DataSettings = DataSettings()
    preprocess: PreprocessGroup = PreprocessGroup()
    model: RBMGroup | PatchesGroup | NetGroup | AutoencoderGroup | ConvnetGroup | SparseGroup | RecogniserGroup = Field(
        RBMGroup(), discriminator="kind"
    )
    augment: AugmentGroup = AugmentGroup()
    train: TrainGroup = TrainGroup()
    cluster: ClusterGroup = ClusterGroup()
    eval: EvalGroup = EvalGroup()
    seed: int = Field(0, ge=0)
    device: str = "auto"

    @model_validator(mode="before")
    @classmethod
    def _rbm_unless_said(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        model = raw.get("model")
        if isinstance(model, dict):
            raw = {**raw, "model": {"kind": "rbm", **model}}
        # Runs of earlier versions say so for one process.
        return {name: value for name, value in raw.items() if (name, value) != ("cluster", None)}


def load_recipe(file: Path, overrides: Sequence[str] = (), size: str | None = None) -> Recipe:
    """A recipe with the differences of one size and the overrides `key.sub=value` applied, in that order.

    Raises:
        BadInput: a key that is unknown (naming the nearest), doubled or of the wrong type, or a size it does not have.
    """
    raw = read_yaml(file)
    if not isinstance(raw, dict):
        raise BadInput(f"{file.name} holds no recipe: expected keys such as name, data, model, train")
    sizes = raw.pop("sizes", None) or {}
    if not isinstance(sizes, dict) or not all(isinstance(differences, dict) for differences in sizes.values()):
        raise BadInput(f"{file.name}: sizes must give for each size the keys that differ, found {sizes!r}")
    for name, differences in sizes.items():
        check_recipe(_merge(raw, differences), f"{file.name}, sizes.{name}")
    if size is not None:
        if size not in sizes:
            raise BadInput(f"{file.name} has no size {size!r}: it has {', '.join(map(str, sizes)) or 'one size only'}")
        raw = _merge(raw, sizes[size])
    for override in overrides:
        raw = _merge(raw, _parse_override(override))
    return check_recipe(raw, file.name)


def check_recipe(raw: dict[str, Any], where: str) -> Recipe:
    """Validate a mapping; errors become one line each."""
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise BadInput(f"{where}: " + "; ".join(_explain(dict(one)) for one in error.errors())) from None


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = _merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput(f"{text!r} is no override: expected key.sub=value, for example model.hidden=4000")
    nested: Any = load_yaml(value, text) if value else None
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return dict(nested)


def _explain(error: dict[str, Any]) -> str:
    location = [str(part) for part in error["loc"]]
    kind = None
    if location[0] == "model" and len(location) > 1 and location[1] in _MODELS:
        # The union puts the kind into the place of an error; people do not write it there.
        kind = location.pop(1)
    path = ".".join(location)
    if error["type"] == "extra_forbidden":
        known = sorted(_fields(location[:-1], kind))
        nearest = difflib.get_close_matches(location[-1], known, 1, 0.5)
        prefix = ".".join(location[:-1]) or "a recipe"
        hint = f"did you mean {'.'.join([*location[:-1], nearest[0]])}?" if nearest else f"{prefix} has: {', '.join(known)}"
        return f"unknown key {path}; {hint}"
    if error["type"] == "value_error":
        # Our own words, which say what was found.
        return f"{path}: {error['ctx']['error']}"
    return f"{path}: {error['msg'].lower()}, found {error['input']!r}"


def _fields(location: list[str], kind: str | None) -> set[str]:
    model: Any = Recipe
    for part in location:
        if part.isdigit():
            # A place in a list: its elements' keys are meant.
            continue
        annotation = model.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        inner = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
        model = _MODELS[kind] if kind is not None and part == "model" else inner
    return set(model.model_fields)


_MODELS: dict[str, type[BaseModel]] = {
    "rbm": RBMGroup,
    "patch-rbms": PatchesGroup,
    "net": NetGroup,
    "autoencoder": AutoencoderGroup,
    "convnet": ConvnetGroup,
    "sparse": SparseGroup,
    "recogniser": RecogniserGroup,
}
