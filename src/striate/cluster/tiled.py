"""A locally connected sparse autoencoder whose places are shared by processes: one step of all of them, equal to one process's.

Every process holds the filters of its own places and reads every picture. Borders of maps travel forwards, borders of errors
backwards (`borders.py`); what the filters learn needs nobody else, unless places share them. Benchmark: `tiles`.
Source: Le et al. 2012, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from striate.cluster.tile_costs import received_bytes
from striate.cluster.tile_filters import Held, held, known, whole
from striate.cluster.tile_stage import TileStage
from striate.cluster.tiles import Grid, Rect, plan
from striate.cluster.wire import Wire
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.sparse.net import FAINT, Chosen, begun, noise_filters
from striate.models.sparse.responses import normalise_contrast
from striate.models.sparse.spec import NetSpec
from striate.train.sparse import SparseSettings, Together, update_filters
from striate.train.updates import Rates


class TiledNet:
    """One process's part of a network of stages.

    Args:
        spec: of the network.
        grid: of processes.
        wire: to the others; one process has the whole.
        tied_decoder: rebuild with the encoder's own weights.
        pool_floor: the paper's epsilon.
        dtype: of the weights.
    """

    def __init__(
        self,
        spec: NetSpec,
        grid: Grid,
        wire: Wire,
        tied_decoder: bool = False,
        pool_floor: float = 1e-2,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.spec, self.grid, self.wire = spec, grid, wire
        self.tied_decoder, self.pool_floor = tied_decoder, pool_floor
        self.tiles = plan(spec, grid)
        self.stages = [TileStage(one, wire, tied_decoder, number == 0) for number, one in enumerate(self.tiles)]
        roles = ("encoder",) if tied_decoder else ("encoder", "decoder")
        self.held = [
            held(f"stage{number}.{role}", stage, dtype) for number, stage in enumerate(self.stages, start=1) for role in roles
        ]

    def of(self, stage: TileStage) -> list[Held]:
        """What a stage learns: its encoder, and its decoder where it has one."""
        return [one for one in self.held if one.at is stage]

    def seen(self, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Preprocessed pictures (batch, pixels): this process's tile of their maps, and all that its lowest filters see."""
        x = rows.to(self.held[0].tensor.device, dtype).view(-1, *self.spec.input).permute(2, 3, 1, 0).contiguous()
        x = normalise_contrast(x, self.spec.input_norm, crop=False)
        lowest = self.stages[0]
        return _cut(x, lowest.below.own), _cut(x, lowest.fields)

    def to(self, device: torch.device | str) -> TiledNet:
        """Move the weights; returns itself."""
        for one in self.held:
            one.tensor, one.memory = one.tensor.to(device), one.memory.to(device)
        return self

    def start(self, draws: Draws) -> TiledNet:
        """`SparseNet.start`, of own places; returns itself."""
        for number, stage in enumerate(self.stages, start=1):
            if stage.stage is not None:
                self._begin(stage, self._noise(draws, f"stage{number}", stage))
        return self

    @torch.no_grad()
    def start_from(self, rows: Tensor, draws: Draws) -> TiledNet:
        """`SparseNet.start_from`, of own places; returns itself.

        Raises:
            BadInput: places share filters: those are begun alone, and loaded.
        """
        if any(stage.spec.period for stage in self.stages):
            raise BadInput("shared filters are begun by one process: load them")
        x, picture = self.seen(rows, torch.float32)
        for number, stage in enumerate(self.stages, start=1):
            down, along = stage.tiles.sides.filtered[1:]
            field = picture if stage.lowest else stage.below.rectangle(x, stage.below.send_tile(x))
            if stage.stage is not None:
                own = stage.own
                chosen = Chosen.drawn(draws, number, stage.stage, (down, along), len(rows))
                filters = torch.stack(
                    [
                        torch.stack(
                            [chosen.seen(field, row, column, (own.top, own.left)) for column in range(own.left, own.right)]
                        )
                        for row in range(own.top, own.bottom)
                    ]
                )
                self._begin(stage, filters + FAINT * self._noise(draws, f"stage{number}/noise", stage))
            x = self.activity(stage, x, picture)
        return self

    def activity(self, stage: TileStage, x: Tensor, picture: Tensor) -> Tensor:
        """A stage's tile of what it gives on, of its tile of what it sees."""
        operands = self.of(stage)[0].operands(x.dtype)
        return stage.activity(x, picture if stage.lowest else None, operands, self.pool_floor)

    def _noise(self, draws: Draws, name: str, stage: TileStage) -> Tensor:
        assert stage.stage is not None
        period, own = stage.spec.period, stage.own
        rows, columns = stage.tiles.sides.filtered[1:]
        if period:
            banks = min(period, rows), min(period, columns)
            return noise_filters(draws.normal, name, stage.stage, banks, slice(0, banks[0]), slice(0, banks[1]))
        part = slice(own.top, own.bottom), slice(own.left, own.right)
        return noise_filters(draws.normal, name, stage.stage, (rows, columns), *part)

    def _begin(self, stage: TileStage, filters: Tensor) -> None:
        for one, given in zip(self.of(stage), begun(filters, stage.spec)):
            if one.shared:
                one.tensor.copy_(given)
            else:
                one.stage.places.lay_out(given.to(one.tensor), one.tensor)

    def load(self, state: Mapping[str, Tensor]) -> TiledNet:
        """Take own places' filters of a whole network's state; returns itself."""
        for one in self.held:
            one.put(one.tensor, known(state, one.name, one))
        return self


