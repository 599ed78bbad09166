"""Run what the pages show: `python docs/tools/run.py [PAGE ...]` runs the blocks of every page, or of some.

Each command is given to bash, each block of Python to an interpreter, in a folder of the page's own and with a stand-in for a
home folder. It must end well and print what the page quotes. Pictures that pages show (`{drawn} FILE`) are kept for the site.
Real pictures are used where STRIATE_DATA, or shared/data beside the checkout, has them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.commands import Differs, Session, run, run_until_stopped
from tools.home import make_home
from tools.pages import Page, Shown, left_out, page_names, read_page

DOCS = Path(__file__).resolve().parents[1]
DRAWN = DOCS.parent / "build" / "drawn"


@dataclass
class Workspace:
    """Folders in which pages are run, each page once; pages that do not stand on one another may be run at once."""

    root: Path
    docs: Path = DOCS
    data: Path | None = None
    shows: bool = False
    drawn: Path | None = None
    folders: dict[str, Path] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    _locks: defaultdict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    @property
    def home(self) -> Path:
        """The stand-in for a person's home folder, made on first use."""
        home = self.root / "home"
        with self._locks["home itself"]:
            if not home.exists():
                home.mkdir(parents=True)
                make_home(home, self.data)
        return home

    def run_all(self, names: list[str], at_once: int) -> None:
        """Run pages, some at once: first those that most others stand on."""
        stood_on = Counter(read_page(self.docs / f"{name}.md").after for name in names)
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(self.run, sorted(names, key=lambda name: -stood_on[name])))

    def run(self, name: str) -> Path:
        """Run a page, and first the one that it stands on; returns the folder it leaves. Differences are kept."""
        with self._locks[name]:
            if name not in self.folders:
                self.folders[name] = self._run_page(name)
        return self.folders[name]

    def _run_page(self, name: str) -> Path:
        page = read_page(self.docs / f"{name}.md")
        folder = self.root / "pages" / name.replace("/", "-")
        if page.after:
            shutil.copytree(self.run(page.after), folder, symlinks=True)
        else:
            folder.mkdir(parents=True)
        begun = time.monotonic()
        self._run_blocks(page, folder)
        self._keep_pictures(name, page, folder)
        _say(f"{name}: {in_words(page.shown)} in {time.monotonic() - begun:.0f} s")
        return folder

    def _run_blocks(self, page: Page, folder: Path) -> None:
        session = Session(folder, self.home)
        for shown in page.shown:
            if shown.not_run is None:
                try:
                    printed = self._run_one(shown, folder, session)
                    if self.shows:
                        _say(f"{'>>>' if shown.python else '$'} {shown.command}\n{printed}")
                except Differs as difference:
                    self._note(page, shown.line, str(difference))
        session.end()

    def _run_one(self, shown: Shown, folder: Path, session: Session) -> str:
        if shown.python:
            return session.run(shown)
        return (run_until_stopped if shown.until_stopped else run)(shown, folder, self.home)

    def _keep_pictures(self, name: str, page: Page, folder: Path) -> None:
        for line, picture in page.drawn:
            if not (folder / picture).is_file():
                self._note(page, line, f"no command drew {picture}")
            elif self.drawn is not None:
                kept = self.drawn / name / picture
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / picture, kept)

    def _note(self, page: Page, line: int, difference: str) -> None:
        self.differences.append(f"{page.path.relative_to(self.docs)}, line {line}: {difference}")
        _say(f"DIFFERS: {self.differences[-1]}")


def in_words(shown: tuple[Shown, ...]) -> str:
    """How many commands and blocks of Python are run, in words."""
    run_now = [one.python for one in shown if one.not_run is None]
    blocks = sum(run_now)
    return f"{len(run_now) - blocks} commands" + (f", {blocks} of Python" if blocks else "")


def pages_to_run(docs: Path = DOCS) -> list[str]:
    """The names of pages whose commands are run, as `tutorial` or `verbs/probe`."""
    return [name for name in page_names(docs) if read_page(docs / f"{name}.md").runs]


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
    parser.add_argument("--at-once", type=int, default=min(4, os.cpu_count() or 1), help="pages (default: %(default)s)")
    options = parser.parse_args(arguments)
    # Cores are shared among the pages, as `--processes` shares them.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // options.at_once)))
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), data=find_data(), shows=options.show, drawn=DRAWN)
        workspace.run_all(options.pages or pages_to_run(), options.at_once)
    pages = [read_page(DOCS / f"{name}.md") for name in workspace.folders]
    not_run = left_out(DOCS, options.pages or page_names(DOCS))
    for name, one in not_run:
        _say(f"not run: {name}, line {one.line}: {one.command.splitlines()[0]} ({one.not_run})")
    shown = tuple(one for page in pages for one in page.shown)
    _say(f"{len(pages)} pages: {in_words(shown)}; {len(not_run)} not run; {len(workspace.differences)} differences")
    return 1 if workspace.differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
