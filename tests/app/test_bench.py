"""`striate bench` and `striate doctor`: their shape and their errors; what they measure is judged by people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from striate.app import checkup
from striate.app.commands.bench import NAMES, _save
from striate.app.main import main

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_without_a_name_they_are_listed_with_their_claims(capsys: pytest.CaptureFixture[str]) -> None:
    assert _json(capsys, "bench") == {"benchmarks": NAMES}
    assert main(["bench"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES)


def test_a_misspelt_name_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "whitning"]) == 2
    assert capsys.readouterr().err == "striate: no benchmark 'whitning': did you mean whitening?\n"
    assert main(["bench", "zzz"]) == 2
    assert "there are cd-step, cd-peers" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(NAMES))
def test_every_benchmark_has_its_file(name: str) -> None:
    file = FOLDER / f"{'import_' if name == 'import' else name.replace('-', '_')}.py"
    assert "def rows(quick: bool" in file.read_text()


def test_a_benchmark_gives_rows_with_every_key_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    result = _json(capsys, "bench", "whitening", "--quick")
    assert result["machine"]["threads"] >= 1 and result["rows"]
    for row in result["rows"]:
        assert {"measure", "value", "unit", "peers", "bar"} <= set(row)
        assert row["value"] > 0 and isinstance(row["peers"], dict)


def test_results_are_kept_by_machine(tmp_path: Path) -> None:
    described = {"gpu": None, "processor": "Maker (R) Chip 9", "threads": 2}
    _save(tmp_path, "cd-step", described, [{"measure": "m"}])
    kept = json.loads((tmp_path / "maker-r-chip-9-2-threads" / "cd-step.json").read_text())
    assert kept == {"machine": described, "rows": [{"measure": "m"}]}


def test_doctor_names_hardware_rates_and_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "installed", lambda name: name != "av")
    result = _json(capsys, "doctor")
    assert set(result["gflop_s"]) == {"fp32", "bf16"} and min(result["gflop_s"].values()) > 0
    assert result["auto_dtype"] in ("fp32", "bf16") and set(result["missing"]) == {"video"}
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "not installed: av, for frames of videos: pip install 'striate[video]'" in shown and "GFLOP/s" in shown
