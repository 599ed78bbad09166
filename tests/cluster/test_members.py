"""Who comes and goes, without an engine: whatever happens, every minibatch is learned from, and once unless something dies."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from striate.cluster.asynchronous.actors import Job, Order, Report
from striate.cluster.asynchronous.crew import Crew, Wanted
from striate.cluster.asynchronous.leases import Leases
from striate.cluster.asynchronous.loads import Loads
from striate.cluster.asynchronous.losses import Losses
from striate.cluster.asynchronous.member import Stage
from striate.cluster.asynchronous.members import Members
from striate.cluster.asynchronous.starting import Lost
from striate.cluster.asynchronous.visits import Visits
from striate.cluster.compress import Packer
from striate.cluster.replica import Pace
from striate.errors import BadInput, StriateError
from striate.train.updates import Rates


@dataclass(eq=False)
class Asked:
    """A call on its way."""

    what: str
    order: Order | None = None
    number: int = field(default_factory=count().__next__)


@dataclass(eq=False)
class Process:
    """A replica's process as the driver sees it; it answers in the order in which it was asked."""

    name: str
    node: str | None
    asked: list[Asked] = field(default_factory=list)
    unsaid: list[int] = field(default_factory=list)
    dead: bool = False

    def __getattr__(self, what: str) -> Any:
        return type("Method", (), {"remote": lambda _, *given: self._ask(what, *given)})()

    def _ask(self, what: str, order: Order | None = None) -> Asked:
        self.asked.append(Asked(what, order))
        return self.asked[-1]


class Workshop:
    """Where processes come from: machines with room for some, of which any may leave; and shards, to which they send.

    Args:
        room: of the first machine.
        keeps: so many of its last minibatches a replica has not sent.
        beside: another machine, on which every replica has a second process.
    """

    def __init__(self, room: int = 1000, keeps: int = 0, beside: str | None = None) -> None:
        self.machines, self._keeps, self._beside = {"first": room}, keeps, beside
        if beside is not None:
            self.machines[beside] = 0
        self.applied: list[int] = []
        self.processes: dict[str, Process] = {}
        self.learned: Counter[int] = Counter()
        self.orders: list[tuple[str, Order]] = []
        self.flushed: list[str] = []
        # Who answers next: of those who were asked, the first, the second, ...
        self.turn = 0

    def begin(self, name: str) -> Process:
        self.processes[name] = Process(name, None)
        return self.processes[name]

    def placed(self, name: str) -> tuple[str, ...] | None:
        process = self.processes[name]
        for machine, room in self.machines.items():
            if process.node is None and sum(one.node == machine for one in self.processes.values() if not one.dead) < room:
                process.node = machine
        if process.node is None:
            return None
        return (process.node,) if self._beside is None else (process.node, self._beside)

    def machine(self, node: str) -> str:
        return node

    def machine_left(self, nodes: Sequence[str]) -> bool:
        return any(node not in self.machines for node in nodes)

    def ready(self, references: list[Asked], within_s: float) -> list[Asked]:
        """One of the living answers; and all calls to the dead."""
        dead = [one for process in self.processes.values() if process.dead for one in process.asked if one in references]
        heads = [process.asked[0] for process in self.processes.values() if not process.dead and process.asked]
        alive = sorted((one for one in heads if one in references), key=lambda one: one.number)
        return dead + ([alive[self.turn % len(alive)]] if alive else [])

    def answer(self, reference: Asked) -> Any:
        process = next(one for one in self.processes.values() if reference in one.asked)
        process.asked.remove(reference)
        if process.dead:
            raise Lost("its process died")
        if reference.what == "flush":
            self.flushed.append(process.name)
            self._send(process, 0)
            return {"pushes": 1}
        if reference.order is None:
            return 1
        self.orders.append((process.name, reference.order))
        self.learned.update(reference.order.slots)
        process.unsaid += reference.order.slots
        self._send(process, self._keeps)
        count = len(reference.order.slots)
        return Report([{"loss": 1.0}] * count, 0.1 * count, 0.0, {"pushes": 1}, len(process.unsaid))

    def _send(self, process: Process, keeps: int) -> None:
        count = max(0, len(process.unsaid) - keeps)
        self.applied += process.unsaid[:count]
        del process.unsaid[:count]

    def forget(self, count: int) -> None:
        """The shards were begun again from a snapshot."""
        del self.applied[max(0, len(self.applied) - count) :]

    def end(self, name: str, actor: Process) -> None:
        actor.dead = True
        actor.asked.clear()