class TiledLearner:
    """The learner of one process, in step with the others.

    Args:
        net: changed in place.
        settings: as of the plain learner.
        schedule: step -> learning rate and momentum.
        dtype: of products and of the maps between them.
    """

    def __init__(
        self, net: TiledNet, settings: SparseSettings, schedule: Callable[[int], Rates], *, dtype: torch.dtype = torch.float32
    ) -> None:
        self.net, self.settings, self.schedule, self.dtype, self.step_number = net, settings, schedule, dtype, 0

    @property
    def finished(self) -> bool:
        """Never before its steps are done."""
        return False

    @property
    def level(self) -> int | None:
        """The stage that learns now, from 0; None where all do."""
        return self.settings.level(len(self.net.stages), self.step_number)

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """One update from preprocessed pictures (batch, pixels), all of them on every process; metrics are of the whole."""
        elsewhere = self.net.wire.profile.rest("products")
        level, rates = self.level, self.schedule(self.step_number)
        gradients, sums = self.gradients(batch)
        for one, pieces in gradients:
            self._update(one, pieces, rates)
        self.step_number += 1
        metrics = self.metrics(sums(), level)
        elsewhere()
        return metrics

    def gradients(self, batch: Tensor) -> tuple[list[tuple[Held, list[Tensor]]], Callable[[], Tensor]]:
        """Own gradients of what learns now, by piece; and what waits for the objective and its terms, of all processes."""
        level, net, settings = self.level, self.net, self.settings
        x, picture = net.seen(batch, self.dtype)
        learned: list[tuple[Held, list[Tensor]]] = []
        total, parts = torch.zeros((), device=x.device), []
        for number, stage in enumerate(net.stages):
            if level is not None and number < level:
                with torch.no_grad():
                    x = net.activity(stage, x, picture).to(self.dtype)
                continue
            if level is not None and number > level:
                break
            own = net.of(stage)
            made = [[part.detach().requires_grad_() for part in one.operands(self.dtype)] for one in own]
            field, onward = picture if stage.lowest else None, level is None and number + 1 < len(net.stages)
            terms, out = stage.terms(x, field, made[0], made[-1], net.pool_floor, onward)
            total = total + terms.reconstruction + settings.penalty(number) * terms.sparsity
            learned += zip(own, made)
            parts += [terms.reconstruction.detach(), terms.sparsity.detach(), terms.energy]
            x = (out if settings.together == "joint" else out.detach()).to(self.dtype)
        sums = net.wire.totals(torch.stack([total.detach(), *parts]).double())
        # All of it, not only what own filters need: others wait for errors of what is owned here.
        total.backward()
        return [(one, [part.grad for part in operands if part.grad is not None]) for one, operands in learned], sums

    def metrics(self, sums: Tensor, level: int | None) -> dict[str, Tensor]:
        """From sums over all processes, of a step in which a stage learned, or all."""
        metrics = {"loss": sums[0]}
        for at, (wrong, active, energy) in enumerate(sums[1:].view(-1, 3).unbind()):
            number = at if level is None else level
            pooled = self.net.stages[number].tiles.sides.pooled
            metrics[f"error{number + 1}"] = wrong / energy
            metrics[f"active{number + 1}"] = active / (pooled[0] * pooled[1] * pooled[2])
        return metrics

    @torch.no_grad()
    def _update(self, one: Held, gradients: list[Tensor], rates: Rates) -> None:
        with self.net.wire.profile.part("updates"):
            if one.shared:
                filters_of = (lambda row: row.view(-1, one.at.tiles.sides.fan_in)) if one.encodes else None
                update_filters(one.tensor, one.memory, self.summed(one, gradients), self.settings, rates, filters_of)
                return
            for piece, gradient in zip(one.at.pieces, gradients):
                tensors = piece.of(one.tensor), piece.of(one.memory), gradient.to(one.tensor.dtype)
                update_filters(*tensors, self.settings, rates, one.stage.rows if one.encodes else None)

    @torch.no_grad()
    def summed(self, one: Held, gradients: list[Tensor]) -> Tensor:
        """The gradient of filters that places share, over all processes, who ask at the same time."""
        whole = torch.zeros_like(one.tensor)
        if gradients:
            rows, columns = one.banks()
            own = one.tensor.new_empty(len(rows), len(columns), *one.tensor.shape[2:])
            one.stage.gradient(gradients[0], own)
            whole[rows[:, None], columns] = own
        return self.net.wire.sum_everywhere(whole)

    def diagnose(self) -> dict[str, float]:
        """Root mean square of each stage's encoding weights; all processes must ask at the same time."""
        found = {}
        for number, stage in enumerate(self.net.stages, start=1):
            one, wire = self.net.of(stage)[0], self.net.wire
            own = one.filters(one.tensor).double()
            sums = torch.tensor([float(own.square().sum()), float(own.numel())], dtype=torch.float64)
            sums = sums if one.shared else wire.total(sums)
            found[f"weight_rms{number}"] = float((sums[0] / sums[1]).sqrt())
        return found

    def collected(self) -> dict[str, Tensor] | None:
        """The whole network's filters by name on the first process, None on the others; asked for by all at the same time."""
        found = {one.name: whole(one, one.tensor, self.net.wire) for one in self.net.held}
        return None if self.net.wire.rank else {name: tensor for name, tensor in found.items() if tensor is not None}

    def state(self) -> dict[str, Tensor]:
        """What the plain learner keeps, on the first process; the others give their step's number alone. Asked for by all."""
        found = {"step": torch.tensor(self.step_number)}
        for one in self.net.held:
            for name, tensor in ((one.name, one.tensor), (f"{one.name}.memory", one.memory)):
                together = whole(one, tensor, self.net.wire)
                if together is not None:
                    found[name] = together
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what the first of any number of processes gave, whole on every process.

        What the others gave holds nothing to take over: of this very moment, that is no loss.

        Raises:
            BadInput: it is of another network.
        """
        if set(state) == {"step"} and int(state["step"]) == self.step_number:
            return
        for one in self.net.held:
            for name, tensor in ((one.name, one.tensor), (f"{one.name}.memory", one.memory)):
                one.put(tensor, known(state, name, one))
        self.step_number = int(state["step"])


def bytes_a_step(net: TiledNet, batch: int, itemsize: int, together: Together = "joint", level: int | None = None) -> int:
    """What a process receives in one step of training (`tile_costs`), gradients of shared filters among it."""
    borders = received_bytes(net.tiles, net.wire.rank, batch, itemsize, together, level)
    shared = sum(one.tensor.nbytes for one in net.held if one.shared and (level is None or one.at is net.stages[level]))
    return borders + 2 * (net.wire.count - 1) * shared // net.wire.count


def _cut(x: Tensor, wanted: Rect) -> Tensor:
    """A rectangle of whole maps, zeros where it reaches beyond them."""
    there = wanted & Rect(0, x.shape[0], 0, x.shape[1])
    if there == wanted:
        return x[wanted.top : wanted.bottom, wanted.left : wanted.right]
    out = x.new_zeros(wanted.height, wanted.width, *x.shape[2:])
    out[there.within(wanted)] = x[there.top : there.bottom, there.left : there.right]
    return out
