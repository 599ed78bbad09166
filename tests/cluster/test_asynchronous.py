"""Shards and replicas in processes of their own: sums that must be exact, and what happens when processes are killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import crews
import jobs
import marking
import striate.cluster.asynchronous
from striate.cluster.asynchronous.calling import LARGE, RayDoor
from striate.cluster.asynchronous.causes import cause
from striate.cluster.asynchronous.crew import Wanted
from striate.cluster.asynchronous.engine import ray_cluster
from striate.cluster.asynchronous.member import Stage
from striate.cluster.asynchronous.plan import Plan
from striate.cluster.replica import Pace
from striate.errors import BadInput, Diverged, StriateError
from striate.train.updates import Rates


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """One engine for all."""
    with crews.engine() as connected:
        yield connected


def test_it_listens_on_this_machine_alone_and_asks_for_a_token(ray: ModuleType) -> None:
    """By the system's own list of sockets of Ray's processes."""
    own = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=False).stdout if _has("ss") else ""
    if not own:
        pytest.skip("the system does not list its sockets (ss)")
    session = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    pids = {int(line.split()[0]) for line in session.splitlines()[1:] if "ray" in line}
    listening = [line.split()[3] for line in own.splitlines() if any(f"pid={pid}," in line for pid in pids | {os.getpid()})]
    assert listening
    assert all("127.0.0.1" in address or "[::1]" in address for address in listening), listening
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64


def _has(command: str) -> bool:
    return subprocess.run(["which", command], capture_output=True, check=False).returncode == 0


def test_every_minibatch_counts_once(ray: ModuleType, tmp_path: Path) -> None:
    """Whole numbers: the weights are the number of minibatches, whoever learned from them and however they travelled."""
    made = crews.fleet(ray, crews.crew(tmp_path, pace=Pace(3, 2)), 60, 2 * LARGE)
    state = crews.run(made, 60)
    assert torch.equal(state["weight"], torch.full((2 * LARGE,), 60.0))
    told = made.counted()
    assert told["lost"] == told["refused"] == told["replicas_lost"] == 0
    assert sum(told["staleness"].values()) == told["updates"] == 2 * told["pushes"]
    # And nothing else travelled.
    assert told["pushed_bytes"] == told["pushes"] * 8 * LARGE and told["pulled_bytes"] <= told["pulls"] * 8 * LARGE
    # A version is put into shared memory once, for all who ask.
    first, second = (ray.get(made.shards.actors[0].pull.remote(None)) for _ in range(2))
    assert first.reference == second.reference
    version, values = RayDoor(made.shards.actors[0]).pull(None).get()
    assert values is not None and np.array_equal(values, np.full(LARGE, 60, np.float32))
    assert RayDoor(made.shards.actors[0]).pull(version).get() == (version, None)
    made.close()


def test_everybody_exchanges_as_seldom_as_the_plan_advises(ray: ModuleType, tmp_path: Path) -> None:
    """Also who comes later; the numbers are asked for once, and no minibatch is lost for it."""
    advised: list[int] = []

    def take(interval: int) -> tuple[int, int]:
        advised.append(interval)
        return 10, 10

    made = crews.fleet(ray, crews.crew(tmp_path, replicas=1, take=take), 300, step_s=0.004)
    made.members.want(Wanted(1, 2))
    state = crews.run(made, 300)
    told, plan, lives = made.counted(), made.plan, len(made.members.visits.told())
    made.close()
    assert plan is not None and advised == [plan.advised_interval] == [plan.taken]
    assert plan.pull_every == plan.push_every == 10 and torch.equal(state["weight"], torch.full((10,), 300.0))
    # Of ten each, but for each one's last.
    assert told["pushes"] <= 300 / 10 + lives


def test_rounds_of_changes_apply_means(ray: ModuleType, tmp_path: Path) -> None:
    """Two members with 4 steps each a round: every round adds 4, and nothing is stale."""
    pace = Pace(push_every=4, rounds=True, rates=Rates(1.0, 0.0))
    made = crews.fleet(ray, crews.crew(tmp_path, gradients=False, pace=pace, rule="nesterov", shards=1), 32)
    state = crews.run(made, 32)
    told = made.counted()
    # 16 minibatches each, if they share them evenly; who has none left is waited for no longer.
    assert 16 <= float(state["weight"][0]) <= 32 and 4 <= told["updates"] <= 8
    assert set(told["staleness"]) == {"0"}
    made.close()


def test_one_bad_day(ray: ModuleType, tmp_path: Path) -> None:
    """A warm start, poison, a replica killed: what was refused alone is missing, a lost one's leases may be there twice."""
    said: list[str] = []
    mishaps = {"mishaps": {5: "nan", 12: "nan", 150: "kill"}, "folder": str(tmp_path)}
    made = crews.fleet(ray, crews.crew(tmp_path, shards=1, warm_start_steps=20), 200, said=said, step_s=0.002, **mishaps)
    seen = [made.step(number) for number in range(20)]
    assert made.members[1].exchanged == {}
    seen += [made.step(number) for number in range(180)]
    weight, told = float(made.state()["weight"][0]), made.counted()
    assert made.members[1].exchanged["pushes"] > 0
    assert [one for one in seen if not one] == [{}, {}] and all(float(one["loss"]) == 1 for one in seen if one)
    assert told["refused"] == 2 and told["replicas_lost"] == 1 and told["minibatches_redone"] >= 1
    # Minibatches that shared a push with a poisoned one go with it.
    refused = ray.get(made.shards.actors[0].counted.remote())["refused_steps"]
    assert 2 <= refused <= 2 * 20 and 200 <= weight + refused <= 200 + told["minibatches_redone"]
    assert len([line for line in said if "was lost (its process died); another takes its place" in line]) == 1
    with pytest.raises(Diverged, match="no minibatch gives finite numbers any more"):
        made._count_poisoned([{}] * 101)
    made.close()


