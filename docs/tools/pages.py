"""The commands that a page shows, and what it says about each.

A page whose first lines hold `<!-- commands: run -->` has its ```console and ```python blocks run, in order, in an empty
folder; with `<!-- commands: run after NAME -->` in a copy of the folder that page NAME left. In console blocks lines after `$ `
are commands (`> ` goes on with one), others what they print; `...` stands for anything, alone on a line for any lines. Blocks
of Python share one interpreter a page; a comment behind a `print(...)` is what it prints. Before a block,
`<!-- not run: REASON -->` leaves it out, and `<!-- until stopped -->` says that its command ends by Ctrl-C alone.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from striate.app.main import VERBS, verb_parser

_FENCE = re.compile(
    r"(?:<!-- (?P<mark>not run: .+?|until stopped) -->\n+)?^```(?P<kind>console|python)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PRINTED = re.compile(r"^ *print\(.*\)  # (.+)$", re.MULTILINE)
_DRAWN = re.compile(r"^```\{drawn\} (\S+)", re.MULTILINE)
_RUN = re.compile(r"<!-- commands: run(?: after (?P<after>[\w/-]+))? -->")
# Commands in plain blocks, indented or fenced.
_PLAIN = re.compile(r"^(?:    )?(striate .+)$", re.MULTILINE)
_INLINE = re.compile(r"`(striate [^`\n]+)`")


@dataclass(frozen=True)
class Shown:
    """One command of a page, or one block of Python.

    Args:
        command: as typed, continued lines joined.
        output: the lines that the page quotes below it.
        line: of the page, from 1.
        not_run: why it is not, or None.
        until_stopped: whether it runs until somebody presses Ctrl-C.
        python: whether it is a block of Python.
    """

    command: str
    output: tuple[str, ...] = ()
    line: int = 0
    not_run: str | None = None
    until_stopped: bool = False
    python: bool = False

    def pattern(self) -> re.Pattern[str]:
        """What the output must hold, whitespace aside."""
        lines = [r"(?:.*\n)*?" if line == "..." else _escape(line) + r"\n" for line in self.output]
        return re.compile(r"^" + "".join(lines), re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """A page's commands, and where they are run: nowhere, in an empty folder (`after` is None), or after another page's.

    Args:
        drawn: lines and names of the pictures that it shows, which its commands leave in their folder.
    """

    path: Path
    runs: bool
    after: str | None
    shown: tuple[Shown, ...]
    drawn: tuple[tuple[int, str], ...] = ()


def read_page(path: Path) -> Page:
    """The commands in a page's console blocks, and its blocks of Python."""
    text = path.read_text()
    run = _RUN.search(text)
    shown = tuple(one for block in _FENCE.finditer(text) for one in _commands(block, text))
    drawn = tuple((text[: one.start()].count("\n") + 1, one.group(1)) for one in _DRAWN.finditer(text))
    return Page(path, run is not None, run.group("after") if run else None, shown, drawn)


def _commands(block: re.Match[str], text: str) -> list[Shown]:
    mark = block.group("mark") or ""
    not_run = mark.partition("not run: ")[2] or None
    first = text[: block.start("text")].count("\n") + 1
    if block.group("kind") == "python":
        return [Shown(block.group("text"), tuple(_PRINTED.findall(block.group("text"))), first, not_run, python=True)]
    found: list[Shown] = []
    for number, line in enumerate(block.group("text").splitlines(), first):
        if line.startswith("$ "):
            found.append(Shown(line[2:], (), number, not_run, mark == "until stopped"))
        elif not found:
            raise ValueError(f"{number}: a console block begins with `$ `, found {line!r}")
        else:
            last = found.pop()
            continued = line.startswith("> ") and not last.output
            # A line that ends in a backslash goes on; others are lines of a here-document.
            joined = last.command.removesuffix("\\") if last.command.endswith("\\") else f"{last.command}\n"
            command = joined + line[2:] if continued else last.command
            output = last.output if continued else (*last.output, line)
            found.append(Shown(command, output, last.line, not_run, last.until_stopped))
    return found


def _escape(line: str) -> str:
    """A line as an expression: `...` is anything, runs of blanks are one."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in line.split("...")]
    return r"[ \t]*" + ".*?".join(parts) + r"[ \t]*"


def page_names(docs: Path) -> list[str]:
    """The names of all pages, as `tutorial` or `verbs/probe`."""
    return [str(file.relative_to(docs).with_suffix("")) for file in sorted(docs.rglob("*.md"))]


def left_out(docs: Path, names: list[str]) -> list[tuple[str, Shown]]:
    """What pages show and nobody runs, with the name of its page."""
    shown = ((name, one) for name in names for one in read_page(docs / f"{name}.md").shown)
    return [(name, one) for name, one in shown if one.not_run is not None]


def other_commands(path: Path) -> list[str]:
    """The `striate` lines of plain blocks."""
    return [found.group(1) for found in _PLAIN.finditer(path.read_text())]


def inline_commands(path: Path) -> list[str]:
    """Commands, often only their beginning, in the middle of a sentence."""
    return [found.group(1) for found in _INLINE.finditer(path.read_text())]


def striate_calls(command: str) -> list[list[str]]:
    """The words after `striate` of every call in a line of shell: where it is the command, or what `timeout` runs."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>\n")
    lexer.whitespace_split = True
    lexer.whitespace = " \t"
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;<>\n"):
            parts.append([])
        else:
            parts[-1].append(word)
    return [part[part.index("striate") + 1 :] for part in parts if "striate" in part and part[0] in ("striate", "timeout")]


def complaint(words: list[str]) -> str | None:
    """What the program's own parser says against a call, or None. (Words in capitals stand for something: `striate VERB`.)"""
    verb, *arguments = words or [""]
    if verb.isupper() or verb.startswith("-"):
        return None
    if verb not in VERBS:
        return f"no verb {verb!r}"
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            verb_parser(verb).parse_intermixed_args(arguments)
    except SystemExit as stop:
        return said.getvalue().strip() if stop.code else None
    return None
