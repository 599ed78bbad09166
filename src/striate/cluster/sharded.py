"""Contrastive divergence by several processes that share one RBM. Source: Krizhevsky 2009, chapter 4.

Every process owns some hidden and some visible units and works out their activities; all that travels is activities, as single
bits where they are binary. What a process holds of the weights says which algorithm it is:

- ``rows``, of its hidden units to all visible ones: hidden activities need no exchange of inputs; visible ones must reach all.
- ``columns``, of all hidden units to its visible ones: the other way round.
- both (section 4.2): everything is worked out from activities alone, and most weights are learned twice.

With only one of the two, the other layer's inputs are sums over processes, who send one another their parts (section 4.5).
Draws are keyed by unit and example, so that K processes draw what one would. The plain learner (`striate.train.contrastive`)
is the same algorithm in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from striate.cluster.copies import Copies
from striate.cluster.halves import Done, Halves, Layer, at_once
from striate.cluster.keeping import joined, load_shares, vectors
from striate.cluster.layout import Layout
from striate.cluster.room import Room, Widths
from striate.cluster.slices import length, slices
from striate.cluster.wire import Wire
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import RBM, Bernoulli, Gaussian
from striate.train.cd_settings import ALWAYS_ON, DEAD, CDSettings, Schedule
from striate.train.sigma import SigmaUpdate
from striate.train.updates import BiasUpdate, Rates


class ShardedLearner:
    """Trains one RBM by CD-k or PCD-k, together with the other processes' learners.

    Args:
        rbm: the whole model, the same everywhere.
        settings: how statistics are taken.
        schedule: step -> learning rate and momentum.
        wire: to the other processes.
        layout: who holds what.
        seed: of the sampling stream.
        dtype: the products' operands: float32, bfloat16, or float64, which makes parameters float64 too.

    Raises:
        BadInput: settings that need one process, or more processes than units.
    """

    def __init__(
        self,
        rbm: RBM,
        settings: CDSettings,
        schedule: Schedule,
        wire: Wire,
        layout: Layout,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        _check(settings, rbm)
        self.settings, self.schedule, self.dtype = settings, schedule, dtype
        self.layout, self.wire = layout, wire
        self.step_number = 0
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        self._draws = Draws(seed, purpose="sampling/")
        # Processes share either units or examples.
        self._readers = wire.count if layout.mode == "data" else 1
        sharers, place = (1, 0) if layout.mode == "data" else (wire.count, wire.rank)
        hidden, visible = slices(rbm.num_hidden, sharers, "hidden units"), slices(rbm.num_visible, sharers, "visible units")
        units = rbm.units
        gaussian = isinstance(units, Gaussian)
        self.sigma: Tensor | None = None
        if isinstance(units, Gaussian):
            self.sigma = units.sigma.detach().to(exact).expand(rbm.num_visible).clone()
        self.deviations = SigmaUpdate(self.sigma) if self.sigma is not None and settings.sigma_rate else None
        self.copies = Copies(rbm.weights.detach(), hidden, visible, wire, layout, dtype)
        self.hidden_bias = BiasUpdate(rbm.hidden_bias.detach()[hidden[place]].to(exact).clone())
        self.visible_bias = BiasUpdate(rbm.visible_bias.detach()[visible[place]].to(exact).clone())
        self.activity = torch.full_like(self.hidden_bias.bias, settings.sparsity_target or 0.0)
        self.chains: Tensor | None = None
        own_sigma = None if self.sigma is None else self.sigma[visible[place]]
        self.halves = Halves(
            self.copies,
            Layer(hidden, place, self.hidden_bias.bias),
            Layer(visible, place, self.visible_bias.bias, own_sigma, binary=not gaussian),
            wire,
            dtype,
        )
        self._exact = exact
        self._own_sigma = own_sigma
        self._rooms: Room | None = None

    @property
    def finished(self) -> bool:
        """Never: how long to train is the recipe's."""
        return False

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """One update from visible data in data units: (batch, visible), or this process's rows of it where examples are shared.

        Returns:
            As the plain learner: `reconstruction_error` and `hidden_activity`; at steps that make the two copies of weights one
            again, also `weight_drift`, the largest difference there was beside the weights' root mean square.
        """
        room = self._workspace(len(batch))
        draws, rates = self._draws.at(self.step_number), self.schedule(self.step_number)
        self._enter(room, batch, draws)
        drawn = self._draw("h0", draws, room, room.h_mean, room.states0, room.examples, room.whole)
        h0 = self.halves.to_hidden(room.visible[: room.size], room.h_mean, room.parts, [at_once] * len(room.parts), drawn)
        torch.mean(room.h_mean, dim=0, out=room.activity)
        if not self.settings.data_states:
            self.halves.tell(room.h_mean, room.hidden[: room.size], self.halves.hidden, bits=False)()
        error, last = self._negative_phase(room, draws, h0)
        positive = self._positive_states(room) if self.settings.data_states else room.activity
        self._update(room, rates, positive, last)
        metrics = self._metrics(room, error)
        if self._due(room):
            metrics["weight_drift"] = self.copies.reconcile()
        self.step_number += 1
        return metrics

    def _enter(self, room: Room, batch: Tensor, draws: Draws) -> None:
        """The data in units of sigma: all visible units where rows are held, else this process's own."""
        layer = self.halves.visible
        if batch.shape[1:] != (layer.size,):
            raise BadInput(f"a batch of shape {tuple(batch.shape)} does not fit {layer.size} visible units")
        held = slice(0, layer.size) if room.visible.shape[1] == layer.size else layer.own
        seen, data = batch[:, held], room.visible[: room.size]
        if self.sigma is not None and self._own_sigma is not None:
            data.copy_(seen / self.sigma[held])
            torch.div(batch[:, layer.own], self._own_sigma, out=room.v0)
            return
        if self.settings.sample_data:
            with self.wire.profile.part("draws"):
                coins = draws.uniform("data", (room.whole, layer.size), batch.device, part=(room.examples, held))
            seen = coins < seen
        data.copy_(seen)
        room.v0.copy_(seen if held == layer.own else seen[:, layer.own])

    def _positive_states(self, room: Room) -> Tensor:
        """The data's rows as states; gives the mean of own ones. They have arrived: reconstructions were made from them."""
        states = room.states0 if self.copies.wide else room.own(room.states0)
        room.hidden[: room.size].copy_(states)
        return room.own(room.states0).to(self._exact).mean(dim=0)

    def _negative_phase(self, room: Room, draws: Draws, ready: Sequence[Done]) -> tuple[Tensor, Tensor]:
        """Run the chains k steps and fill their rows.

        Returns:
            The sum of squared reconstruction errors of own units, and the sum over chains of own hidden activities.
        """
        settings, halves = self.settings, self.halves
        errors: list[Tensor] = []
        states, mean, parts = room.states0, room.h_mean, room.parts
        if self.chains is not None:
            halves.to_visible(states, room.v_mean, parts, ready, self._measured(room, errors))
            states, mean, parts = room.states, room.chain_mean, room.chain_parts
            ready = [halves.tell(self.chains[part] > 0, states[part], halves.hidden, bits=True) for part in parts]
        negative = room.visible[room.size :]
        for k in range(1, settings.k + 1):
            measure = self._measured(room, errors) if k == 1 and self.chains is None else None
            sent = self._reconstruct(f"v{k}", draws, room, negative, measure)
            arrived = halves.to_visible(states, room.v_mean, parts, ready, sent)
            states = room.states
            then: Callable[[slice], Done] = _left_alone
            if k < settings.k or self.chains is not None or settings.final_states:
                # The last states are needed by others only where they learn from them; chains are told when they go on.
                needed = k < settings.k or (settings.final_states and self.copies.wide)
                then = self._draw(f"h{k}", draws, room, mean, states, room.chains, room.whole_negative, needed)
            ready = halves.to_hidden(negative, mean, parts, arrived, then)
        if self.chains is not None:
            self.chains.copy_(room.own(states))
        return torch.stack(errors).sum(), self._enter_negative(room, mean, ready)

    def _enter_negative(self, room: Room, mean: Tensor, ready: Sequence[Done]) -> Tensor:
        """The chains' rows carry a minus sign, and their share where they are not as many as pictures."""
        rows, share = room.hidden[room.size :], -room.whole / room.whole_negative
        own = room.own(room.states) if self.settings.final_states else mean
        if not self.settings.final_states:
            ready = [self.halves.tell(mean, rows, self.halves.hidden, bits=False)]

        def entered() -> None:
            for done in ready:
                done()
            if self.settings.final_states:
                rows.copy_(room.states if self.copies.wide else own)
            rows.mul_(share)

        room.entered = entered
        return own.to(self._exact).sum(dim=0) * share

    def _draw(
        self,
        name: str,
        draws: Draws,
        room: Room,
        mean: Tensor,
        states: Tensor,
        rows: slice,
        whole: int,
        needed: bool = True,
    ) -> Callable[[slice], Done]:
        """Draw a part of own hidden states, and tell others if they need them."""
        layer = self.halves.hidden

        def drawn(part: slice) -> Done:
            where = (slice(rows.start + part.start, rows.start + part.stop), layer.own)
            with self.wire.profile.part("draws"):
                coins = draws.uniform(name, (whole, layer.size), out=room.coins(part, layer.own), part=where)
                truth = coins < mean[part]
            out = states[part] if needed else room.own(states)[part]
            return self.halves.tell(truth, out, layer, bits=True)

        return drawn

    def _reconstruct(
        self, name: str, draws: Draws, room: Room, out: Tensor, measure: Callable[[slice], Done] | None
    ) -> Callable[[slice], Done]:
        """Draw a part of own visible activities (or leave them means), and tell those who need them."""
        layer = self.halves.visible
        sampled, bits = self.settings.sample_visible, self.settings.sample_visible and layer.binary
        shape = (room.whole_negative, layer.size)

        def reconstructed(part: slice) -> Done:
            if measure is not None:
                measure(part)
            mean, coins = room.v_mean[part], room.coins(part, layer.own)
            where = (slice(room.chains.start + part.start, room.chains.start + part.stop), layer.own)
            told = mean
            with self.wire.profile.part("draws"):
                if bits:
                    told = draws.uniform(name, shape, out=coins, part=where) < mean
                elif sampled:
                    mean.add_(draws.normal(name, shape, out=coins, part=where))
            return self.halves.tell(told, out[part], layer, bits)

        return reconstructed

    def _measured(self, room: Room, errors: list[Tensor]) -> Callable[[slice], Done]:
        """Take the reconstruction error of a part."""

        def measured(part: slice) -> Done:
            difference = room.v0[part] - room.v_mean[part]
            if self._own_sigma is not None:
                difference.mul_(self._own_sigma)
            errors.append(torch.linalg.vector_norm(difference).square_())
            return at_once

        return measured

    def _update(self, room: Room, rates: Rates, positive: Tensor, negative: Tensor) -> None:
        settings = self.settings
        share = room.size / room.whole
        hidden = torch.stack([positive * share + negative / room.whole, room.activity * share])
        visible = room.v0.sum(dim=0) / room.whole
        visible -= room.own_visible(room.visible[room.size :]).to(self._exact).sum(dim=0) / room.whole_negative
        squares = None if self.deviations is None else self._squares(room)
        if self._readers > 1:
            for one in (hidden, visible, squares):
                if one is not None:
                    self.wire.total(one)
        statistics, activity = hidden
        self.activity.lerp_(activity, 1 - settings.sparsity_memory)
        if settings.sparsity_target is not None:
            statistics.add_(settings.sparsity_target - self.activity, alpha=settings.sparsity_cost)
        if self._own_sigma is not None:
            visible.mul_(self._own_sigma)
        overlap = None if self.deviations is None else self.deviations.overlap
        self.copies.apply(room.hidden, room.visible, 1 / room.whole, rates, settings.weight_decay, room.entered, overlap)
        self.hidden_bias.apply(statistics, rates)
        self.visible_bias.apply(visible, rates)
        if self.deviations is not None and squares is not None:
            whole = joined(squares, self.halves.visible.owners, self.wire)
            self.deviations.apply(whole, Rates(rates.learning_rate * settings.sigma_rate, rates.momentum))

    def _squares(self, room: Room) -> Tensor:
        """This process's share of the mean of ((v - b) / sigma)^2 over the data less that over the chains."""
        assert self._own_sigma is not None
        bias = self.visible_bias.bias / self._own_sigma
        chains = room.v_mean[: room.num_negative]
        data = (room.v0 - bias).square_().sum(dim=0) / room.whole
        return data - (chains - bias).square_().sum(dim=0) / room.whole_negative

    def _metrics(self, room: Room, error: Tensor) -> dict[str, Tensor]:
        sums = self.wire.total(torch.stack([error.double(), room.activity.double().sum() * room.size]))
        units = sums.new_tensor([self.halves.visible.size, self.halves.hidden.size])
        error, activity = sums / (units * room.whole)
        return {"reconstruction_error": error, "hidden_activity": activity}

    def _due(self, room: Room) -> bool:
        """Whether this step's images complete another so many."""
        every, before = self.layout.sync_images, room.whole * self.step_number
        return self.copies.twice and every > 0 and (before + room.whole) // every > before // every

    def _workspace(self, size: int) -> Room:
        chains = self.settings.chains
        if self._rooms is None or self._rooms.size != size:
            self._rooms = self._new_room(size)
        if chains is not None and self.chains is None:
            coins = Draws(self._draws.seed, purpose="sampling/").uniform(
                "chains",
                (chains, self.halves.hidden.size),
                self.hidden_bias.bias.device,
                part=(self._rooms.chains, self.halves.hidden.own),
            )
            self.chains = (coins < 0.5).to(self.dtype)
        return self._rooms

    def _new_room(self, size: int) -> Room:
        hidden, visible, copies = self.halves.hidden, self.halves.visible, self.copies
        widths = Widths(
            hidden.own,
            visible.own,
            states=length(hidden.own) if copies.down is None else hidden.size,
            statistics=hidden.size if copies.wide else length(hidden.own),
            visible=length(visible.own) if copies.up is None else visible.size,
        )
        reader = self.wire.rank if self._readers > 1 else 0
        whole, count = size * self._readers, self.settings.chains
        chains = None if count is None else slices(count, self._readers, "chains")[reader]
        return Room(
            widths,
            slice(reader * size, (reader + 1) * size),
            whole,
            chains,
            count,
            self.layout.parts,
            self.dtype,
            self._exact,
            self.hidden_bias.bias.device,
        )

    def collected(self) -> RBM | None:
        """The whole model on the first process, None on the others. Everybody must ask for it at the same time."""
        weights, found = self.copies.collect().get("weights"), vectors(self)
        if weights is None:
            return None
        units = Bernoulli() if self.sigma is None else Gaussian(found["sigma"])
        return RBM(weights, found["visible_bias"], found["hidden_bias"], units)

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, as the plain learner keeps it, on the first process; asked for by all at once.

        Where the two copies of the weights differ, the rows' copy comes with it, for as many processes to go on exactly. The
        other processes give their step's number alone.
        """
        tensors = {**self.copies.collect(), **vectors(self)}
        return ({} if self.wire.rank else tensors) | {"step": torch.tensor(self.step_number)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` of any number of processes gave on the first of them; whole on every process.

        What the others gave holds nothing to take over: of this very moment, that is no loss.
        """
        if set(state) == {"step"} and int(state["step"]) == self.step_number:
            return
        load_shares(self, state)
        self.step_number = int(state["step"])

    def begin_from(self, state: Mapping[str, Tensor]) -> None:
        """Take over a whole model's parameters (`RBM.state`), with nothing learned so far."""
        nothing = {f"velocity.{name}": torch.zeros_like(state[name]) for name in ("weights", "visible_bias", "hidden_bias")}
        activity = torch.full_like(state["hidden_bias"], self.settings.sparsity_target or 0.0)
        load_shares(self, {**nothing, "activity": activity, **state, "step": torch.tensor(0)})
        self.step_number = 0
        if self.deviations is not None:
            self.deviations.refresh()

    def diagnose(self) -> dict[str, float]:
        """Slower readings for the log, as the plain learner's."""
        weights, change = self.copies.squares()
        counts = [(self.activity < DEAD).sum(), (self.activity > ALWAYS_ON).sum()]
        sums = torch.stack([one.double() for one in (weights, change, *counts)])
        if self._readers == 1:
            self.wire.total(sums)
        hidden, visible = self.halves.hidden.size, self.halves.visible.size
        weights, change, dead, on = sums
        readings = {
            "update_ratio": float((change / weights.clamp_min(1e-60)).sqrt()),
            "weight_rms": float((weights / (hidden * visible)).sqrt()),
            "dead": float(dead / hidden),
            "always_on": float(on / hidden),
        }
        if self.deviations is not None and self.sigma is not None:
            readings |= {f"sigma_{name}": float(getattr(self.sigma, name)()) for name in ("min", "median", "max")}
        return readings


def _left_alone(part: slice) -> Done:
    """For means of which nothing is drawn."""
    return at_once


def _check(settings: CDSettings, rbm: RBM) -> None:
    for name, given in (
        ("sampler", settings.sampler != "gibbs"),
        ("centring", settings.centring),
        ("clip", settings.clip is not None),
    ):
        if given:
            raise BadInput(f"train.{name}={getattr(settings, name)} is for one process: leave it out, or train with one")
    if settings.sigma_rate and not isinstance(rbm.units, Gaussian):
        raise BadInput("train.sigma_rate: only gaussian visible units have a sigma to learn")
