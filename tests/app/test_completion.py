"""The tab key: what is offered, and three real shells that offer it."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from striate.app.commands.completion import SCRIPTS
from striate.app.completion import complete, main, split_line
from striate.app.main import VERBS
from striate.app.recipe import Recipe, check_recipe
from striate.app.recipe_keys import recipe_keys

# A shell starts, Python starts: a busy machine takes its time, and nothing is measured by it.
_PATIENCE_S = 60


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with stores, runs and folders that are neither, where a person stands."""
    for name, mark in (
        ("pictures", "store.json"),
        ("sets/my own", "store.json"),
        ("runs/a", "run.json"),
        ("runs/b", "encoder.safetensors"),
    ):
        (tmp_path / "here" / name).mkdir(parents=True)
        (tmp_path / "here" / name / mark).touch()
    (tmp_path / "here" / "papers").mkdir()
    (tmp_path / "here" / "mine.yaml").write_text("name: mine\nmodel: {kind: net}\n")
    # A module that is not to be imported because somebody pressed tab beside it.
    (tmp_path / "here" / "argparse.py").write_text("open('imported', 'w').close()\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "here"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", list(VERBS)),
        ("tr", ["train"]),
        ("--v", ["--version"]),
        ("train krizhevsky2009/na", ["krizhevsky2009/naive"]),
        ("train mi", ["mine.yaml"]),
        ("train demo/patches model.hidden_", ["model.hidden_bias="]),
        ("train mine.yaml model.g", ["model.gain="]),
        ("train krizhevsky2012/small model.cr", ["model.crop="]),
        ("train demo/patches model.kind=convnet model.ne", ["model.net="]),
        ("train demo/patches preprocess.kind=wh", ["preprocess.kind=whiten"]),
        ("train demo/patches preprocess.contrast=", ["preprocess.contrast=true", "preprocess.contrast=false"]),
        ("train demo/patches data.store=p", ["data.store=pictures"]),
        ("train demo/patches model.below=runs/", ["model.below=runs/a", "model.below=runs/b"]),
        ("train --init ", ["runs/a", "runs/b"]),
        ("train --processes 2 learn/w", ["learn/whole"]),
        ("train demo/patches --dry-run --dr", []),
        ("resume r", ["runs/a", "runs/b"]),
        ("info ", ["pictures", "sets/my own"]),
        ("dedupe pictures --ind", ["--index"]),
        ("dedupe pictures --index=f", ["--index=faiss"]),
        ("probe runs/a --train p", ["pictures"]),
        ("show runs/a f", ["filters"]),
        ("reproduce l", ["le2012"]),
        ("reproduce le2012 --store ", ["pictures", "sets/my own"]),
        ("reproduce le2012 --figure 1 --fig", ["--figure"]),
        ("bench cd-p", ["cd-peers"]),
        ("info pictures ", []),
        ("nonsense ", []),
    ],
)
def test_what_is_offered(place: Path, typed: str, offered: list[str]) -> None:
    assert complete(split_line("striate " + typed)) == offered


def test_every_key_offered_is_one_that_a_recipe_takes(place: Path) -> None:
    """The type checker of recipes itself is asked: of all a key's errors none says that the key is unknown."""
    for kind in ("rbm", "net", "convnet", "sparse"):
        for key in recipe_keys(kind):
            nested: object = {"no such value": 0}
            for part in reversed(key.split(".")):
                nested = {part: nested}
            assert isinstance(nested, dict)
            nested.setdefault("model", {}).setdefault("kind", kind) if key != "model.kind" else None
            try:
                check_recipe({"name": "x", **nested}, "x")
            except ValueError as error:
                assert f"unknown key {key};" not in str(error)
    assert {key.partition(".")[0] for key in recipe_keys()} == set(Recipe.model_fields)