def crew(replicas: int, least: int = 1, rounds: bool = False, **changed: Any) -> Crew:
    job = Job(Pace(rounds=rounds), Packer(), gradients=True, threads=1)
    return Crew(replicas, 1, "sgd", job, 0.0, changed.pop("warm_start_steps", 0), Path(), 1.0, 30.0, least=least, **changed)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is looked for at every turn."""
    for name in ("_ROOM_EVERY_S", "_LOOK_EVERY_S"):
        monkeypatch.setattr(f"striate.cluster.asynchronous.members.{name}", 0.0)


def begun(workshop: Workshop, crew: Crew, total: int, first: int = 0) -> tuple[Members, list[list[str]]]:
    told: list[list[str]] = []
    members = Members(workshop, crew, Leases(first, total, crew.warm_start_steps), told.append, lambda line: None)
    while not members.enough():
        members.collect()
    return members, told


def until(members: Members, reached: Callable[[], bool]) -> int:
    """Work; how many minibatches were told of."""
    told = 0
    for _ in range(2000):
        if reached():
            return told
        told += len(members.work())
    raise AssertionError([(one.name, one.stage, one.leases, one.quiet) for one in members])


HAPPENINGS = st.lists(st.tuples(st.sampled_from(["want", "kill", "forget", "turn"]), st.integers(0, 5)), max_size=25)


@example(happenings=[("want", 0), ("turn", 0), ("turn", 0), ("want", 2), ("kill", 0)], rounds=True, total=2, warm=7, keeps=0)
@example(happenings=[("turn", 0), ("turn", 0), ("forget", 2), ("turn", 0), ("kill", 0)], rounds=False, total=9, warm=0, keeps=2)
@settings(max_examples=60, deadline=None)
@given(
    happenings=HAPPENINGS, rounds=st.booleans(), total=st.integers(1, 60), warm=st.sampled_from([0, 7]), keeps=st.integers(0, 3)
)
def test_whatever_comes_and_goes_shards_have_as_many_minibatches_as_were_asked_for(
    happenings: Sequence[tuple[str, int]], rounds: bool, total: int, warm: int, keeps: int
) -> None:
    """Once each where nobody dies and no shard forgets; a step of the run each, however often it was learned from."""
    workshop = Workshop(keeps=keeps)
    members, expected = begun(workshop, crew(2, rounds=rounds, warm_start_steps=warm), total)
    deaths, forgot, told = 0, 0, 0
    for what, number in happenings:
        if what == "want":
            members.want(Wanted(1, 1 + number))
        elif what == "kill" and deaths < 4:
            living = [one for one in workshop.processes.values() if not one.dead and one.asked]
            if living:
                living[number % len(living)].dead, deaths = True, deaths + 1
        elif what == "forget":
            forgot += min(number, len(workshop.applied))
            workshop.forget(number)
            members._leases.make_up(len(workshop.applied))
        else:
            workshop.turn = number
            told += len(members.work())
    told += until(members, lambda: members.done and not members._leases.make_up(len(workshop.applied)))
    assert set(workshop.learned) == set(range(total)) and told == total == members._leases.finished == members._leases.settled
    assert len(workshop.applied) >= total and sum(workshop.learned.values()) <= total + members._leases.redone
    if not deaths:
        # What shards forgot is made up for, no more and no less.
        assert len(workshop.applied) == total and members._leases.redone == forgot and members.losses.failed == 0
    if not forgot:
        assert set(workshop.applied) == set(range(total))
    if rounds and expected:
        # At the end nobody is waited for.
        assert expected[-1] == []
    # Everybody who had learned something and is alive has said so.
    last = {name: what for name, what in _last_calls(workshop).items() if not workshop.processes[name].dead}
    assert set(last.values()) <= {"flush"}


def _last_calls(workshop: Workshop) -> dict[str, str]:
    worked = {name for name, _ in workshop.orders}
    return {name: "flush" if name in workshop.flushed else "work" for name in worked}


def test_who_is_sent_away_finishes_its_leases_says_what_it_learned_and_goes() -> None:
    workshop = Workshop()
    members, _ = begun(workshop, crew(3, least=3), 1000)
    members.work()
    had = {slot for slots in members[2].leases.values() for slot in slots}
    members.want(Wanted(1, 2))
    assert had and members[2].stage is Stage.LEAVING
    until(members, lambda: members[2].stage is Stage.GONE)
    assert workshop.flushed == ["2.1"] and all(workshop.learned[slot] == 1 for slot in had)
    assert members.losses.failed == 0 and members._leases.redone == 0
    [visit] = [one for one in members.visits.told() if one["replica"] == "2.1"]
    assert visit["how"] == "left" and visit["joined_step"] == 0 and visit["left_step"] >= len(had)


def test_a_round_does_not_wait_for_who_left_and_who_is_new_begins_with_all() -> None:
    """The shards are told a set without whoever went; and a larger one only when all others have sent everything."""
    workshop = Workshop()
    members, told = begun(workshop, crew(2, least=2, rounds=True), 10_000)
    members.work()
    assert told == [["0.1", "1.1"]] and all(order.fresh for _, order in workshop.orders)
    members.want(Wanted(1, 3))
    until(members, lambda: told[-1] == ["0.1", "1.1", "2.1"])
    assert sorted(workshop.flushed[-2:]) == ["0.1", "1.1"] and not any(name == "2.1" for name, _ in workshop.orders)
    before = len(workshop.orders)
    for _ in range(8):
        members.work()
    members.want(Wanted(1, 1))
    until(members, lambda: told[-1] == ["0.1"])
    # Their first orders after the meeting begin with fresh parameters, later ones do not.
    after = workshop.orders[before:]
    assert {name for name, order in after if order.fresh} == {"0.1", "1.1", "2.1"}
    members.work()
    assert not workshop.orders[-1][1].fresh


def test_a_round_waits_for_nobody_who_is_lost() -> None:
    """The shards are told at once: the others' pushes are in a round that would never be done."""
    workshop = Workshop()
    members, told = begun(workshop, crew(3, least=3, rounds=True), 10_000)
    members.work()
    assert told == [["0.1", "1.1", "2.1"]]
    workshop.processes["2.1"].dead = True
    while not members.losses.failed:
        members.work()
    assert told[1:] == [["0.1", "1.1"]]


