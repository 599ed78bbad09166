"""What the tab key may mean: verbs, options, recipes, their keys and values, and the runs and stores around.

The shells' scripts (`striate completion SHELL`) run `python -P -m striate.app.completion SHELL WORD ...`, the last word being
the one under the cursor. It answers a candidate a line, and nothing where file names are wanted: shells complete those by
themselves. It imports nothing heavy, and fails in silence: a message in the middle of a command line helps nobody.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from striate.app.main import VERBS, verb_parser
from striate.app.recipe_files import shipped_recipes

# Folders looked at for runs and stores: a person waits, perhaps on a network's disk.
_MOST_FOLDERS = 1000
_DEPTH = 2
# Arguments whose metavar does not say what they are.
_MEANINGS = {"store": "STORE", "test": "STORE", "positives": "STORE", "negatives": "STORE", "init": "RUN", "recipe": "RECIPE"}


def complete(words: Sequence[str]) -> list[str]:
    """Candidates for the last of the words that follow `striate`."""
    *before, current = words or [""]
    if not before:
        return _beginning(current, [*VERBS, "--help", "--version"] if current.startswith("-") else VERBS)
    verb, *before = before
    if verb not in VERBS:
        return []
    parser = verb_parser(verb)
    option, equals, value = current.partition("=")
    if current.startswith("--") and equals:
        action = _option(parser, option)
        return [f"{option}={found}" for found in _values(action, value, before)] if action else []
    if before and (action := _option(parser, before[-1])) and action.nargs != 0:
        return _values(action, current, before)
    if current.startswith("-"):
        return _beginning(current, _options_left(parser, before))
    action = _positional(parser, before)
    return _values(action, current, before) if action else []


def _option(parser: argparse.ArgumentParser, word: str) -> argparse.Action | None:
    return parser._option_string_actions.get(word)


def _options_left(parser: argparse.ArgumentParser, before: Sequence[str]) -> list[str]:
    """Options that were not given yet, or may be given again."""
    given = {word.partition("=")[0] for word in before}
    return [
        name
        for action in parser._actions
        if isinstance(action, argparse._AppendAction) or not given.intersection(action.option_strings)
        for name in action.option_strings
        if name.startswith("--")
    ]


def _positional(parser: argparse.ArgumentParser, before: Sequence[str]) -> argparse.Action | None:
    """The argument without a name that comes next; the last of them if it takes any number."""
    given = 0
    words = iter(before)
    for word in words:
        if word.startswith("-"):
            action = _option(parser, word)
            if action and action.nargs != 0:
                next(words, None)
        else:
            given += 1
    takers = parser._get_positional_actions()
    for action in takers:
        if action.nargs in ("*", "+") or given == 0:
            return action
        given -= 1
    return None


def _values(action: argparse.Action, current: str, before: Sequence[str]) -> list[str]:
    if action.choices is not None:
        return _beginning(current, map(str, action.choices))
    meaning = action.metavar if isinstance(action.metavar, str) else _MEANINGS.get(action.dest, "")
    found: list[str] = []
    for word, finder in _FINDERS.items():
        if re.search(rf"\b{word}S?\b", meaning):
            found += finder(current, before)
    return found


def _beginning(current: str, candidates: Iterable[str]) -> list[str]:
    return [name for name in candidates if name.startswith(current)]


def _recipes(current: str, before: Sequence[str]) -> list[str]:
    return _beginning(current, sorted(shipped_recipes())) + _files(current, ".yaml")


def _files(current: str, suffix: str) -> list[str]:
    """Files of one kind in the folder of what is typed; folders, to go on into, are left to the shell."""
    typed = _folder_of(current)
    with contextlib.suppress(OSError):
        return _beginning(current, sorted(typed + file.name for file in _path(typed).iterdir() if file.suffix == suffix))
    return []


def _stores(current: str, before: Sequence[str]) -> list[str]:
    return _folders(current, ("store.json",))


def _runs(current: str, before: Sequence[str]) -> list[str]:
    return _folders(current, ("run.json", "encoder.safetensors"))


def _folders(current: str, marks: Sequence[str]) -> list[str]:
    """Folders that hold one of some files, from the folder of what is typed on, two deep."""
    typed = _folder_of(current)
    start = _path(typed)
    found = (folder for folder in _walk(start, _DEPTH) if any((folder / mark).exists() for mark in marks))
    return [
        name for name in _beginning(current, (f"{typed}{folder.relative_to(start)}" for folder in found)) if "\n" not in name
    ]


def _folder_of(typed: str) -> str:
    """What was typed up to its last slash: candidates begin with it, letter by letter."""
    return typed[: typed.rfind("/") + 1]


def _path(typed: str) -> Path:
    return Path(typed).expanduser()


def _walk(start: Path, depth: int) -> Iterator[Path]:
    """Folders below one, level by level, hidden ones left out; so many at most."""
    level, left = [start], _MOST_FOLDERS
    for _ in range(depth):
        below: list[Path] = []
        for folder in level:
            with contextlib.suppress(OSError):
                below += sorted(inner for inner in folder.iterdir() if inner.name[0] != "." and inner.is_dir())
        yield from below[:left]
        level, left = below[:left], left - len(below[:left])


def _keys(current: str, before: Sequence[str]) -> list[str]:
    """Keys of recipes, `model.hidden=`, or what may stand behind the equals sign."""
    from striate.app.recipe_keys import recipe_keys

    keys = recipe_keys(_kind(before))
    name, equals, value = current.partition("=")
    if not equals:
        return _beginning(current, (f"{key}=" for key in keys))
    values = _beginning(value, keys.get(name, []))
    if name == "data.store":
        values += _stores(value, before)
    elif name in ("model.below", "model.init"):
        values += _runs(value, before)
    return [f"{name}={one}" for one in values]


def _kind(before: Sequence[str]) -> str | None:
    """The kind of model that the recipe among the words trains, as far as a glance tells."""
    for word in before:
        if word.startswith("model.kind="):
            return word.partition("=")[2]
    shipped = shipped_recipes()
    for word in before:
        file = shipped.get(word) or (Path(word) if word.endswith(".yaml") else None)
        if file is not None and file.is_file():
            model = re.search(r"^model:.*(\n +.*)*", file.read_text(errors="replace"), re.MULTILINE)
            kind = re.search(r"\bkind: *([\w-]+)", model.group()) if model else None
            return kind.group(1) if kind else "rbm"
    return None


def _papers(current: str, before: Sequence[str]) -> list[str]:
    return _beginning(current, ["krizhevsky2009", "krizhevsky2012", "le2012"])


def _benchmarks(current: str, before: Sequence[str]) -> list[str]:
    from striate.app.commands.bench import NAMES

    return _beginning(current, NAMES)


_FINDERS: dict[str, Callable[[str, Sequence[str]], list[str]]] = {
    "RECIPE": _recipes,
    "KEY=VALUE": _keys,
    "RUN": _runs,
    "STORE": _stores,
    "PAPER": _papers,
    "NAME": _benchmarks,
}


def main(arguments: Sequence[str]) -> None:
    """Answer a shell: its name, then the words; bash sends the line as it stands."""
    shell, *words = arguments
    if shell == "bash":
        words = split_line(words[0])
    found = complete(words)
    if shell == "bash":
        # bash takes the equals sign and the colon for ends of words, and replaces only what is behind the last of them.
        kept = max(words[-1].rfind("="), words[-1].rfind(":")) + 1
        found = [_quoted(name[kept:]) for name in found]
    sys.stdout.write("".join(f"{name}\n" for name in found))


def _quoted(name: str) -> str:
    """As a shell reads it; a home folder stays one."""
    home, slash, rest = name.partition("/") if name.startswith("~") else ("", "", name)
    return home + slash + (shlex.quote(rest) if rest else "")


def split_line(line: str) -> list[str]:
    """The words after `striate` of a line cut at the cursor; an open quote is taken as closed there."""
    for closing in ("", "'", '"'):
        with contextlib.suppress(ValueError):
            words = shlex.split(line + closing)
            return [*words[1:], ""] if not closing and line[-1:].isspace() else words[1:]
    return [""]


if __name__ == "__main__":
    # Also what argparse says on its way out.
    with contextlib.suppress(Exception, SystemExit):
        main(sys.argv[1:])
