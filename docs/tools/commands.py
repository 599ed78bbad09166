"""Running what a page shows, commands by bash, Python in one interpreter a page, and holding what they print against quotes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.pages import Shown, complaint, striate_calls
from tools.session import LIMIT_S

_SESSION = Path(__file__).with_name("session.py")


class Differs(Exception):
    """A command failed, or printed something else than its page says."""


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
        timeout=LIMIT_S,
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
        limit = time.monotonic() + LIMIT_S / 2
        while process.poll() is None and time.monotonic() < limit and not shown.pattern().search(printed + "\n"):
            time.sleep(0.1)
            file.seek(0)
            printed = file.read().decode(errors="replace")
        ended = process.poll()
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(LIMIT_S / 10)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Differs(f"`{shown.command}` was not stopped by Ctrl-C") from None
    if ended is not None or code not in (0, 130):
        raise Differs(f"`{shown.command}` ended with exit code {code} and printed\n{printed}")
    return compare(shown, printed)


class Session:
    """The interpreter of one page, started at its first block of Python."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self._process: subprocess.Popen[str] | None = None

    def run(self, shown: Shown) -> str:
        """Run a block, and compare what it prints with the comments behind its prints.

        Raises:
            Differs: it failed, or printed something else.
        """
        if self._process is None:
            command = [sys.executable, str(_SESSION)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self._process = subprocess.Popen(command, cwd=self.folder, env=_environment(self.home), text=True, **pipes)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(shown.command) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise Differs(f"the interpreter ended with exit code {self._process.wait()} in\n{shown.command}")
        said = json.loads(answer)
        if said["error"]:
            raise Differs(f"{shown.command}\nended with\n{said['error']}")
        return compare(shown, said["printed"])

    def end(self) -> None:
        """End the interpreter, if there is one."""
        if self._process is not None:
            self._process.communicate()


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


def _heed_ctrl_c() -> None:
    """Where this runs in the background of a script, Ctrl-C is ignored, and by its children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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
