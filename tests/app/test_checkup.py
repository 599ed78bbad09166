"""What `striate doctor` says of a machine, and that the usual verbs say nothing that nobody asked for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from striate.app import checkup
from striate.app.main import main
from training import recipe_file, small_store


def test_packages_are_those_that_the_project_declares() -> None:
    """Held against pyproject.toml."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^\w-]", requirement)[0].lower() for requirement in requirements}

    declared = {extra: names(wanted) for extra, wanted in project["optional-dependencies"].items() if extra != "dev"}
    assert {extra: set(packages) for extra, (packages, _) in checkup.EXTRAS.items()} == declared
    assert set(checkup.CORE) == names(project["dependencies"])


def test_an_extra_is_missing_where_one_of_its_packages_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """`installed` is replaced by a machine on which, of all packages, only onnx is, and by one that has all."""
    monkeypatch.setattr(checkup, "installed", lambda name: name == "onnx")
    missing = checkup.missing_extras()
    assert set(missing) == set(checkup.EXTRAS) | set(checkup.COMPANIONS)
    assert missing["export"] == {
        "packages": ["onnxscript", "onnxruntime"],
        "purpose": checkup.EXTRAS["export"][1],
        "install": "pip install 'striate[export]'",
    }
    monkeypatch.setattr(checkup, "installed", lambda name: True)
    assert checkup.missing_extras() == {} and checkup.missing_core() == []


def test_a_missing_package_of_the_core_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checkup, "installed", lambda name: name not in ("simplejpeg", "av"))
    assert checkup.missing_core() == ["simplejpeg"]
    assert checkup.problems(tmp_path, torch.device("cpu")) == ["simplejpeg is not installed: pip install simplejpeg"]
    assert checkup.decoding_rate_per_s() is None


def test_installed_knows_distributions_by_name() -> None:
    assert checkup.installed("torch") and checkup.installed("PyYAML") and not checkup.installed("no-such-package")


def test_products_that_are_wrong_are_named_and_right_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A multiplication that loses one term of 256 stands for a broken library: off by far more than rounding."""
    assert checkup.wrong_products(torch.device("cpu")) == []
    product = torch.Tensor.__matmul__

    def losing(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return product(left[:, :-1], right[:-1]) if left.dtype == torch.bfloat16 else product(left, right)

    monkeypatch.setattr(torch.Tensor, "__matmul__", losing)
    assert checkup.wrong_products(torch.device("cpu")) == ["bf16"]


def test_jobs_take_half_the_time_at_twice_the_rate() -> None:
    """Closed form, but for two digits being kept."""
    slow, fast = checkup.job_seconds(100), checkup.job_seconds(200)
    assert set(slow) == set(checkup.JOBS)
    assert all(slow[job] == pytest.approx(2 * fast[job], rel=0.05) for job in slow)
    assert checkup.job_seconds(400) == pytest.approx(checkup.JOBS, rel=0.05)


def test_rates_are_those_of_the_work_that_was_done() -> None:
    """A sleep of 10 ms is done at most 100 times a second."""
    import time

    assert 5 < checkup._rate_per_s(lambda: time.sleep(0.01), 0.05) <= 100


def test_a_problem_is_the_last_word_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["problems"] == [] and result["free_disk_gb"] > 0
    assert str(tmp_path) not in json.dumps(result)
    monkeypatch.setattr(checkup, "free_disk_gb", lambda folder: 0.25)
    assert main(["doctor"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("PROBLEM: 0.25 GB free on the disk of") and last.endswith("make room")


def test_the_usual_verbs_write_nothing_on_stderr(tmp_path: Path) -> None:
    """In a process of their own and with an empty home folder, where libraries make caches and talk about it."""
    store = small_store(tmp_path / "store")
    recipe = recipe_file(tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "XDG", "TORCH", "PYTHON"))}
    for arguments in (
        ["train", str(recipe), f"data.store={store}", "train.epochs=1", "--run", "run"],
        ["show", "run", "report"],
        ["probe", "run", "--train", str(store), "--test", str(store)],
        ["encode", "run", str(store), "-o", "features.parquet"],
        ["export", "run", "model.onnx"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "striate", *arguments],
            env={**environment, "HOME": str(tmp_path / "home")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), arguments
