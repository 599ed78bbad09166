"""The replicas that are there: they come as there is room, are handed leases of minibatches, are heard, and go.

Who goes in order finishes its leases and sends what it has to say. Who is lost, or whose machine is gone, gives back what it
had and had not sent; another takes its place, when there is room.

In rounds everybody waits for everybody, so who is new begins together with the others: these get no more leases, send what is
left, and all begin from the shards' parameters at one moment. Otherwise shards would disagree on which round is whose.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from striate.cluster.asynchronous.actors import Report
from striate.cluster.asynchronous.crew import Crew, Wanted
from striate.cluster.asynchronous.leases import READY, Leases
from striate.cluster.asynchronous.losses import LEFT, Losses
from striate.cluster.asynchronous.member import Member, Stage
from striate.cluster.asynchronous.starting import Lost, Starting
from striate.cluster.asynchronous.visits import Visits
from striate.errors import BadInput, StriateError

_LOOK_EVERY_S, _ROOM_EVERY_S = 0.5, 0.1
_TRIES = 5
# Who has just been given room loads everything first; slowly where all do at once. Nobody waits for it meanwhile.
_LOADING_S = 300.0


class Members:
    """All places.

    Args:
        starter: begins replicas, hears them and ends them.
        crew: see there.
        leases: what there is to learn from.
        expect: told who takes part in rounds, whenever that changes.
        say: told of who comes and goes.

    Attributes:
        losses: of replicas, and of their machines.
        visits: who was there when.
        wanted: how many there should be.
        crew: the settings; what orders say of them may change.
    """

    def __init__(
        self,
        starter: Starting,
        crew: Crew,
        leases: Leases,
        expect: Callable[[list[str]], None],
        say: Callable[[str], None],
    ) -> None:
        self._starter, self.crew, self._leases, self._expect, self._say = starter, crew, leases, expect, say
        self._members: list[Member] = []
        self._round: set[str] = set()
        self._looked_s = 0.0
        self.visits = Visits()
        self.losses = Losses(starter.machine_left, self.visits)
        self.want(crew.wanted)

    def __iter__(self) -> Iterator[Member]:
        """Everybody who is there, coming or going."""
        return (member for member in self._members if member.stage is not Stage.GONE)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, place: int) -> Member:
        return self._members[place]

    def at(self, *stages: Stage) -> list[Member]:
        """Members at these stages."""
        return [member for member in self._members if member.stage in stages]

    def want(self, wanted: Wanted) -> None:
        """So many from now on: others are asked for, or those who came last are sent away."""
        self.wanted = wanted
        staying = self.at(Stage.WAITING, Stage.LOADING, Stage.HERE)
        for member in sorted(staying, key=_last_to_stay)[wanted.most :]:
            self._send_away(member)
        for _ in range(wanted.most - len(staying)):
            self._begin(self._vacant())

    def _vacant(self) -> Member:
        for member in self._members:
            if member.stage is Stage.GONE:
                return member
        self._members.append(Member(len(self._members)))
        return self._members[-1]

    def _begin(self, member: Member) -> None:
        """Ask for somebody for a place."""
        member.lives += 1
        member.begins(self._starter.begin(member.name))

    def _send_away(self, member: Member) -> None:
        """In order: it finishes what it has, and says what it has learned."""
        if member.stage is Stage.HERE:
            member.stage = Stage.LEAVING
        else:
            self._end(member, "not wanted any more")

    def _end(self, member: Member, how: str) -> None:
        self.visits.left(member.name, self._leases.finished, how)
        self._starter.end(member.name, member.actor)
        member.ends()
        self._leave_round(member)

    def active(self) -> list[Member]:
        """Who is to learn: one alone for a warm start; then all."""
        here = self.at(Stage.HERE)
        return here[:1] if self._leases.warming else here

    @property
    def done(self) -> bool:
        """Whether everything that was learned is in the shards, and nothing is left to learn from."""
        return self._leases.all_out and all(member.quiet for member in self.at(Stage.HERE, Stage.LEAVING))

    def enough(self) -> bool:
        """Whether as many are there as a sitting needs to begin."""
        return len(self.at(Stage.HERE)) >= self.wanted.least

    def work(self) -> list[dict[str, float]]:
        """Hand out leases, and wait a little for reports; the metrics of minibatches in them.

        Raises:
            StriateError: replicas die as soon as they begin.
        """
        self._hand_out()
        return self.collect()

    def _hand_out(self) -> None:
        """Leases to whoever has too few; whoever gets none has nothing left to do, and sends what is left."""
        active = self.active()
        if self.crew.job.pace.rounds and not self._leases.all_out and not self._round.issuperset(one.name for one in active):
            self._meet(active)
        else:
            for _ in range(READY):
                for member in active:
                    if len(member.leases) < READY:
                        self._lease(member, len(active))
        for member in self.at(Stage.HERE, Stage.LEAVING):
            if member not in active:
                self._flush(member)

    def _meet(self, active: list[Member]) -> None:
        """In rounds, with somebody new: when everybody has sent everything, all begin together."""
        for member in active:
            self._flush(member)
        if all(member.quiet for member in self.at(Stage.HERE, Stage.LEAVING)):
            self._round = {member.name for member in active}
            self._expect(sorted(self._round))
            for member in active:
                member.behind = True

    def _lease(self, member: Member, active: int) -> None:
        slots = self._leases.take(self._leases.length(member.step_s, active))
        if not slots:
            self._flush(member)
            return
        order = self.crew.order(slots, self._leases.following, active, member.behind)
        member.ordered(member.actor.work.remote(order), slots)

    def _flush(self, member: Member) -> None:
        if member.quiet:
            self._quiet(member)
        elif not member.leases and member.flushing is None:
            member.flushes()

    def _leave_round(self, member: Member) -> None:
        """Rounds wait for those who take part, and for nobody else."""
        if member.name in self._round:
            self._round.discard(member.name)
            self._expect(sorted(self._round))

    def collect(self) -> list[dict[str, float]]:
        """Wait for a report, or for what makes one impossible."""
        looks = self._looks()
        if looks:
            self._look_for_room()
        waiting = {reference: member for member in self for reference in member.awaited}
        if not waiting:
            # Nobody has room.
            time.sleep(_ROOM_EVERY_S)
            return []
        learned = []
        for reference in self._starter.ready(list(waiting), _LOOK_EVERY_S):
            member = waiting[reference]
            # The other leases of one that is lost fail with it, and may be ready, too.
            if reference in member.awaited:
                learned += self._hear(member, reference)
        if looks:
            # Only now: this process may itself have been away for long.
            self._look_for_silence()
        return learned

    def _hear(self, member: Member, reference: Any) -> list[dict[str, float]]:
        try:
            answer = self._starter.answer(reference)
        except BadInput as error:
            raise BadInput(f"replica {member.place}: {error}") from None
        except Lost as error:
            self._replace(member, str(error), error.mistake)
            return []
        member.hears()
        if reference is member.loading:
            self._welcome(member)
        elif isinstance(answer, Report):
            return self._learned(member, reference, answer)
        else:
            self._leases.settle(member.flushed(answer))
            if member.quiet:
                self._quiet(member)
        return []

    def _quiet(self, member: Member) -> None:
        """It has nothing to say: a round would wait for it in vain; and if it is to leave, it may."""
        self._leave_round(member)
        if member.stage is Stage.LEAVING:
            self._end(member, "left")
            self._say(f"replica {member.place} has left")

    def _welcome(self, member: Member) -> None:
        member.arrives()
        self.visits.joined(member.name, self.machine(member) or "", self._leases.finished)
        if member.lives > 1 or self._leases.begun:
            self._say(f"replica {member.place} has joined")

    def _learned(self, member: Member, reference: Any, report: Report) -> list[dict[str, float]]:
        slots = member.leases.pop(reference)
        self._leases.settle(member.learned(report, slots))
        # A minibatch is one step, however often it has to be learned from.
        return [metrics for metrics, new in zip(report.metrics, self._leases.learned(slots), strict=True) if new]

    def _replace(self, member: Member, why: str, mistake: bool = False) -> None:
        """Somebody else for a place whose holder is lost; what it had, or had not sent, is handed out again."""
        if mistake and not self.visits.told():
            raise StriateError(f"replica {member.place}: {why}")
        leaving, loss = member.stage is Stage.LEAVING, self.losses.add(member.name, member.nodes)
        member.losses.append(loss)
        if sum(not one.left for one in member.losses) >= _TRIES:
            raise StriateError(f"replica {member.place} failed {_TRIES} times in a row: {why}")
        for slots in member.leases.values():
            self._leases.give_back(slots)
        self._leases.give_back(member.unsaid, told=True)
        how = LEFT if loss.left else why
        self._end(member, how if loss.left else f"lost: {how}")
        said = f"as it left ({how})" if leaving else f"({how}); another takes its place"
        self._say(f"replica {member.place} was lost {said}")
        if not leaving:
            self._begin(member)

    def _looks(self) -> bool:
        """Whether it is time to."""
        now = time.monotonic()
        if now - self._looked_s < (_ROOM_EVERY_S if self.at(Stage.WAITING) else _LOOK_EVERY_S):
            return False
        self._looked_s = now
        return True

    def _look_for_room(self) -> None:
        """Who has been given some; and whose machine is found to be gone."""
        for member in self.at(Stage.WAITING):
            nodes = self._starter.placed(member.name)
            if nodes is not None:
                member.placed(nodes)
        self.losses.look_again()

    def _look_for_silence(self) -> None:
        now = time.monotonic()
        for member in self.at(Stage.LOADING, Stage.HERE, Stage.LEAVING):
            patience = max(self.crew.patience_s, _LOADING_S if member.stage is Stage.LOADING else 0.0)
            if member.awaited and now - member.heard_s > patience:
                self._replace(member, f"silent for {patience:.0f} s")

    def machine(self, member: Member) -> str | None:
        """Where it is, as people call it; None: it has no room yet."""
        return self._starter.machine(member.nodes[0]) if member.nodes else None

    def steps_per_s(self) -> dict[int, float]:
        """Minibatches a second by place, of those who have learned from any."""
        return {member.place: member.steps / member.seconds for member in self if member.seconds}

    def exchanged(self) -> Counter[str]:
        """Pulls, pushes and bytes of all, as last heard."""
        return sum((member.exchanged for member in self._members), Counter[str]())

    def close(self) -> None:
        """End all."""
        for member in self:
            self._starter.end(member.name, member.actor)


def _last_to_stay(member: Member) -> tuple[bool, int]:
    return member.stage is not Stage.HERE, member.place
