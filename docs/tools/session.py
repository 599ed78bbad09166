"""An interpreter for the blocks of Python of one page: a line of JSON in (the block), a line of JSON out (what it printed).

Run as a program of its own, in the page's folder; names that a block leaves are there for the next, as if a reader had pasted
them one after another.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import traceback

LIMIT_S = 600


def main() -> None:
    """Answer until the input ends. What other programs write to the standard output must not stand among the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    names: dict[str, object] = {"__name__": "__main__"}
    for line in sys.stdin:
        signal.alarm(LIMIT_S)
        printed, error = run(json.loads(line), names)
        signal.alarm(0)
        answers.write(json.dumps({"printed": printed, "error": error}) + "\n")
        answers.flush()


def run(block: str, names: dict[str, object]) -> tuple[str, str | None]:
    """Run a block; returns what it printed, and the traceback if it failed."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "<page>", "exec"), names)
    except Exception:
        return printed.getvalue(), traceback.format_exc()
    return printed.getvalue(), None


if __name__ == "__main__":
    main()
