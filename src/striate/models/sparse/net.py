"""The network: stages of filters with their decoders, what they give, and the objective that trains them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.sparse.filtering import autoencode, encode
from striate.models.sparse.places import Places, best_block
from striate.models.sparse.responses import normalise_contrast, padded, pool
from striate.models.sparse.shapes import Sides, sides
from striate.models.sparse.spec import NetSpec, StageSpec

# The batch that blocks of places are chosen for.
_BATCH = 64


class Stage:
    """One stage's filters, laid out for products.

    Args:
        sides: its shapes.
        block: places that are multiplied together; by default what should be fastest.

    Attributes:
        encoder: W1, float32. Untied filters are kept as they are multiplied (`Places.operand_shape`); shared ones as
            (rows, columns of banks, maps, size, size, channels).
        decoder: W2, the same; None where the encoder serves upside down.
    """

    def __init__(self, sides: Sides, tied_decoder: bool = False, block: tuple[int, int] | None = None) -> None:
        spec, pad = sides.stage, sides.stage.pad
        channels, height, width = sides.seen
        places = Places((channels, height + pad, width + pad), spec.size, spec.stride, spec.maps, spec.period)
        self.sides, self.spec = sides, spec
        if block is None:
            self.places = best_block(places, _BATCH)
        else:
            self.places = Places(places.shape, places.size, places.stride, places.maps, places.period, block)
        self.encoder = self._zeros()
        self.decoder = None if tied_decoder else self._zeros()

    def _zeros(self) -> Tensor:
        if self.places.period:
            return torch.zeros(*self.places.banks, *self.filter_shape)
        return self.places.empty_operand(torch.float32, "cpu")

    @property
    def filter_shape(self) -> tuple[int, int, int, int]:
        """(maps, size, size, channels) of a place's filters."""
        return self.spec.maps, self.spec.size, self.spec.size, self.sides.seen[0]

    @property
    def decoder_or_encoder(self) -> Tensor:
        """What rebuilds."""
        return self.encoder if self.decoder is None else self.decoder

    def set_filters(self, encoder: Tensor, decoder: Tensor | None = None) -> None:
        """Take filters (rows, columns of banks, maps, size, size, channels); a decoder left out is the encoder's copy."""
        for held, given in ((self.encoder, encoder), (self.decoder, encoder if decoder is None else decoder)):
            if held is None:
                continue
            if self.places.period:
                held.copy_(given)
            else:
                self.places.lay_out(given.to(held.device), held)

    def place_of(self, bank: int | Tensor, axis: int, turn: Tensor) -> Tensor:
        """Rows (axis 0) or columns (1) of places, of those that share a bank; turns in [0, 1) say which."""
        period, edge = self.places.period, self.places.grid[axis]
        if not period:
            return torch.as_tensor(bank, device=turn.device) + torch.zeros_like(turn, dtype=torch.int64)
        sharing = (edge - bank + period - 1) // period
        return bank + period * (turn.double() * sharing).long()

    def filters(self, of: Tensor | None = None) -> Tensor:
        """Filters of the encoder, or of a tensor kept like it: (rows, columns of banks, maps, size, size, channels)."""
        held = self.encoder if of is None else of
        if self.places.period:
            return held.clone()
        out = held.new_empty(*self.places.banks, *self.filter_shape)
        self.places.gather(held, out)
        return out

    def operand(self, held: Tensor, dtype: torch.dtype) -> Tensor:
        """A kept tensor as products want it."""
        if not self.places.period:
            return held.to(dtype)
        out = self.places.empty_operand(dtype, held.device)
        self.places.lay_out(held.to(dtype), out)
        return out

    def gradient(self, of_operand: Tensor, out: Tensor) -> None:
        """The gradient of what is kept, from that of what was multiplied."""
        if self.places.period:
            self.places.gather(of_operand.float(), out)
        else:
            out.copy_(of_operand)

    def rows(self, held: Tensor) -> Tensor:
        """One filter a row."""
        return held.view(-1, held.shape[-1]) if not self.places.period else held.view(-1, self.sides.fan_in)

    def to(self, device: torch.device | str) -> None:
        """Move the weights."""
        self.encoder = self.encoder.to(device)
        self.decoder = None if self.decoder is None else self.decoder.to(device)


@dataclass(frozen=True)
class Terms:
    """One stage's objective, means over pictures of sums.

    Attributes:
        reconstruction: squared error of the maps it sees.
        sparsity: sum of pooled activities.
        energy: squares of the maps it sees: what `reconstruction` is to be held against.
    """

    reconstruction: Tensor
    sparsity: Tensor
    energy: Tensor


