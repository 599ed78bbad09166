"""The example files for clusters: well-formed, and the plain one run, as two machines that are this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jobs import free_port
from striate.train.checkpoint import read_json
from training import recipe_file, small_store

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "cluster"


def test_replicas_under_slurm_and_kuberay_name_the_command_and_share_a_token_or_a_volume() -> None:
    assert subprocess.run(["bash", "-n", EXAMPLES / "replicas.sbatch"], check=False).returncode == 0
    script = (EXAMPLES / "replicas.sbatch").read_text()
    assert '--replicas "${REPLICAS:-16}" --address "$address"' in script and "RAY_AUTH_TOKEN" in script
    job = yaml.safe_load((EXAMPLES / "replicas.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    assert job["kind"] == "RayJob" and "--address auto" in job["spec"]["entrypoint"]
    pods = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    for pod in pods:
        mounted = {mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


@pytest.mark.parametrize("name", ["ssh.sh", "slurm.sbatch"])
def test_scripts_are_well_formed(name: str) -> None:
    assert subprocess.run(["bash", "-n", EXAMPLES / name], check=False).returncode == 0
    assert "-m -- striate" in (EXAMPLES / name).read_text()


def test_the_pods_meet_at_the_first() -> None:
    service, job = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["subdomain"] == service["metadata"]["name"] and job["spec"]["completionMode"] == "Indexed"
    [container] = pod["spec"]["containers"]
    script = container["args"][0]
    # An indexed job's pods are called JOB-INDEX.
    assert f"{job['metadata']['name']}-0.{service['metadata']['name']}:29500" in script
    assert f"--nnodes={job['spec']['completions']}" in script and job["spec"]["parallelism"] == job["spec"]["completions"]
    assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0


@pytest.mark.science
def test_two_machines_by_ssh_train_one_run(tmp_path: Path) -> None:
    small_store(tmp_path / "store")
    recipe = recipe_file(tmp_path)
    told = {"RECIPE": recipe, "STORE": tmp_path / "store", "RUN": tmp_path / "run", "PORT": free_port(), "OMP_NUM_THREADS": 1}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **{name: str(value) for name, value in told.items()}}
    machines = [
        subprocess.Popen(
            ["sh", EXAMPLES / "ssh.sh", str(number), "127.0.0.1"],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    said = [machine.communicate(timeout=120) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    described = read_json(tmp_path / "run" / "run.json")
    assert described["status"] == "done" and described["cluster"]["processes"] == 2
    assert "450 steps" in said[0][0] and not said[1][0]
