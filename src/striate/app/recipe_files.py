"""Where recipes are: those that ship with Striate by name, anybody's by path. (Completion lists them: nothing heavy here.)"""

from __future__ import annotations

import difflib
from pathlib import Path

from striate.errors import BadInput


def find_recipe(name: str | Path) -> Path:
    """A recipe's file, from a path or from the name of one that ships with Striate (`demo/patches`).

    Raises:
        BadInput: there is none; the nearest names are given.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    wanted = str(name).removesuffix(".yaml").removeprefix("recipes/")
    meant = [known for known in shipped if known == wanted] or [known for known in shipped if Path(known).name == wanted]
    if len(meant) == 1:
        return shipped[meant[0]]
    if meant:
        raise BadInput(f"{wanted!r} may be {', '.join(sorted(meant))}: give the whole name")
    nearest = difflib.get_close_matches(wanted, [*shipped, *(Path(known).name for known in shipped)], 1, 0.4)
    hint = f"did you mean {nearest[0]}?" if nearest else f"there are: {', '.join(sorted(shipped)) or 'none'}"
    raise BadInput(f"no recipe {str(name)!r}: {hint}")


def recipe_folders() -> list[Path]:
    """Where recipes ship: inside the installed package, or beside src in a checkout."""
    here = Path(__file__).resolve()
    return [folder for folder in (here.parents[1] / "recipes", here.parents[3] / "recipes") if folder.is_dir()]


def shipped_recipes() -> dict[str, Path]:
    """The files of the recipes that ship, by name."""
    return {str(file.relative_to(root).with_suffix("")): file for root in recipe_folders() for file in root.rglob("*.yaml")}
