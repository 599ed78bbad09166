"""A locally connected sparse autoencoder whose places are shared by processes: one step of all of them, equal to one process's.

Every process holds the filters of its own places and reads every picture. Borders of maps travel forwards, borders of errors
backwards (`borders.py`); what the filters learn needs nobody else, unless places share them. Benchmark: `tiles`.
Source: Le et al. 2012, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.cluster.tile_costs import received_bytes
from striate.cluster.tile_stage import TileStage
from striate.cluster.tiles import Grid, Rect, plan
from striate.cluster.wire import Wire
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.sparse.net import FAINT, Chosen, Stage, begun, noise_filters
from striate.models.sparse.responses import normalise_contrast
from striate.models.sparse.spec import NetSpec
from striate.train.sparse import SparseSettings, Together, update_filters
from striate.train.updates import Rates


@dataclass
class Held:
    """A tensor that learns: this process's filters, or the filters that all processes have alike.

    Attributes:
        name: as in a network's state.
        at: its stage.
        tensor: untied filters laid out (empty where the process has no place); shared ones by bank.
        memory: what the rule remembers of each.
    """

    name: str
    at: TileStage
    tensor: Tensor
    memory: Tensor

    @property
    def encodes(self) -> bool:
        """Whether these are an encoder's."""
        return self.name.endswith("encoder")

    @property
    def shared(self) -> bool:
        """Whether places share them."""
        return self.at.spec.period > 0

    @property
    def stage(self) -> Stage:
        """The process's tile as a stage of its own."""
        assert self.at.stage is not None
        return self.at.stage

    def banks(self) -> tuple[Tensor, Tensor]:
        """Which rows and columns of all banks this process's places take, in their order."""
        edges = (min(self.at.spec.period, edge) for edge in self.at.tiles.sides.filtered[1:])
        starts = (self.at.own.top, self.at.own.left)
        own = self.stage.places.banks
        rows, columns = ((first + torch.arange(n)) % edge for first, n, edge in zip(starts, own, edges))
        return rows, columns

    def operands(self, dtype: torch.dtype) -> list[Tensor]:
        """As products want them, by piece."""
        if not self.at.pieces:
            return []
        if not self.shared:
            return [piece.of(self.tensor).to(dtype) for piece in self.at.pieces]
        rows, columns = self.banks()
        return [self.stage.operand(self.tensor[rows][:, columns], dtype)]

    def filters(self, of: Tensor) -> Tensor:
        """Of this tensor or its memory: own places' filters (rows, columns, maps, size, size, channels), or all shared ones."""
        if self.shared:
            return of.clone()
        return of if self.at.stage is None else self.stage.filters(of)

    def put(self, of: Tensor, filters: Tensor) -> None:
        """The way back: the whole stage's filters into this tensor or its memory."""
        if self.shared:
            of.copy_(filters)
        elif self.at.stage is not None:
            own = self.at.own
            self.stage.places.lay_out(filters[own.top : own.bottom, own.left : own.right].to(of), of)


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
            _held(f"stage{number}.{role}", stage, dtype) for number, stage in enumerate(self.stages, start=1) for role in roles
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
            one.put(one.tensor, _known(state, one.name, one))
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
        gradients, sums = self.gradients(batch)
        rates = self.schedule(self.step_number)
        for one, pieces in gradients:
            self._update(one, pieces, rates)
        metrics = self.metrics(sums)
        self.step_number += 1
        elsewhere()
        return metrics

    def gradients(self, batch: Tensor) -> tuple[list[tuple[Held, list[Tensor]]], Tensor]:
        """Of what learns now this process's gradients by piece, and its share of the objective and of its terms."""
        level, net, settings = self.level, self.net, self.settings
        x, picture = net.seen(batch, self.dtype)
        held: list[tuple[Held, list[Tensor]]] = []
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
            held += zip(own, made)
            parts += [terms.reconstruction.detach(), terms.sparsity.detach(), terms.energy]
            x = (out if settings.together == "joint" else out.detach()).to(self.dtype)
        # All of it, not only what own filters need: others wait for errors of what is owned here.
        total.backward()
        found = [(one, [part.grad for part in operands if part.grad is not None]) for one, operands in held]
        return found, torch.stack([total.detach(), *parts])

    def metrics(self, sums: Tensor) -> dict[str, Tensor]:
        """Of the whole network, from every process's share; asked for by all at the same time."""
        level = self.level
        whole = self.net.wire.total(sums.double())
        metrics = {"loss": whole[0]}
        for at, (wrong, active, energy) in enumerate(whole[1:].view(-1, 3).unbind()):
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
        found = {one.name: _whole(one, one.tensor, self.net.wire) for one in self.net.held}
        return None if self.net.wire.rank else {name: tensor for name, tensor in found.items() if tensor is not None}

    def state(self) -> dict[str, Tensor]:
        """What the plain learner keeps, on the first process; the others give their step's number alone. Asked for by all."""
        found = {"step": torch.tensor(self.step_number)}
        for one in self.net.held:
            for name, tensor in ((one.name, one.tensor), (f"{one.name}.memory", one.memory)):
                whole = _whole(one, tensor, self.net.wire)
                if whole is not None:
                    found[name] = whole
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
                one.put(tensor, _known(state, name, one))
        self.step_number = int(state["step"])