def test_a_replica_that_hangs_is_replaced_and_its_round_goes_on(ray: ModuleType, tmp_path: Path) -> None:
    mishaps = {"mishaps": {25: "stop"}, "folder": str(tmp_path)}
    made = crews.fleet(ray, crews.crew(tmp_path, patience_s=2, pace=Pace(rounds=True), shards=1), 60, **mishaps)
    crews.run(made, 60)
    assert made.counted()["replicas_lost"] >= 1
    made.close()


def test_what_a_killed_replica_had_not_sent_is_learned_from_again(ray: ModuleType, tmp_path: Path) -> None:
    """A push of seven minibatches now and then: of those that were told of before a kill, some were not sent yet."""
    settings, mishaps = crews.crew(tmp_path, replicas=1, pace=Pace(7, 7)), {"mishaps": {40: "kill", 90: "kill"}}
    made = marking.fleet(ray, settings, 130, tmp_path / "log", 0.002, **mishaps, folder=str(tmp_path))
    crews.run(made, 130)
    marks, told = marking.Marks(ray, made, tmp_path / "log"), made.counted()
    made.close()
    assert told["replicas_lost"] == 2 and (marks.applied >= 1).all()
    marks.check(told["minibatches_redone"])


def test_a_killed_shard_comes_back_and_what_it_lost_is_learned_from_again(ray: ModuleType, tmp_path: Path) -> None:
    """By whole numbers: as many as were asked for, no more and no less."""
    made = crews.fleet(ray, crews.crew(tmp_path, shards=1), 300, step_s=0.005)
    killed = []

    def kill(number: int) -> None:
        if number == 150:
            killed.append(ray.get(made.shards.actors[0].counted.remote())["pid"])
            os.kill(killed[0], signal.SIGKILL)

    state = crews.run(made, 300, kill)
    told = made.counted()
    assert ray.get(made.shards.actors[0].counted.remote())["pid"] != killed[0]
    # A push that was lost holds at least one minibatch, and at most what a replica may gather.
    assert told["lost"] <= told["minibatches_redone"] <= 20 * told["lost"] and told["refused"] == 0
    assert torch.equal(state["weight"], torch.full((10,), 300.0))
    made.close()


