"""Commands that pages show: found, parsed by the program itself, run, and held against what pages quote."""

from __future__ import annotations

import ast
import importlib
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from tools.commands import Differs, Session, compare, run, run_until_stopped
from tools.pages import Shown, complaint, inline_commands, left_out, other_commands, page_names, read_page, striate_calls
from tools.run import DOCS, Workspace, in_words, pages_to_run

from striate.app.main import VERBS, verb_parser

PAGES = [*sorted(DOCS.rglob("*.md")), DOCS.parent / "README.md"]


def _name(path: Path) -> str:
    return path.relative_to(DOCS.parent).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_every_command_on_a_page_is_one_that_the_program_takes(path: Path) -> None:
    """Parsed by the verb's own parser, run or not; lines with brackets or bars describe a grammar and are passed over."""
    blocks = [shown.command for shown in read_page(path).shown]
    blocks += [line for line in other_commands(path) if not set("[|") & set(line)]
    for words in (words for command in blocks for words in striate_calls(command.partition(" #")[0])):
        assert complaint(words) is None, words


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_every_command_in_a_sentence_names_a_verb_and_options_that_there_are(path: Path) -> None:
    """Such commands are often only a beginning, so that verb and options alone can be held against the program."""
    for verb, *words in (words for command in inline_commands(path) for words in striate_calls(command)):
        if verb.isupper() or verb.startswith("-"):
            continue
        assert verb in VERBS, verb
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert set(options) <= set(verb_parser(verb)._option_string_actions), (verb, options)


def test_every_verb_has_a_page_with_its_arguments_and_a_command() -> None:
    for verb in VERBS:
        path = DOCS / "verbs" / f"{verb}.md"
        page = read_page(path)
        assert f"```{{verb}} {verb}\n" in path.read_text()
        assert any(words[0] == verb for shown in page.shown for words in striate_calls(shown.command)), verb


def test_pages_that_run_stand_on_pages_that_run() -> None:
    runs = pages_to_run()
    assert "tutorial" in runs
    for name in runs:
        page = read_page(DOCS / f"{name}.md")
        assert page.shown and (page.after is None or page.after in runs), name


def test_what_is_not_run_says_why() -> None:
    """Pages that are not run carry the reason at each block. Commands outside of blocks could not; lines of grammar may."""
    for path in sorted(DOCS.rglob("*.md")):
        page = read_page(path)
        assert page.runs or all(shown.not_run for shown in page.shown), _name(path)
        assert [line for line in other_commands(path) if not set("[|.") & set(line)] == [], _name(path)


def test_what_is_left_out_is_listed_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    found = [(name, one.line, one.command, one.not_run) for name, one in left_out(tmp_path, page_names(tmp_path))]
    assert found == [("page", 13, "third", "hours"), ("page", 23, "print(1)\n", "a GPU")]
    assert in_words(read_page(tmp_path / "page.md").shown) == "3 commands, 1 of Python"


PAGE = """# A page
<!-- commands: run after verbs/other -->
```console
$ first one \\
>   goes on
> and on
it says
...
$ second
```
<!-- not run: hours -->
```console
$ third
```

<!-- until stopped -->
```console
$ fourth
ready
```
<!-- not run: a GPU -->
```python
print(1)
```
```python
x = 2  # no quote
for one in (3, 4):
    print(one)  # 3
print(x + 3, "(a)")  # 5 (...)
```
```text
$ no command
```
```{drawn} figures/a.png
A caption.
```
"""
BLOCK = """x = 2  # no quote
for one in (3, 4):
    print(one)  # 3
print(x + 3, "(a)")  # 5 (...)
"""


