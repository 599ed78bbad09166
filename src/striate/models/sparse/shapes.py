"""What a network of stages will hold and cost, by arithmetic, before anything is made."""

from __future__ import annotations

from dataclasses import dataclass

from striate.errors import BadInput
from striate.models.sparse.spec import NetSpec, StageSpec


@dataclass(frozen=True)
class Sides:
    """One stage's shapes, each (maps, height, width).

    Attributes:
        stage: its description.
        seen: what it sees, without padding.
        filtered: after filtering.
        pooled: after pooling.
        output: after contrast normalisation.
    """

    stage: StageSpec
    seen: tuple[int, int, int]
    filtered: tuple[int, int, int]
    pooled: tuple[int, int, int]
    output: tuple[int, int, int]

    @property
    def banks(self) -> int:
        """Places with filters of their own."""
        period = self.stage.period
        rows, columns = self.filtered[1:]
        return rows * columns if period == 0 else min(period, rows) * min(period, columns)

    @property
    def fan_in(self) -> int:
        """Inputs of one filter."""
        return self.seen[0] * self.stage.size**2

    @property
    def weights(self) -> int:
        """Of the encoder; the decoder has as many."""
        return self.banks * self.stage.maps * self.fan_in

    @property
    def connections(self) -> int:
        """Multiplications of one encoding."""
        return self.filtered[0] * self.filtered[1] * self.filtered[2] * self.fan_in


def sides(spec: NetSpec) -> list[Sides]:
    """Each stage's shapes.

    Raises:
        BadInput: a stage's field, pool or window is larger than what it sees, or strides leave places unseen.
    """
    found: list[Sides] = []
    seen = spec.input
    for number, stage in enumerate(spec.stages, start=1):
        filtered = _after(seen[1:], stage.size, stage.stride, stage.pad, f"stage {number}: receptive fields")
        pooled = _after(filtered, stage.pool, stage.pool_stride, stage.pool_pad, f"stage {number}: pools")
        cut = stage.norm - 1 if stage.norm and stage.norm_edges == "crop" else 0
        output = tuple(edge - cut for edge in pooled)
        if min(output) < 1:
            raise BadInput(
                f"stage {number}: contrast normalisation of {stage.norm}x{stage.norm} leaves nothing of {pooled[0]}x{pooled[1]}"
                " maps: use a smaller norm, or norm_edges keep"
            )
        found.append(Sides(stage, seen, (stage.maps, *filtered), (stage.pools, *pooled), (stage.pools, output[0], output[1])))
        seen = found[-1].output
    return found


def _after(edges: tuple[int, ...], size: int, stride: int, pad: int, what: str) -> tuple[int, int]:
    after = []
    for edge in edges:
        left = edge + pad - size
        if left < 0:
            raise BadInput(f"{what} of {size}x{size} do not fit into {edges[0]}x{edges[1]}, padded by {pad}")
        if left % stride:
            raise BadInput(
                f"{what} of {size}x{size} with stride {stride} do not tile {edges[0]}x{edges[1]} padded by {pad}: "
                f"{left % stride} of {edge} would never be seen"
            )
        after.append(left // stride + 1)
    return after[0], after[1]


@dataclass(frozen=True)
class Costs:
    """What training takes.

    Attributes:
        encoder: weights of all encoders.
        parameters: those of encoders and decoders.
        flops: of one picture, for a step of training: encode, decode, both gradients of weights, both ways of errors.
        parameter_bytes: parameters, optimiser, gradients and copies for products.
        activity_bytes: kept between the forward and the backward pass, for a batch.
    """

    encoder: int
    parameters: int
    flops: float
    parameter_bytes: int
    activity_bytes: int


def costs(spec: NetSpec, batch: int, operand_bytes: int = 4, decoders: int = 1) -> Costs:
    """The arithmetic of a network (docs/sparse.md, Cost).

    Args:
        spec: of the network.
        batch: pictures in a step.
        operand_bytes: 2 where products take bfloat16, whose copies of the weights are kept besides.
        decoders: 0 where the decoder is the encoder upside down.
    """
    stages = sides(spec)
    encoder = sum(one.weights for one in stages)
    parameters = encoder * (1 + decoders)
    # Each of six passes multiplies and adds once a connection; the lowest stage passes no error on.
    flops = sum(2.0 * one.connections * (6 if number else 5) for number, one in enumerate(stages))
    copies = operand_bytes if operand_bytes < 4 else 0
    # Master, accumulator, gradient.
    held = parameters * (4 + 4 + 4 + copies)
    kept = sum(_units(one.seen) * 2 + _units(one.filtered) * 2 + _units(one.pooled) * 3 + _units(one.output) for one in stages)
    return Costs(encoder, parameters, flops, held, kept * batch * 4)


def _units(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]
