"""What all who train one model must have alike, and how it is said where they do not."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Mapping

import torch

import striate
from striate.app.build import open_store
from striate.app.recipe import Recipe
from striate.errors import BadInput


def facts(recipe: Recipe) -> dict[str, str]:
    """Versions, the recipe and the pictures; paths and devices are each machine's own."""
    asked = recipe.model_dump(mode="json", exclude={"device": True, "data": {"store"}, "cluster": True})
    return {
        "version of striate": striate.__version__,
        "version of torch": torch.__version__.partition("+")[0],
        "recipe": hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12],
        "store of pictures": open_store(recipe).digest[:12],
    }


def check_here(recipe: Recipe, driver: Mapping[str, str]) -> None:
    """Hold this machine to what the driver has.

    Raises:
        BadInput: naming this machine, and the first thing that differs.
    """
    here = socket.gethostname()
    try:
        own = facts(recipe)
    except BadInput as error:
        raise BadInput(f"on {here}: {error}; replicas read the pictures at the path that data.store names") from None
    for name, theirs in driver.items():
        if own[name] != theirs:
            what = "copy the store there" if name.startswith("store") else "install the same on all machines"
            raise BadInput(f"on {here} the {name} is {own[name]}, where the run was started {theirs}: {what}")