def test_commands_and_quotes_are_found_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    page = read_page(path)
    assert (page.runs, page.after) == (True, "verbs/other")
    assert page.shown == (
        Shown("first one   goes on\nand on", ("it says", "..."), 4),
        Shown("second", (), 9),
        Shown("third", (), 13, not_run="hours"),
        Shown("fourth", ("ready",), 18, until_stopped=True),
        Shown("print(1)\n", (), 23, not_run="a GPU", python=True),
        Shown(BLOCK, ("3", "5 (...)"), 26, python=True),
    )
    assert page.drawn == ((34, "figures/a.png"),)
    path.write_text("```console\nno prompt\n```\n")
    with pytest.raises(ValueError, match="2: a console block begins"):
        read_page(path)


@pytest.mark.parametrize(
    ("quoted", "printed", "agrees"),
    [
        (["a 1"], "a 1\n", True),
        (["a 1"], "x\n  a    1  \ny\n", True),
        (["a 1"], "a 12\n", False),
        (["a 1"], "ba 1\n", False),
        (["a ... c"], "a b c\n", True),
        (["a ... c"], "a b\nc\n", False),
        (["a", "...", "c"], "a\nb\nb\nc\n", True),
        (["a", "...", "c"], "a\nc\n", True),
        (["a", "c"], "a\nb\nc\n", False),
        (["c", "...", "a"], "a\nc\n", False),
        (["(x) [y] 1.5"], "(x) [y] 1.5\n", True),
        (["1.5"], "105\n", False),
    ],
)
def test_quotes_agree_with_output(quoted: list[str], printed: str, agrees: bool) -> None:
    """Whole lines in their order, blanks aside; dots stand for anything within a line, or for any lines."""
    if agrees:
        compare(Shown("x", tuple(quoted)), printed)
    else:
        with pytest.raises(Differs, match="should print"):
            compare(Shown("x", tuple(quoted)), printed)


def test_a_next_command_that_is_none_differs() -> None:
    compare(Shown("x"), "next: striate info pictures\nnext, on your own pictures: striate learn FOLDER\n")
    with pytest.raises(Differs, match=r"(?s)names as next `striate info --no-such x`.*unrecognized arguments: --no-such"):
        compare(Shown("x"), "next: striate info --no-such x\n")


def test_calls_are_found_in_a_line_of_shell() -> None:
    line = "cd x && striate info 'my store' --json | head -1; echo striate; striate doctor >out"
    assert striate_calls(line) == [["info", "my store", "--json"], ["doctor"]]
    assert striate_calls("timeout -s INT 9 striate resume runs/a; python -c 'import striate'") == [["resume", "runs/a"]]


def test_a_failing_command_differs_and_a_pipe_hides_nothing(tmp_path: Path) -> None:
    assert run(Shown("echo ~; pwd"), tmp_path, Path("/a/home")) == f"/a/home\n{tmp_path}\n"
    with pytest.raises(Differs, match="exit code 3"):
        run(Shown("(echo said; exit 3) | cat"), tmp_path, tmp_path)


def test_a_command_that_runs_until_stopped_is_stopped_once_it_has_said_what_is_quoted(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "serve.py").write_text(
        "import time\nprint('ready', flush=True)\n"
        "try:\n    time.sleep(50)\nexcept KeyboardInterrupt:\n    raise SystemExit(130)\n"
    )
    started = time.monotonic()
    # As in the background of a script.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, previous))
    assert run_until_stopped(Shown(f"{sys.executable} serve.py", ("ready",)), tmp_path, tmp_path) == "ready\n"
    assert time.monotonic() - started < 40
    with pytest.raises(Differs, match="exit code 0"):
        run_until_stopped(Shown("echo other", ("ready",)), tmp_path, tmp_path)