@pytest.mark.parametrize("rounds", [False, True])
def test_every_minibatch_counts_once_whoever_joins_and_leaves(ray: ModuleType, tmp_path: Path, rounds: bool) -> None:
    """At each one's own pace gradients are summed; in rounds they are averaged, and shards must agree."""
    settings = crews.crew(tmp_path, replicas=1, shards=2, pace=Pace(push_every=2, rounds=rounds), patience_s=300.0)

    def pulse(fleet: crews.Fleet) -> None:
        if any(one.place == 1 for one in fleet.members.at(Stage.HERE)):
            (tmp_path / "go").touch()

    mishaps = {"mishaps": {100: "wait"}, "folder": str(tmp_path)}
    made = crews.fleet(ray, settings, 600, step_s=0.004, pulse=pulse, **mishaps)
    made.members.want(Wanted(1, 2))
    for number in range(600):
        made.step(number)
        if any(one.place == 1 and one.steps for one in made.members):
            (tmp_path / "go").touch()
            made.members.want(Wanted(1, 1))
    weight, told = made.state()["weight"], made.counted()
    visits = made.members.visits.told()
    made.close()
    assert visits[1]["how"] == "left" and visits[1]["joined_step"] < visits[1]["left_step"] <= 600
    assert told["minibatches_redone"] == told["replicas_lost"] == told["lost"] == told["refused"] == 0
    if rounds:
        # Never stale; and shards agree, which they would not if one had waited for a replica that another did not know.
        assert set(told["staleness"]) == {"0"} and weight.unique().numel() == 1 and float(weight[0]) < 600
    else:
        assert torch.equal(weight, torch.full_like(weight, 600.0))


def test_nothing_is_printed_of_processes_that_die(ray: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What Ray has to say of them would stand between a command's results."""
    made = crews.fleet(ray, crews.crew(tmp_path, replicas=1, shards=1), 30, mishaps={10: "kill"}, folder=str(tmp_path))
    crews.run(made, 30)
    made.close()
    assert made.members.losses.failed == 1 and capfd.readouterr().out == ""


def test_clocks_that_differ_and_jump_change_nothing(ray: ModuleType, tmp_path: Path) -> None:
    """Replicas whose date is years off, and goes backwards: sums are exact, and what is timed is as long as it was."""
    made = crews.fleet(ray, crews.crew(tmp_path), 60, wrong_clock=True, step_s=0.002)
    state = crews.run(made, 60)
    told = made.counted()
    made.close()
    assert torch.equal(state["weight"], torch.full((10,), 60.0)) and told["replicas_lost"] == 0
    assert all(0 < rate < 500 for rate in made.members.steps_per_s().values())


def test_nothing_that_is_decided_depends_on_dates() -> None:
    """By the source: in what runs replicas, time is monotonic; dates are for records, and written by the driver's edge."""
    folder = Path(striate.cluster.asynchronous.__file__).parent
    files = [*folder.glob("*.py"), *folder.parent.glob("*.py")]
    dated = [file.name for file in files if re.search(r"\btime\.(time|time_ns|localtime|gmtime|strftime)\(", file.read_text())]
    assert len(files) > 40 and dated == []


def test_a_mistake_in_a_replica_s_process_is_told_here(ray: ModuleType, tmp_path: Path) -> None:
    def brought(state: Any) -> dict[str, Any]:
        return {"size": 4, "state": {"weight": torch.zeros(5), "step": torch.tensor(0)}}

    whole = crews.Counting(4)
    fleet = crews.Fleet(whole, crews.crew(tmp_path, replicas=1, shards=1), ray, crews.bring, brought, None, 10, 10, print)
    with pytest.raises(StriateError, match=r"replica 0: .*size of tensor a \(4\) must match the size of tensor b \(5\)"):
        fleet.load_state(whole.state())
    fleet.close()


def test_the_plan_s_arithmetic() -> None:
    """A million parameters: a pull of 1 ms and a push of 3 ms on a step of 4 ms are half of the time."""
    plan = Plan(1_000_000, 1, 2, 1, 1, 1, step_s=4e-3, pull_s=1e-3, push_s=3e-3, update_s=1e-3)
    assert plan.server_bytes == 12e6 and plan.bytes_a_step == 8e6
    assert plan.exchange_share == pytest.approx(0.5) and plan.server_share == pytest.approx(0.5)
    # 4 ms in 9 parts of the time to one: 36 ms of steps.
    assert plan.better_interval == 9 and "push_every=9 would leave 10% to exchanging" in plan.lines()[-1]
    better = Plan(1_000_000, 1, 2, 1, 9, 9, 4e-3, 1e-3, 3e-3, 1e-3)
    assert better.exchange_share == pytest.approx(0.1) and better.better_interval is None
    assert not any("would leave" in line for line in better.lines())


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1: start one"), ("cluster", "expected HOST:PORT, auto or local")],
)
def test_nobody_at_an_address_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str, said: str) -> None:
    monkeypatch.setattr("striate.cluster.asynchronous.engine._ANSWER_S", 0.1)
    with pytest.raises(BadInput, match=said), ray_cluster(address, 1):
        pass


