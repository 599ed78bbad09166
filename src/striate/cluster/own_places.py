"""One process of a replica that is a gang of them: a learner of its own places' filters, which it exchanges by itself.

Every process talks to parameter shards of its own places, and nobody collects for the others: as many processes, as many ways
to the shards (Le et al. 2012, section 4.1: each machine holds its part of the model). Filters that places share (`tied`,
`tiled`) are few; the first process exchanges them, once, and hands them on before each step. `by_process` has the order in
which all of this lies in the shards.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from striate.cluster.tiled import Held, TiledLearner
from striate.cluster.wire import reached
from striate.train.exchanged import Exchanged, Layout, Slope


class OwnPlaces:
    """The learner of one process of a gang, as its replica sees it: own filters, own gradients, metrics of the whole.

    All processes of a gang take their steps together; what they exchange with shards, and when, is each one's own affair.

    Args:
        tiled: in step with the others.
    """

    finished = False

    def __init__(self, tiled: TiledLearner) -> None:
        self.tiled, self.dtype = tiled, tiled.dtype
        self._wire = tiled.net.wire
        self._shared = [one for one in tiled.net.held if one.shared]
        self._exchanged = [one for one in tiled.net.held if _places(one) and (not one.shared or self._wire.rank == 0)]

    @property
    def step_number(self) -> int:
        """The tiled learner's."""
        return self.tiled.step_number

    @step_number.setter
    def step_number(self, number: int) -> None:
        self.tiled.step_number = number

    @property
    def received(self) -> int:
        """Bytes that came from the other processes of the gang since `tare`."""
        return self._wire.received

    def tare(self) -> None:
        """Count from here."""
        self._wire.received = 0

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """One update of own filters, in step with the others."""
        self._hand_on()
        return self.tiled.step(batch)

    def slope(self, batch: Tensor) -> Slope:
        """What a step would learn from, of own filters; tensors that do not learn now have a gradient of zero."""
        self._hand_on()
        gradients, sums = self.tiled.gradients(batch)
        found = {one.name: self._as_kept(one, pieces) for one, pieces in gradients}
        rates, metrics = self.tiled.schedule(self.step_number), self.tiled.metrics(sums(), self.tiled.level)
        self.step_number += 1
        zero = torch.zeros((), device=batch.device)
        return Slope(metrics, [found.get(one.name, zero.expand(one.tensor.shape)) for one in self._exchanged], rates)

    def _as_kept(self, one: Held, pieces: list[Tensor]) -> Tensor:
        """A gradient laid out as the filters are."""
        if one.shared:
            return self.tiled.summed(one, pieces)
        if len(pieces) == 1:
            return pieces[0].to(one.tensor.dtype)
        out = torch.zeros_like(one.tensor)
        for piece, gradient in zip(one.at.pieces, pieces):
            piece.of(out).copy_(gradient)
        return out

    def _hand_on(self) -> None:
        """Shared filters are the first process's: it alone hears what has become of them."""
        if self._wire.count == 1:
            return
        for one in self._shared:
            with self._wire.profile.part("waiting"), reached():
                dist.broadcast(one.tensor, 0)
            self._wire.received += one.tensor.nbytes if self._wire.rank else 0

    def exchanged(self) -> list[Exchanged]:
        """Own places' filters; shared ones on the first process."""
        unit = self.tiled.settings.unit
        return [
            Exchanged(
                one.name,
                one.tensor,
                one.at.tiles.sides.fan_in if unit and one.encodes else 0,
                one.memory,
                None if one.shared else _own_layout(one),
            )
            for one in self._exchanged
        ]

    def refresh(self) -> None:
        """Nothing is kept beside the filters."""

    def diagnose(self) -> dict[str, float]:
        """The driver looks at the whole."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What this process holds, as it holds it; see `whole` for what others can go on with."""
        found = {"step": torch.tensor(self.step_number)}
        for one in self.tiled.net.held:
            found |= {one.name: one.tensor, f"{one.name}.memory": one.memory}
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        for one in self.tiled.net.held:
            one.tensor.copy_(state[one.name])
            one.memory.copy_(state[f"{one.name}.memory"])
        self.step_number = int(state["step"])

    def leave(self) -> None:
        """See `Wire.leave`."""
        self._wire.leave()

    def whole(self) -> dict[str, Tensor]:
        """As `TiledLearner.state`: all of it on the first process; asked for by all at the same time."""
        return self.tiled.state()


def _places(one: Held) -> bool:
    return one.shared or one.at.stage is not None


def _own_layout(one: Held) -> Layout:
    places = one.stage.places
    return Layout((*places.banks, *one.stage.filter_shape), places.gather, places.lay_out)
