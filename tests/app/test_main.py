"""The program as a person or a script meets it: in a process of its own, by what it prints and its exit code."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from striate.app.main import VERBS
from training import small_store


def striate(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The program, as a person runs it."""
    command = [sys.executable, "-m", "striate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_help_lists_every_verb_that_there_is() -> None:
    shown = striate("--help")
    assert shown.returncode == 0 and shown.stderr == ""
    listed = [line.split()[0] for line in shown.stdout.splitlines() if line.startswith("  ")]
    assert listed == list(VERBS)
    assert striate().stdout == striate("help").stdout == shown.stdout


def test_help_starts_in_a_tenth_of_a_second_because_it_imports_nothing_heavy() -> None:
    """The modules are counted (the clock of a busy machine proves nothing), and the best of five starts is timed."""
    code = "import sys; from striate.app.main import main; main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    for heavy in ("torch", "numpy", "rich", "pydantic", "yaml", "pyarrow", "PIL"):
        assert f"'{heavy}'" not in loaded

    def seconds() -> float:
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "from striate.app.main import main; main(['--help'])"], capture_output=True, check=True
        )
        return time.perf_counter() - started

    assert min(seconds() for _ in range(5)) < 0.1


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_is_a_module_with_help_and_an_example_of_itself(verb: str) -> None:
    """The example parses by the verb's own parser (file names and all), so it cannot rot."""
    module = importlib.import_module(f"striate.app.commands.{VERBS[verb][0]}")
    program, name, *arguments = module.EXAMPLE.split()
    assert (program, name) == ("striate", verb) and module.SUMMARY
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    parser.parse_intermixed_args(arguments)


@pytest.mark.parametrize("verb", ["train", "import"])
def test_help_of_a_verb_shows_its_example_and_imports_no_torch(verb: str) -> None:
    code = f"import sys; from striate.app.main import main; main(['{verb}', '--help']); sys.exit('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert f"example: striate {verb}" in shown.stdout and "--json" in shown.stdout and "--debug" in shown.stdout


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("trian", "train"),
        ("resum", "resume"),
        ("pretrain", "train"),
        ("benchmark", "bench"),
        ("imprt", "import"),
        ("DEMO", "demo"),
    ],
)
def test_a_mistyped_or_foreign_verb_is_answered_with_the_nearest(typed: str, nearest: str) -> None:
    answer = striate(typed)
    assert answer.returncode == 2 and answer.stdout == ""
    assert answer.stderr == f"striate: no verb {typed!r}; did you mean `striate {nearest}`?\n"


def test_a_verb_like_no_other_lists_what_there_is() -> None:
    answer = striate("xyzzy")
    assert answer.returncode == 2 and "there are: demo, learn, import" in answer.stderr


def test_version() -> None:
    from striate import __version__

    assert striate("--version").stdout == f"striate {__version__}\n"


def test_bad_usage_exits_2_and_bad_input_too_in_one_line(tmp_path: Path) -> None:
    assert striate("train", "--no-such-option").returncode == 2
    answer = striate("info", tmp_path / "absent")
    assert answer.returncode == 2 and answer.stdout == ""
    assert answer.stderr.startswith("striate: ") and answer.stderr.count("\n") == 1


def test_json_is_alone_on_stdout_and_the_rest_on_stderr(tmp_path: Path) -> None:
    small_store(tmp_path / "s", 12)
    answer = striate("info", tmp_path / "s", "--json")
    assert answer.returncode == 0
    assert isinstance(json.loads(answer.stdout), dict) and answer.stdout.count("\n") == 1
    failed = striate("info", tmp_path, "--json")
    assert failed.returncode == 2 and failed.stdout == "" and failed.stderr.startswith("striate: ")


def test_a_traceback_is_shown_only_with_debug(tmp_path: Path) -> None:
    plain, debug = striate("info", tmp_path), striate("info", tmp_path, "--debug")
    assert "Traceback" not in plain.stderr and "Traceback" in debug.stderr
    assert plain.returncode == debug.returncode == 2
    assert debug.stderr.endswith(plain.stderr)


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """As `striate --help | head -1`: the pipe is closed before anything is written."""
    read, write = os.pipe()
    os.close(read)
    try:
        code = "from striate.app.main import entry; entry()"
        ended = subprocess.run(
            [sys.executable, "-c", code, "--help"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert ended.returncode == 0 and ended.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.science)])
def test_a_stop_request_during_an_import_exits_130_and_the_import_goes_on_later(tmp_path: Path, number: int) -> None:
    """The request is sent as soon as there is a store, seconds before 3,000 links to a few large pictures are decoded."""
    import hostile

    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3000):
        path = folder / f"{i:04d}.png"
        if i < 10:
            path.write_bytes(hostile.encoded(hostile.picture(i, (400, 400)), "PNG"))
        else:
            path.hardlink_to(folder / f"{i % 10:04d}.png")
    command = [sys.executable, "-m", "striate", "import", str(folder), str(tmp_path / "s")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "s").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "again" in said and "Traceback" not in said
    counts = json.loads(striate("import", folder, tmp_path / "s", "--json").stdout)
    assert counts["seen"] == 3000 == counts["kept"] + counts["rejected"] + counts["duplicates"]


def test_a_stop_request_that_a_library_swallowed_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pyarrow clears whatever is raised while it looks for optional modules; here `counts` does."""
    import hostile
    from striate.app.main import main
    from striate.images.writer import StoreWriter

    counts = StoreWriter.counts

    def swallowing(self: StoreWriter, source: str | None = None) -> object:
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
        return counts(self, source)

    monkeypatch.setattr(StoreWriter, "counts", swallowing)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(hostile.encoded(hostile.picture(0, (40, 40)), "PNG"))
    assert main(["import", str(folder), str(tmp_path / "s")]) == 130
    assert "again" in capsys.readouterr().err


def test_only_the_first_of_torchrun_s_processes_prints(tmp_path: Path) -> None:
    """A RANK left over from something else silences nobody."""
    store = small_store(tmp_path / "s")
    ours = {"LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for set_, printed in (({"RANK": "3"}, True), ({"RANK": "1", **ours}, False), ({"RANK": "0", **ours}, True)):
        done = subprocess.run(
            [sys.executable, "-m", "striate", "info", str(store), "--json"],
            env={**os.environ, **set_},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 and bool(done.stdout) == printed, (set_, done.stderr)
