"""Run what the pages show: `python docs/tools/run.py [PAGE ...]` runs the console blocks of every page, or of some.

Each command is given to bash, in a folder of the page's own and with a stand-in for a home folder. It must end with exit code 0
and print what the page quotes. Real pictures are used where STRIATE_DATA, or shared/data beside the checkout, has them.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.home import make_home
from tools.pages import Page, Shown, complaint, read_page, striate_calls

DOCS = Path(__file__).resolve().parents[1]
_LIMIT_S = 600


class Differs(Exception):
    """A command failed, or printed something else than its page says."""


@dataclass
class Workspace:
    """Folders in which pages are run, each page once."""

    root: Path
    docs: Path = DOCS
    data: Path | None = None
    shows: bool = False
    folders: dict[str, Path] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """The stand-in for a person's home folder, made on first use."""
        home = self.root / "home"
        if not home.exists():
            home.mkdir(parents=True)
            make_home(home, self.data)
        return home

    def run(self, name: str) -> Path:
        """Run a page, and first the one that it stands on; returns the folder it leaves. Differences are kept."""
        if name in self.folders:
            return self.folders[name]
        page = read_page(self.docs / f"{name}.md")
        folder = self.root / "pages" / name.replace("/", "-")
        if page.after:
            shutil.copytree(self.run(page.after), folder)
        else:
            folder.mkdir(parents=True)
        begun = time.monotonic()
        self._run_commands(page, folder)
        _say(f"{name}: {sum(one.not_run is None for one in page.shown)} commands in {time.monotonic() - begun:.0f} s")
        self.folders[name] = folder
        return folder

    def _run_commands(self, page: Page, folder: Path) -> None:
        for shown in page.shown:
            if shown.not_run is None:
                try:
                    printed = (run_until_stopped if shown.until_stopped else run)(shown, folder, self.home)
                    if self.shows:
                        _say(f"$ {shown.command}\n{printed}")
                except Differs as difference:
                    self.differences.append(f"{page.path.relative_to(self.docs)}, line {shown.line}: {difference}")
                    _say(f"DIFFERS: {self.differences[-1]}")


def run(shown: Shown, folder: Path, home: Path) -> str:
    """Give a command to bash and compare what it prints with what is quoted.

    Raises:
        Differs: it failed, or printed something else.
    """
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shown.command],
        cwd=folder,
        env=_environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=_heed_ctrl_c,
        timeout=_LIMIT_S,
        check=False,
    )
    printed = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise Differs(f"`{shown.command}` ended with exit code {done.returncode} and printed\n{printed}")
    return compare(shown, printed)


def run_until_stopped(shown: Shown, folder: Path, home: Path) -> str:
    """Start a command, wait until it has printed what is quoted, press Ctrl-C.

    Raises:
        Differs: it ended by itself, never printed that, or was not stopped by Ctrl-C.
    """
    with tempfile.TemporaryFile() as file:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {shown.command}"],
            cwd=folder,
            env=_environment(home),
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=_heed_ctrl_c,
        )
        printed = ""
        limit = time.monotonic() + _LIMIT_S / 5
        while process.poll() is None and time.monotonic() < limit and not shown.pattern().search(printed + "\n"):
            time.sleep(0.1)
            file.seek(0)
            printed = file.read().decode(errors="replace")
        ended = process.poll()
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Differs(f"`{shown.command}` was not stopped by Ctrl-C") from None
    if ended is not None or code not in (0, 130):
        raise Differs(f"`{shown.command}` ended with exit code {code} and printed\n{printed}")
    return compare(shown, printed)


def _heed_ctrl_c() -> None:
    """Where this runs in the background of a script, Ctrl-C is ignored, and by its children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def compare(shown: Shown, printed: str) -> str:
    """Hold quoted output against what was printed, and return the latter; what it names as the next command must be one.

    Raises:
        Differs: it is not in there, or the next command is none.
    """
    if shown.output and not shown.pattern().search(_plain(printed) + "\n"):
        quoted = "\n".join(shown.output)
        raise Differs(f"`{shown.command}` should print\n{quoted}\nand printed\n{printed}")
    for follows in re.findall(r"^next\b[^:\n]*: (striate .+)$", printed, re.MULTILINE):
        for words in striate_calls(follows):
            if wrong := complaint(words):
                raise Differs(f"`{shown.command}` names as next `{follows}`, which is no command: {wrong}")
    return printed


def _plain(printed: str) -> str:
    """Without blanks at the ends of lines."""
    return re.sub(r"[ \t]+$", "", printed, flags=re.MULTILINE)


def _environment(home: Path) -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    path = f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"
    return {
        **kept,
        "HOME": str(home),
        "PATH": path,
        "COLUMNS": "120",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


def pages_to_run(docs: Path = DOCS) -> list[str]:
    """The names of pages whose commands are run, as `tutorial` or `verbs/probe`."""
    pages = (str(file.relative_to(docs).with_suffix("")) for file in sorted(docs.rglob("*.md")))
    return [name for name in pages if read_page(docs / f"{name}.md").runs]


def find_data() -> Path | None:
    """The folder of real pictures, if it is at hand."""
    folder = Path(os.environ.get("STRIATE_DATA", DOCS.parents[1] / "shared" / "data"))
    return folder if (folder / "tiny-imagenet" / "test.parquet").exists() else None


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run pages; the exit code is 1 if any differs."""
    parser = argparse.ArgumentParser(description="Run the commands that pages show, and compare what they print.")
    parser.add_argument("pages", metavar="PAGE", nargs="*", help="for example tutorial, or verbs/probe; default: all of them")
    parser.add_argument("--show", action="store_true", help="print what commands print")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), data=find_data(), shows=options.show)
        for name in options.pages or pages_to_run():
            workspace.run(name)
    _say(f"{len(workspace.folders)} pages, {len(workspace.differences)} differences")
    return 1 if workspace.differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