def _told(rank: int, count: int, environment: dict[str, str], address: str | None) -> str:
    """What a process of its own says that begins with Ray."""
    os.environ.update(environment)
    try:
        with ray_cluster(address, 1):
            return "it has begun"
    except StriateError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("folder", ["a file", "a folder of which the path is long " * 4])
def test_where_ray_cannot_be_started_is_one_line_with_what_helps(tmp_path: Path, folder: str) -> None:
    """Ray itself, with nowhere to put its files."""
    (tmp_path / "a file").touch()
    if folder != "a file":
        (tmp_path / folder).mkdir()
    [said] = jobs.run(1, _told, {"RAY_TMPDIR": str(tmp_path / folder)}, None)
    assert said.startswith("StriateError: Ray could not be started on this machine (") and "\n" not in said
    assert f"its files go to {tmp_path / folder / 'ray'}: set RAY_TMPDIR to a folder with room" in said


def test_a_token_that_is_lacking_is_one_line_with_what_helps(tmp_path: Path) -> None:
    """Ray itself, which would ask before it connects."""
    nothing = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": "", "HOME": str(tmp_path)}
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        [said] = jobs.run(1, _told, nothing, address)
    assert said.startswith(f"BadInput: no Ray cluster answers at {address} (Token authentication"), said
    assert "\n" not in said and said.endswith("set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN")


def test_whatever_keeps_ray_from_starting_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain exception, as it raises after half a minute on a machine that is too busy."""

    def init(*given: Any, **options: Any) -> None:
        raise Exception("The current node timed out during startup.\nMore of this.")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    said = r"^Ray could not be started .*\(The current node timed out during startup\.\): try again .*session_latest/logs$"
    with pytest.raises(StriateError, match=said), ray_cluster(None, 1):
        pass


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=r"pip install 'striate\[ray\]'"), ray_cluster(None, 1):
        pass


def test_a_cluster_of_another_version_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own words, of several lines, in one."""

    def init(**options: Any) -> None:
        raise RuntimeError(
            "Version mismatch: The cluster was started with:\n    Ray: 2.9\n    Python: 3.11\nThis process with: ..."
        )

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        said = r"of another version \(Version.* Ray: 2\.9 Python: 3\.11 .*install the same"
        with pytest.raises(BadInput, match=said), ray_cluster(address, 1):
            pass


def test_full_memory_is_told_with_what_helps() -> None:
    """Ray's own errors, as they come from a call and from a process."""
    from ray import exceptions

    full = exceptions.OutOfDiskError("the disk is over capacity")
    passed_on = exceptions.RayTaskError("pull", "Traceback ...\nray.exceptions.OutOfDiskError: Local disk", full)
    for error in (full, passed_on, exceptions.ObjectStoreFullError("full")):
        assert cause(error).startswith("Ray's shared memory is full") and "--object-store-memory" in cause(error)
    assert cause(exceptions.RayTaskError("work", "Traceback\nValueError: disk", ValueError("disk"))) == "ValueError: disk"
