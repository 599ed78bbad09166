"""Parts of pages that are made at build time, so that they are never out of date.

    {verb} NAME              a verb's usage, arguments and example, from its own parser
    {findings} FILE NUMBERS  what a paper says and what was measured, from benchmarks/results
    {results} FILE [WORDS]   rows of a benchmark, from the same place
    {recipes} [FOLDER]       recipes that ship, with their claims
    {recipe-keys}            every key of a recipe
    {not-run}                commands of the pages that are not run when the site is built, and why
    {drawn} FILE             a picture that the page's own commands drew when they were run, with a caption

All but the last write Markdown, which is then parsed as if it stood in the page. A name that is not there is an error of the
build; where a picture is not there, as the commands were not run, a line says so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tools.pages import left_out, page_names

from striate.app.main import VERBS, verb_parser
from striate.app.recipe_files import shipped_recipes
from striate.app.recipe_keys import described_keys

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
DRAWN = RESULTS.parents[1] / "build" / "drawn"
_MACHINE = "amd-epyc-2-threads"
# Longer lists of choices stand beside the argument, not in it.
_WIDEST = 24


def escape(text: str) -> str:
    """Text as Markdown that shows it as it is."""
    marked = re.sub(r"([\\`*_<>\[\]|$~])", r"\\\1", text)
    # Two dashes would become one long one.
    return re.sub(r"(?<![\w-])(--[a-z][\w-]*)", r"`\1`", marked)


def table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    lines = [heading, tuple("---" for _ in heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace(chr(10), ' ') for cell in line)} |" for line in lines)


def verb_text(verb: str) -> str:
    """A verb's reference."""
    parser = verb_parser(verb)
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    rows = [_argument(parser, action) for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    return f"```text\n{usage}\n```\n\n" + table(("argument", "meaning"), rows)


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> tuple[str, str]:
    formatter = parser._get_formatter()
    choices = ", ".join(map(str, action.choices or ()))
    beside = bool(choices) and (action.metavar is not None or len(choices) > _WIDEST)
    name = ", ".join(f"{option} {_value(formatter, action, beside)}".strip() for option in action.option_strings)
    meaning = escape(formatter._expand_help(action)) if action.help else ""
    if beside:
        meaning = f"{meaning} (one of {choices})".strip()
    if action.required and action.option_strings:
        meaning = f"{meaning} (needed)".strip()
    return f"`{(name or _value(formatter, action, beside)).replace('|', '/')}`", meaning


def _value(formatter: argparse.HelpFormatter, action: argparse.Action, beside: bool) -> str:
    """What stands for an argument's value; its choices, unless those stand beside."""
    if action.nargs == 0:
        return ""
    if beside and action.metavar is None:
        return action.dest.upper()
    return formatter._format_args(action, action.dest.upper() if action.option_strings else action.dest)


def read_results(name: str) -> dict[str, Any]:
    """A file of benchmarks/results, without its ending."""
    return dict(json.loads((RESULTS / _MACHINE / f"{name}.json").read_text()))


def findings_text(name: str, numbers: list[str]) -> str:
    """Figures of a paper: what it says, what was measured, whether they agree."""
    found = {figure["figure"]: figure for figure in read_results(name)["figures"]}
    rows = []
    for number in numbers or list(found):
        figure = found[number]
        verdict = "agrees" if figure["agrees"] else "**does not agree**"
        rows.append((number, escape(figure["paper"]), escape(figure["ours"]), verdict))
    return table(("figure", "the paper", "here", ""), rows)


def results_text(name: str, words: str) -> str:
    """Rows of a benchmark whose measure holds some words."""
    rows = [row for row in read_results(name)["rows"] if words in row["measure"]]
    if not rows:
        raise ValueError(f"no row of {name} holds {words!r}")
    shown = [(escape(row["measure"]), f"{row['value']:g} {escape(row['unit'])}", escape(row["bar"])) for row in rows]
    return table(("measure", "value", "bar"), shown)


def recipes_text(folder: str) -> str:
    """Recipes that ship, each with the claim at its head."""
    rows = []
    for name, file in sorted(shipped_recipes().items()):
        if name.startswith(folder):
            head = re.match(r"(?:#.*\n)+", file.read_text())
            claim = re.search(r"# Claim: (.+(?:\n#   .+)*)", head.group() if head else "")
            rows.append((f"`{name}`", escape(re.sub(r"\n#\s+", " ", claim.group(1))) if claim else ""))
    return table(("recipe", "claim"), rows)


def keys_text() -> str:
    """Every key, group by group; a model's by its kind."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for key in described_keys():
        group = key.name.partition(".")[0] if "." in key.name else "the recipe itself"
        heading = f"{group}, for model.kind={key.kinds[0]}" if key.kinds else group
        default = f"`{key.default}`" if key.default else ""
        groups.setdefault(heading, []).append((f"`{key.name}`", escape(key.type), default, escape(key.meaning)))
    parts = (f"**{heading}**\n\n{table(('key', 'type', 'default', 'meaning'), rows)}" for heading, rows in groups.items())
    return "\n\n".join(parts)


class _Made(SphinxDirective, ABC):
    """A part of a page made of Markdown."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Parse what was made, in the place of the directive."""
        try:
            text = self.make(self.arguments[0] if self.arguments else "")
        except (KeyError, ValueError, OSError, ImportError) as error:
            raise self.error(f"{self.name}: {error!r}") from error
        return self.parse_text_to_nodes(text)

    @abstractmethod
    def make(self, argument: str) -> str:
        """Markdown for an argument."""


class _Verb(_Made):
    def make(self, argument: str) -> str:
        return verb_text(argument)


class _Verbs(_Made):
    def make(self, argument: str) -> str:
        return table(("verb", "what it does"), [(f"[`{verb}`]({verb}.md)", escape(what)) for verb, (_, what) in VERBS.items()])


class _Findings(_Made):
    def make(self, argument: str) -> str:
        name, *numbers = argument.split()
        return findings_text(name, numbers)


class _Results(_Made):
    def make(self, argument: str) -> str:
        name, _, words = argument.partition(" ")
        return results_text(name, words)


class _Recipes(_Made):
    def make(self, argument: str) -> str:
        return recipes_text(argument)


class _Keys(_Made):
    def make(self, argument: str) -> str:
        return keys_text()


class _NotRun(_Made):
    def make(self, argument: str) -> str:
        found = left_out(Path(self.env.srcdir), page_names(Path(self.env.srcdir)))
        firsts = (one.command.splitlines()[0].partition("  #")[0].strip() for _, one in found)
        rows = [(f"[{name}](/{name}.md)", f"`{first}`", escape(one.not_run or "")) for (name, one), first in zip(found, firsts)]
        return table(("page", "command", "why it is not run"), rows)


class _Drawn(SphinxDirective):
    """A picture that the commands of the page left in their folder; `tools/run.py` keeps it for the site."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """A figure, or a line in its place."""
        caption = " ".join(self.content)
        kept = Path(self.config.drawn_folder) / self.env.docname / self.arguments[0]
        if not kept.is_file():
            return [nodes.paragraph(text=f"({caption} It is there once `make docs` has run the commands above.)")]
        uri = os.path.relpath(kept, self.env.srcdir)
        return [nodes.figure("", nodes.image(uri=f"/{uri}", alt=caption), nodes.caption(text=caption))]


def _plain_properties(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Keep napoleon from taking what stands before a property's first colon for its type."""
    if what in ("property", "attribute") and lines:
        lines[0] = lines[0].replace(": ", " - ", 1)


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_config_value("drawn_folder", str(DRAWN), "env", str)
    # Before napoleon, which has the usual priority of 500.
    app.connect("autodoc-process-docstring", _plain_properties, priority=400)
    of_program = {"verb": _Verb, "verbs": _Verbs, "recipes": _Recipes, "recipe-keys": _Keys}
    of_results = {"findings": _Findings, "results": _Results}
    of_pages = {"not-run": _NotRun, "drawn": _Drawn}
    for name, directive in {**of_program, **of_results, **of_pages}.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