def test_keys_are_kept_and_a_damaged_cache_is_made_again(place: Path) -> None:
    keys = recipe_keys("rbm")
    [kept] = (place.parent / "cache" / "striate").iterdir()
    assert json.loads(kept.read_text())["rbm"] == {key: keys[key] for key in json.loads(kept.read_text())["rbm"]}
    kept.write_text("{")
    assert recipe_keys("rbm") == keys and json.loads(kept.read_text())
    shutil.rmtree(kept.parent)
    kept.parent.write_text("a file where the folder should be")
    assert recipe_keys("rbm") == keys


def test_it_loads_nothing_heavy_and_nothing_from_where_one_stands(place: Path) -> None:
    """Once the keys are kept. Modules are counted: a clock proves little on a busy machine."""
    recipe_keys()
    code = "import sys; from striate.app.completion import main; main(['zsh', 'train', 'demo/patches', 'model.hid'])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"{code}; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    *offered, loaded = done.stdout.splitlines()
    assert offered == ["model.hidden=", "model.hidden_bias="]
    assert not {"torch", "numpy", "rich", "pydantic", "yaml", "pyarrow", "PIL"} & set(loaded.split())
    assert all("-P -m striate.app.completion" in script for script in SCRIPTS.values())


def test_bash_gets_what_stands_behind_the_equals_sign_and_spaces_in_quotes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["bash", "striate train demo/patches data.store=sets/m"])
    main(["bash", "striate info 'sets/m"])
    assert capsys.readouterr().out == "'sets/my own'\n'sets/my own'\n"


@pytest.mark.parametrize("shell", list(SCRIPTS))
def test_a_real_shell_completes(place: Path, shell: str) -> None:
    """Typed into a terminal: tabs stand for the rest of words; a function named striate tells what arrived."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = subprocess.run(
        [sys.executable, "-m", "striate", "completion", shell], capture_output=True, text=True, check=True, cwd="/"
    )
    start = {
        "bash": ([shell, "--norc", "--noprofile", "-i"], "", 'striate() { printf "GOT<%s>" "$@"; echo; echo END; }\n'),
        "zsh": (
            [shell, "-f", "-i"],
            "autoload -U compinit; compinit -u -D\n",
            'striate() { printf "GOT<%s>" "$@"; echo; echo END; }\n',
        ),
        "fish": ([shell, "--no-config", "-i"], "", "function striate; printf 'GOT<%s>' $argv; echo; echo END; end\n"),
    }
    command, before, function = start[shell]
    file = place.parent / "script"
    file.write_text(before + script.stdout + "\n" + function)
    recipe_keys()
    said = _typed(
        command,
        f"source {file}; echo REA''DY\n",
        "striate tra\tkrizhevsky2009/nai\tmodel.sig\t4 preprocess.kind=wh\t data.store=pic\t\n",
    )
    assert "GOT<train>GOT<krizhevsky2009/naive>GOT<model.sigma=4>GOT<preprocess.kind=whiten>GOT<data.store=pictures>" in said
    assert not (place / "imported").exists()


def _typed(command: list[str], first: str, then: str) -> str:
    """A shell in a terminal: type a line, wait for READY, type another one word by word, wait for END; the screen."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="dumb", COLUMNS="200", PS1="$ ")
        os.execvp(command[0], command)
    try:
        os.write(terminal, first.encode())
        said = _until(terminal, "READY\r")
        for word in then.split("\t"):
            os.write(terminal, word.encode() + (b"" if word.endswith("\n") else b"\t"))
            # Keys typed while a shell asks Python would be taken when it answers; some shells drop them.
            said += "" if word.endswith("\n") else _until(terminal, None)
        return said + _until(terminal, "END\r")
    finally:
        os.kill(child, 9)
        os.close(terminal)
        os.waitpid(child, 0)


def _until(terminal: int, sign: str | None) -> str:
    """What a terminal shows until a sign, or until it has been still for a while."""
    shown = ""
    limit = time.monotonic() + _PATIENCE_S
    while time.monotonic() < limit and (sign is None or sign not in shown):
        ready, _, _ = select.select([terminal], [], [], 0.6 if sign is None else 5)
        if not ready and sign is None:
            break
        if ready:
            shown += os.read(terminal, 65536).decode(errors="replace")
    return shown