class SparseNet:
    """A stack of stages.

    Args:
        spec: its description.
        tied_decoder: rebuild with the encoder's own weights (reconstruction ICA) rather than with others.
        pool_floor: the paper's epsilon under the root of pooled activities.

    Raises:
        BadInput: stages that do not fit into one another.
    """

    def __init__(self, spec: NetSpec, tied_decoder: bool = False, pool_floor: float = 1e-2) -> None:
        self.spec, self.tied_decoder, self.pool_floor = spec, tied_decoder, pool_floor
        self.stages = [Stage(one, tied_decoder) for one in sides(spec)]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.stages[0].encoder.device

    def to(self, device: torch.device | str) -> SparseNet:
        """Move the weights; returns itself."""
        for stage in self.stages:
            stage.to(device)
        return self

    def start(self, draws: Draws) -> SparseNet:
        """Random filters of norm one; the decoder's are the same, shorter where fields overlap so that what it rebuilds is
        about as large as what is there. Returns itself.
        """
        for number, stage in enumerate(self.stages, start=1):
            down, along = stage.places.banks
            noise = noise_filters(draws.normal, f"stage{number}", stage, (down, along), slice(0, down), slice(0, along))
            stage.set_filters(*begun(noise, stage.spec))
        return self

    def start_from(self, rows: Tensor, draws: Draws) -> SparseNet:
        """Filters of norm one that are what each place sees of one of some pictures, less its mean; returns itself.

        Noise that no picture has in it then need not be unlearned, which sparse rebuilding hardly does.

        Args:
            rows: preprocessed pictures (n, pixels), more than there are maps.
            draws: which picture for which filter, and from which of the places that share it.
        """
        for number, stage in enumerate(self.stages, start=1):
            x = self.maps(rows) if number == 1 else self.activities(rows, [f"norm{number - 1}"])[f"norm{number - 1}"]
            x = padded(x, stage.spec.pad)
            down, along = stage.places.banks
            chosen = Chosen.drawn(draws, number, stage, (down, along), len(rows))
            filters = torch.empty(down, along, *stage.filter_shape)
            for row in range(down):
                for column in range(along):
                    filters[row, column] = chosen.seen(x, row, column)
            noise = noise_filters(draws.normal, f"stage{number}/noise", stage, (down, along), slice(0, down), slice(0, along))
            stage.set_filters(*begun(filters + FAINT * noise, stage.spec))
        return self

    def maps(self, rows: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Preprocessed pictures (batch, pixels) as maps (height, width, channels, batch)."""
        x = rows.to(self.device, dtype).view(-1, *self.spec.input).permute(2, 3, 1, 0).contiguous()
        return normalise_contrast(x, self.spec.input_norm, crop=False)

    def activities(self, rows: Tensor, layers: Sequence[str], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Named layers (`filter1`, `pool1`, `norm1`, `filter2`, ...), each (height, width, maps, batch)."""
        found: dict[str, Tensor] = {}
        x = self.maps(rows, dtype)
        for number, stage in enumerate(self.stages, start=1):
            h = encode(padded(x, stage.spec.pad), stage.operand(stage.encoder, dtype), stage.places)
            pooled, x = respond(h, stage.spec, self.pool_floor)
            for name, made in ((f"filter{number}", h), (f"pool{number}", pooled), (f"norm{number}", x)):
                if name in layers:
                    found[name] = made
            if len(found) == len(set(layers)):
                break
        return found

    def state(self) -> dict[str, Tensor]:
        """Filters by name, (rows, columns of banks, maps, size, size, channels), in whatever blocks they are multiplied."""
        found = {}
        for number, stage in enumerate(self.stages, start=1):
            found[f"stage{number}.encoder"] = stage.filters()
            if stage.decoder is not None:
                found[f"stage{number}.decoder"] = stage.filters(stage.decoder)
        return found

    def load(self, state: Mapping[str, Tensor]) -> SparseNet:
        """Take over what `state` gave; returns itself.

        Raises:
            BadInput: it is another network's.
        """
        for name, known in self.state().items():
            if name not in state or state[name].shape != known.shape:
                found = tuple(state[name].shape) if name in state else "nothing"
                raise BadInput(f"{name} is {found}, this network needs {tuple(known.shape)}")
        for number, stage in enumerate(self.stages, start=1):
            stage.set_filters(state[f"stage{number}.encoder"], state.get(f"stage{number}.decoder"))
        return self


# Of noise beside what places see of pictures: flat windows have nothing to give.
FAINT = 0.01


def noise_filters(
    normal: Callable[..., Tensor], name: str, stage: Stage, banks: tuple[int, int], rows: slice, columns: slice
) -> Tensor:
    """Random filters of some rows and columns of a stage's banks, (rows, columns, maps, size, size, channels).

    Args:
        normal: draws of a name (`Draws.normal`).
        name: of the draws.
        stage: whose filters; its banks may be some of all.
        banks: rows and columns of all banks.
        rows, columns: which of them.
    """
    maps, fan_in = stage.spec.maps, stage.sides.fan_in
    shape, wide = (banks[0] * banks[1] * maps, fan_in), columns.stop - columns.start
    if wide == banks[1]:
        part = (slice(rows.start * wide * maps, rows.stop * wide * maps), slice(0, fan_in))
        found = normal(name, shape, part=None if rows.stop - rows.start == banks[0] else part)
        return found.view(-1, wide, *stage.filter_shape)
    out = torch.empty(rows.stop - rows.start, wide, *stage.filter_shape)
    for number, row in enumerate(range(rows.start, rows.stop)):
        part = (slice((row * banks[1] + columns.start) * maps, (row * banks[1] + columns.stop) * maps), slice(0, fan_in))
        out[number] = normal(name, shape, part=part).view(wide, *stage.filter_shape)
    return out


def begun(filters: Tensor, spec: StageSpec) -> tuple[Tensor, Tensor]:
    """Filters (rows, columns, maps, size, size, channels) made of norm one, and the decoder's to go with them."""
    filters = filters / filters.flatten(3).norm(dim=3)[..., None, None, None]
    # A pixel lies in (size / stride)^2 fields of `maps` filters, whose squared weights on it are 1 / fan_in each.
    covered = spec.maps * (spec.size / spec.stride) ** 2 / filters[0, 0, 0].numel()
    return filters, filters / max(covered, 1.0)


@dataclass(frozen=True)
class Chosen:
    """Which picture each first filter is taken from, and from which of the places that share it.

    Attributes:
        stage: whose filters.
        which: pictures (rows, columns of banks, maps).
        turns: in [0, 1), (2, rows, columns of banks, maps).
    """

    stage: Stage
    which: Tensor
    turns: Tensor

    @staticmethod
    def drawn(draws: Draws, number: int, stage: Stage, banks: tuple[int, int], pictures: int) -> Chosen:
        """For all banks of the stage of a number."""
        maps = stage.spec.maps
        which = (draws.uniform(f"stage{number}/picture", (*banks, maps)) * pictures).long()
        return Chosen(stage, which, draws.uniform(f"stage{number}/place", (2, *banks, maps)))

    def seen(self, x: Tensor, row: int, column: int, corner: tuple[int, int] = (0, 0)) -> Tensor:
        """What a bank sees of its pictures, less its mean, (maps, size, size, channels).

        Args:
            x: what the stage sees, padded, (height, width, channels, pictures), or a rectangle of it.
            row, column: of the bank.
            corner: the rectangle's first place, in places of filters.
        """
        spec, found = self.stage.spec, []
        tops, lefts = (
            ((self.stage.place_of(at, axis, self.turns[axis, row, column]) - first) * spec.stride).tolist()
            for axis, (at, first) in enumerate(zip((row, column), corner))
        )
        for one, (top, left) in enumerate(zip(tops, lefts)):
            window = x[top : top + spec.size, left : left + spec.size, :, self.which[row, column, one]]
            found.append(window - window.mean())
        return torch.stack(found)


def respond(h: Tensor, stage: StageSpec, pool_floor: float) -> tuple[Tensor, Tensor]:
    """What the filters' answers become: pooled activities, and those normalised, which the next stage sees."""
    pooled = pool(h, stage.pool, stage.pool_stride, stage.pool_maps, pool_floor, stage.pool_pad, stage.pool_group)
    return pooled, normalise_contrast(pooled, stage.norm, stage.norm_floor, stage.norm_edges == "crop")


def stage_terms(stage: Stage, x: Tensor, encoder: Tensor, decoder: Tensor, pool_floor: float) -> tuple[Terms, Tensor]:
    """One stage's objective and what it gives to the next stage; differentiable.

    Args:
        stage: its shapes.
        x: what it sees, (height, width, channels, batch).
        encoder: laid out, of x's dtype.
        decoder: the same.
        pool_floor: the paper's epsilon.
    """
    count = x.shape[3]
    inputs = padded(x, stage.spec.pad)
    h, rebuilt = autoencode(inputs, encoder, decoder, stage.places)
    # Only what is there is to be rebuilt, not the zeros around it.
    before, (height, width) = stage.spec.pad // 2, x.shape[:2]
    wrong = rebuilt[before : before + height, before : before + width] - x
    pooled, out = respond(h.float() if h.dtype == torch.bfloat16 else h, stage.spec, pool_floor)
    terms = Terms(wrong.square().sum() / count, pooled.sum() / count, x.detach().float().square().sum() / count)
    return terms, out