def test_rates_and_threads_follow_the_crew() -> None:
    workshop = Workshop()
    settings = crew(2, least=2, rates=lambda count: Rates(1 / count, 0.0), threads=lambda count: 8 // count)
    members, _ = begun(workshop, settings, 10_000)
    members.work()
    assert {(order.rates, order.threads) for _, order in workshop.orders} == {(Rates(0.5, 0.0), 4)}
    members.want(Wanted(1, 4))
    for _ in range(40):
        members.work()
    assert {(order.rates, order.threads) for _, order in workshop.orders[-4:]} == {(Rates(0.25, 0.0), 2)}


def test_machines_that_come_are_used_and_those_that_leave_are_no_failure() -> None:
    """Room for two of three; a machine comes; then goes, ten times, and nothing is failed."""
    workshop = Workshop(room=2)
    members, _ = begun(workshop, crew(3, least=2), 100_000)
    for _ in range(20):
        members.work()
    assert [one.stage for one in members] == [Stage.HERE, Stage.HERE, Stage.WAITING]
    for number in range(10):
        workshop.machines[f"spot{number}"] = 5
        until(members, lambda: members[2].stage is Stage.HERE)
        assert members.machine(members[2]) == f"spot{number}"
        del workshop.machines[f"spot{number}"]
        workshop.processes[members[2].name].dead = True
        until(members, lambda: members[2].stage is not Stage.HERE)
    assert members.losses.gone == 10 and members.losses.failed == 0
    hows = [one["how"] for one in members.visits.told() if one["replica"].startswith("2.")]
    assert hows == ["its machine left"] * 10


def test_who_is_sent_away_with_nothing_to_do_goes_at_once() -> None:
    """It waits for the others' warm start, and has nothing to finish or to say."""
    members, _ = begun(Workshop(), crew(2, least=2, warm_start_steps=500), 1000)
    members.work()
    members.want(Wanted(1, 1))
    members.work()
    assert members[1].stage is Stage.GONE and [one.place for one in members] == [0]


def test_a_gang_has_left_if_any_of_its_machines_has() -> None:
    """Also where its process is missed before its machine is: then the loss is counted anew, and the record put right."""
    workshop = Workshop(beside="second")
    members, _ = begun(workshop, crew(1), 100_000)
    for found_late in (False, True):
        members.work()
        name = members[0].name
        workshop.processes[name].dead = True
        if not found_late:
            del workshop.machines["second"]
        until(members, lambda before=name: members[0].name != before)  # type: ignore[misc]
        if found_late:
            assert members.losses.failed == 1
            del workshop.machines["second"]
            members.work()
        hows = {one["replica"]: one["how"] for one in members.visits.told()}
        assert members.losses.failed == 0 and hows[name] == "its machine left"
        workshop.machines["second"] = 0
        until(members, lambda: members[0].stage is Stage.HERE)
    assert members.losses.gone == 2


def test_a_machine_that_leaves_later_explains_no_earlier_failure() -> None:
    times, there = iter([0.0, 80.0, 200.0]), {"a"}
    losses = Losses(lambda nodes: not there.issuperset(nodes), Visits(), lambda: next(times))
    losses.add("0.1", ["a"])
    losses.look_again()
    there.clear()
    losses.look_again()
    assert (losses.failed, losses.gone) == (1, 0)


def test_who_was_asked_nothing_has_not_been_silent() -> None:
    """A warm start longer than anybody's patience: those who waited for it are not lost when their turn comes."""
    members, _ = begun(Workshop(), replace(crew(2, least=2, warm_start_steps=3), patience_s=0.2), 1000)
    time.sleep(0.3)
    for _ in range(20):
        members.work()
    assert members.losses.failed == 0 and len(members[1].leases) > 0


def test_a_driver_that_was_away_hears_before_it_judges() -> None:
    """A checkpoint that takes longer than anybody's patience: answers lie ready, and come before anybody is given up."""

    class All(Workshop):
        def ready(self, references: list[Asked], within_s: float) -> list[Asked]:
            return [one.asked[0] for one in self.processes.values() if one.asked and one.asked[0] in references]

    members, _ = begun(All(), replace(crew(2, least=2), patience_s=0.2), 1000)
    members.work()
    time.sleep(0.3)
    members.work()
    assert members.losses.failed == 0


def test_one_that_fails_again_and_again_ends_the_run() -> None:
    workshop = Workshop()
    members, _ = begun(workshop, crew(2, least=2), 1000)
    with pytest.raises(StriateError, match="replica 1 failed 5 times in a row: its process died"):
        for _ in range(1000):
            workshop.processes[members[1].name].dead = True
            members.work()
    # The fifth ended it.
    assert members.losses.failed == 5


def test_what_no_replica_can_do_is_said_at_once() -> None:
    """Other versions, or other pictures, are no reason to try again."""

    class Elsewhere(Workshop):
        def answer(self, reference: Asked) -> Any:
            raise BadInput("striate is 0.1 there")

    with pytest.raises(BadInput, match=r"replica 0: striate is 0\.1 there"):
        begun(Elsewhere(), crew(1), 10)


def test_leases_that_come_back_are_handed_out_first_and_in_order() -> None:
    leases = Leases(10, 30, 0)
    first, second = leases.take(5), leases.take(5)
    assert (first, second, leases.following) == (list(range(10, 15)), list(range(15, 20)), 20)
    leases.give_back(second)
    leases.give_back(first[3:])
    assert leases.following is None and leases.take(4) == [13, 14, 15, 16] and leases.redone == 7
    assert leases.take(100) == [17, 18, 19] and leases.take(100) == list(range(20, 30)) and leases.all_out


def test_a_visit_is_told_by_a_clock_that_is_no_date() -> None:
    times = iter([100.0, 101.5, 103.0, 109.0])
    visits = Visits(lambda: next(times))
    visits.joined("0.1", "here", 0)
    visits.joined("1.1", "there", 7)
    visits.left("1.1", 90, "left")
    visits.left("5.1", 91, "never came")
    assert [(one["joined_s"], one["left_s"], one["how"]) for one in visits.told()] == [(1.5, None, None), (3.0, 9.0, "left")]


def test_a_shard_s_load_is_what_it_counted_between_two_moments_of_its_own_clock() -> None:
    """Two shards, of which one was begun again: its count begins anew, and so does its time."""
    loads = Loads(2)

    def told(busy_s: float, up_s: float) -> dict[str, float]:
        return {"busy_s": busy_s, "pushes": 10 * busy_s, "pushed_bytes": 400.0, "pulled_bytes": 800.0, "up_s": up_s}

    assert loads.readings() == {}
    loads.add([told(1.0, 4.0), told(2.0, 4.0)])
    assert [one["busy"] for one in loads.each()] == [0.25, 0.5]
    loads.add([told(4.0, 8.0), told(0.5, 2.0)])
    assert [one["busy"] for one in loads.each()] == [0.75, 0.25]
    assert [one["pushes_per_s"] for one in loads.each()] == [7.5, 2.5]
    assert loads.readings()["shards_busy_most"] == 0.75 and loads.readings()["shards_pushes_per_s"] == 10.0
    # Too soon to tell anything new.
    loads.add([told(4.5, 8.5), told(1.0, 2.5)])
    assert [one["busy"] for one in loads.each()] == [0.75, 0.25]