def bytes_a_step(net: TiledNet, batch: int, itemsize: int, together: Together = "joint", level: int | None = None) -> int:
    """What a process receives in one step of training (`tile_costs`), gradients of shared filters among it."""
    borders = received_bytes(net.tiles, net.wire.rank, batch, itemsize, together, level)
    shared = sum(one.tensor.nbytes for one in net.held if one.shared and (level is None or one.at is net.stages[level]))
    return borders + 2 * (net.wire.count - 1) * shared // net.wire.count


def _held(name: str, stage: TileStage, dtype: torch.dtype) -> Held:
    spec, sides = stage.spec, stage.tiles.sides
    if spec.period:
        banks = (min(spec.period, edge) for edge in sides.filtered[1:])
        tensor = torch.zeros(*banks, spec.maps, spec.size, spec.size, sides.seen[0], dtype=dtype)
    elif stage.stage is None:
        tensor = torch.zeros(0, 0, spec.maps, spec.size, spec.size, sides.seen[0], dtype=dtype)
    else:
        tensor = stage.stage.places.empty_operand(dtype, "cpu")
    return Held(name, stage, tensor, torch.zeros_like(tensor))


def _cut(x: Tensor, wanted: Rect) -> Tensor:
    """A rectangle of whole maps, zeros where it reaches beyond them."""
    there = wanted & Rect(0, x.shape[0], 0, x.shape[1])
    if there == wanted:
        return x[wanted.top : wanted.bottom, wanted.left : wanted.right]
    out = x.new_zeros(wanted.height, wanted.width, *x.shape[2:])
    out[there.within(wanted)] = x[there.top : there.bottom, there.left : there.right]
    return out


def _known(state: Mapping[str, Tensor], name: str, one: Held) -> Tensor:
    sides = one.at.tiles.sides
    edges = (min(one.at.spec.period, edge) if one.shared else edge for edge in sides.filtered[1:])
    wanted = (*edges, one.at.spec.maps, one.at.spec.size, one.at.spec.size, sides.seen[0])
    if name not in state or tuple(state[name].shape) != wanted:
        found = tuple(state[name].shape) if name in state else "nothing"
        raise BadInput(f"the checkpoint holds {found} for {name}, this network needs {wanted}")
    return state[name]


def _whole(one: Held, of: Tensor, wire: Wire) -> Tensor | None:
    """Everybody's filters put together on the first process."""
    own = one.filters(of)
    if one.shared or wire.count == 1:
        return own if wire.rank == 0 else None
    tiles, a_place = one.at.tiles.filtered, one.at.spec.maps * one.at.tiles.sides.fan_in
    received = wire.received
    empty = own.new_empty(0)
    outgoing = [own.reshape(-1) if to == 0 else empty for to in range(wire.count)]
    came = wire.exchange(outgoing, [tile.area * a_place if wire.rank == 0 else 0 for tile in tiles]).wait()
    # What a checkpoint moves is no part of a step.
    wire.received = received
    if wire.rank:
        return None
    out = own.new_empty(*one.at.tiles.sides.filtered[1:], *own.shape[2:])
    for tile, filters in zip(tiles, came):
        if tile.area:
            out[tile.top : tile.bottom, tile.left : tile.right] = filters.view(tile.height, tile.width, *own.shape[2:])
    return out
