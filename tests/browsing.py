"""Pages as people use them: a verb that serves as a process, headless Chromium, and waiting."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest


def chromium() -> Iterator[Any]:
    """A browser, for a fixture to yield from; the test is skipped where none is installed."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Server:
    """A verb that serves, as a process.

    Attributes:
        address: with its token.
        base: without.
    """

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "striate", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = ""
        for line in self.process.stdout:
            if match := re.search(r"http://\S+", line):
                self.address = match.group()
                break
        self.base = self.address.split("/?")[0]

    def stop(self, number: int = signal.SIGINT) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def opened(browser: Any, server: Server, **options: Any) -> Any:
    """A page to which the token was given; scripts' errors fail the test."""
    page = browser.new_context(**options).new_page()
    page.on("pageerror", lambda error: pytest.fail(f"the page's script failed: {error}"))
    page.goto(server.address)
    return page


def until(page: Any, expression: str, limit_s: float = 20.0) -> None:
    """Wait for something to be true in the page. (Its policy forbids what Playwright's own waiting does.)"""
    started = time.monotonic()
    while not page.evaluate(expression):
        assert time.monotonic() - started < limit_s, expression
        time.sleep(0.01)