def test_blocks_of_python_share_names_and_are_held_against_what_they_print(tmp_path: Path) -> None:
    session = Session(tmp_path, Path("/a/home"))

    def said(code: str, *quoted: str) -> str:
        return session.run(Shown(code, quoted, python=True))

    assert said("import os\nx = 2\nprint(os.getcwd(), os.path.expanduser('~'))") == f"{tmp_path} /a/home\n"
    assert said("os.system('echo not among the answers')\nprint(x)", "2") == "2\n"
    with pytest.raises(Differs, match=r"(?s)should print\n3\nand printed\n2"):
        said("print(x)", "3")
    with pytest.raises(Differs, match=r"(?s)NameError: name 'y'"):
        said("x = 7\ny")
    assert said("print(x)") == "7\n"
    with pytest.raises(Differs, match="exit code 3"):
        said("os._exit(3)")
    session.end()
    Session(tmp_path, tmp_path).end()


def test_pages_at_once_wait_for_the_page_they_stand_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two pages that need one another to be running at the same time, and a third that both stand on, which is run once."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "root" / "home").mkdir(parents=True)
    (docs / "z.md").write_text("<!-- commands: run -->\n```console\n$ sleep 0.2; echo 1 >> file\n```\n")
    for mine, other in ("ab", "ba"):
        meet = (
            f"touch ~/{mine}; for i in $(seq 100); do test -e ~/{other} && break; sleep 0.1; done; cat file; test -e ~/{other}"
        )
        (docs / f"{mine}.md").write_text(f"<!-- commands: run after z -->\n```console\n$ {meet}\n1\n```\n")
    workspace = Workspace(tmp_path / "root", docs)
    workspace.run_all(["a", "b", "z"], at_once=2)
    assert workspace.differences == [] and sorted(workspace.folders) == ["a", "b", "z"]
    assert (workspace.folders["a"] / "file").read_text() == "1\n"


def test_pictures_that_a_page_shows_are_kept_for_the_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = tmp_path / "docs"
    (docs / "verbs").mkdir(parents=True)
    (tmp_path / "root" / "home").mkdir(parents=True)
    shown = "".join(f"```{{drawn}} {name}\nA caption.\n```\n" for name in ("out/a.png", "out/b.png"))
    commands = "```console\n$ mkdir out && echo drawn > out/a.png\n```\n"
    (docs / "verbs" / "draw.md").write_text(f"<!-- commands: run -->\n{commands}{shown}")
    workspace = Workspace(tmp_path / "root", docs, drawn=tmp_path / "drawn")
    workspace.run("verbs/draw")
    assert (tmp_path / "drawn" / "verbs" / "draw" / "out" / "a.png").read_text() == "drawn\n"
    assert workspace.differences == ["verbs/draw.md, line 8: no command drew out/b.png"]


def test_a_page_is_run_once_in_a_copy_of_what_it_stands_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "first.md").write_text("<!-- commands: run -->\n```console\n$ echo 1 >> file\n```\n")
    (docs / "second.md").write_text("<!-- commands: run after first -->\n```console\n$ cat file\n1\n$ echo 2 >> file\n```\n")
    (docs / "third.md").write_text("<!-- commands: run after first -->\n```console\n$ cat file\n2\n```\n")
    (tmp_path / "root" / "home").mkdir(parents=True)
    workspace = Workspace(tmp_path / "root", docs)
    assert (workspace.run("second") / "file").read_text() == "1\n2\n"
    workspace.run("third")
    assert (workspace.run("first") / "file").read_text() == "1\n"
    assert len(workspace.differences) == 1 and workspace.differences[0].startswith("third.md, line 3: `cat file` should print")


def test_a_command_that_stands_for_itself_is_run_on_the_real_program(tmp_path: Path) -> None:
    (tmp_path / "root" / "home").mkdir(parents=True)
    workspace = Workspace(tmp_path / "root")
    workspace.run("verbs/completion")
    assert workspace.differences == []


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_python_on_pages_is_python_and_imports_what_there_is(path: Path) -> None:
    """Parsed, and its imports of this package looked up; blocks that only show a session's text are not marked as Python."""
    for block in re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "striate":
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "striate":
                assert hasattr(importlib.import_module("striate"), node.attr), ast.unparse(node)
