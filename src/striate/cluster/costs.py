"""What a step of each algorithm of chapter 4 costs: products, passes over weights, draws, packing, bytes, messages.

The counts are exact; a machine's rates turn them into seconds. So the fastest algorithm is chosen before a run begins, and
figures of the paper's network and of today's are drawn from rates that were measured or are known. The paper's own rule,
"synchronise after each update if m h K / 8 + 4 m v K >= 4 v h" (m images, h hidden and v visible units, single precision),
compares bytes alone; here the shapes, formats, work and network at hand decide.
"""

from __future__ import annotations

from dataclasses import dataclass

from striate.cluster.layout import Mode

# Reads and writes of an activity in a half-step, from the product to the row of statistics; draws that a normal one costs.
_PASSES, _NORMAL = 16, 3
# Besides activities: metrics are summed over processes, and all agree on whether to save or stop.
_SMALL_TALK = 2


@dataclass(frozen=True)
class Problem:
    """One training step.

    Attributes:
        visible: units.
        hidden: units.
        batch: images.
        binary: whether reconstructions are drawn ones and zeros, which travel as bits.
        states: whether statistics take hidden states, which travel as bits, or means.
        k: Gibbs steps.
        itemsize: bytes of a number in products and on the wire.
        exact: bytes of a weight.
    """

    visible: int
    hidden: int
    batch: int
    binary: bool = True
    states: bool = True
    k: int = 1
    itemsize: int = 4
    exact: int = 4


@dataclass(frozen=True)
class Machine:
    """Rates of one process and of the network between them.

    Attributes:
        flops: operations/s of the products.
        memory: bytes/s of a pass over weights.
        draws: random numbers/s, compared with their means.
        packing: bytes/s that are gathered for sending or put in place.
        bandwidth: bytes/s that a process can receive while it sends as many.
        latency_s: of a message.
    """

    flops: float
    memory: float
    draws: float
    packing: float
    bandwidth: float
    latency_s: float


@dataclass(frozen=True)
class Cost:
    """Of one step of one process, in seconds; bytes are of all processes together, as received.

    Attributes:
        products: seconds in matrix products.
        updates: in passes over weights.
        activities: in passes over activities: biases, logistic functions, comparisons, rows of statistics.
        draws: in random numbers.
        packing: in gathering and placing what travels.
        network: on the wire, of which `waiting` is not hidden behind work.
        waiting: seconds.
        received: bytes.
    """

    products: float
    updates: float
    activities: float
    draws: float
    packing: float
    network: float
    waiting: float
    received: float

    @property
    def step_s(self) -> float:
        """Seconds a step."""
        return self.products + self.updates + self.activities + self.draws + self.packing + self.waiting


def cost(problem: Problem, mode: Mode, count: int, machine: Machine, parts: int = 1) -> Cost:
    """A step of one of ``count`` processes; weight synchronisation of mode `both` apart."""
    p = problem
    one = 2.0 * p.batch * p.visible * p.hidden
    learned = 2 if mode == "both" and count > 1 else 1
    # Up once, down and up k times; both phases' statistics in one product of twice the rows.
    products = one * (1 + 2 * p.k + 2 * learned) / count / machine.flops
    held = (1.0 if mode == "data" else learned / count) * p.visible * p.hidden
    traffic = held * (4 * p.exact + (p.itemsize if p.itemsize != p.exact else 0))
    hidden, visible = p.batch * p.hidden / count, p.batch * p.visible / count
    drawn = hidden * (p.k + (1 if p.states else 0)) + visible * p.k * (1 if p.binary else _NORMAL)
    touched = _PASSES * (p.k + 1) * (hidden + visible) * p.exact
    received, messages = (0.0, 0) if count == 1 else _traffic(p, mode, count)
    messages += _SMALL_TALK if count > 1 else 0
    seconds = received / count / machine.bandwidth
    work = products + traffic / machine.memory
    network = seconds + messages * parts * machine.latency_s
    waiting = max(seconds / parts, seconds - work * (parts - 1) / parts) + messages * machine.latency_s
    placed = 0.0 if count == 1 else _placed(p, mode, count)
    return Cost(
        products,
        traffic / machine.memory,
        touched / machine.memory,
        drawn / machine.draws,
        placed / machine.packing,
        network,
        waiting,
        received,
    )


def received_bytes(problem: Problem, mode: Mode, count: int) -> float:
    """Bytes that all processes together receive in a step (table 4.1 for mode `both`)."""
    return _traffic(problem, mode, count)[0] if count > 1 else 0.0


def _activities(p: Problem) -> tuple[float, float, float]:
    """Bytes of a layer of hidden states, of hidden activities in statistics, and of visible ones."""
    bits = p.batch * p.hidden / 8
    floats = float(p.batch * p.hidden * p.itemsize)
    visible = p.batch * p.visible / 8 if p.binary else float(p.batch * p.visible * p.itemsize)
    return bits, bits if p.states else floats, visible


def _traffic(p: Problem, mode: Mode, count: int) -> tuple[float, int]:
    """Bytes to all processes, and rounds of messages one after another."""
    states, statistics, visible = _activities(p)
    others = count - 1
    inputs = {"hidden": float(p.batch * p.visible * p.itemsize), "visible": float(p.batch * p.hidden * p.itemsize)}
    # States go down k times; statistics take the first and last layer, for whom the first is one of those if states are taken.
    hidden_layers = p.k * states + statistics + (0 if p.states else statistics)
    if mode == "both":
        return others * (hidden_layers + p.k * visible), 2 * p.k + 1
    if mode == "each-update":
        return others * (p.k * states + p.k * visible + p.visible * p.hidden * p.itemsize / count), 2 * p.k + 1
    if mode == "hidden":
        return others * p.k * (inputs["hidden"] + visible), 2 * p.k
    if mode == "visible":
        return others * ((p.k + 1) * inputs["visible"] + hidden_layers), 2 * p.k + 2
    return 2.0 * others * p.visible * p.hidden * p.exact, 2 * others


def _placed(p: Problem, mode: Mode, count: int) -> float:
    """Bytes that a process copies out of arrays to send, and into arrays that it received."""
    hidden, visible = p.batch * p.hidden * p.itemsize, p.batch * p.visible * p.itemsize
    if mode == "both":
        return float((p.k + 1) * hidden + p.k * visible)
    if mode == "each-update":
        return float(p.k * (hidden + visible) + 2 * p.visible * p.hidden * p.itemsize / count)
    if mode == "hidden":
        return float(3 * p.k * visible)
    if mode == "visible":
        return float((2 * (p.k + 1) + p.k + 1) * hidden)
    return 0.0
