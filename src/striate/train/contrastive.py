"""Training an RBM by contrastive divergence: `models.rbm.contrastive` made fast.

The same statistics, arranged so that a step costs little more than its five matrix products: every array is made once, each
half-step writes in place, both phases' statistics are one product of stacked rows (the negative ones carry a minus sign),
and the update goes through the weights once, block by block (`updates.py`). Products run in bf16 where asked; parameters,
probabilities and random draws stay float32. Gaussian visible units are kept in units of sigma inside, and their biases learn in
those units (differs: the paper's rate for them shrinks with sigma squared), so that the scale of the data does not matter.

Cost of CD-1 at batch n: 10 * n * hidden * visible operations, 2 * n * hidden + n * visible draws less one hidden layer's.
Benchmarks: `cd-step`, `cd-peers`. Source: Krizhevsky 2009, section 1.4.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm import RBM, Gaussian
from striate.train.cd_settings import ALWAYS_ON as ALWAYS_ON
from striate.train.cd_settings import DEAD as DEAD
from striate.train.cd_settings import CDSettings as CDSettings
from striate.train.cd_settings import Schedule as Schedule
from striate.train.cd_settings import constant as constant
from striate.train.exchanged import Exchanged
from striate.train.samplers import NegativeSampler, make_sampler
from striate.train.sigma import SigmaUpdate
from striate.train.updates import BiasUpdate, Rates, WeightUpdate
from striate.train.workspace import Workspace

# Offsets of centring follow the data's means at this rate a step (Melchior et al. 2016 use 0.01 to 0.001).
_OFFSET_RATE = 0.01


class ContrastiveLearner:
    """Trains one RBM by CD-k or PCD-k.

    Args:
        rbm: the model; its parameters are copied, and `rbm` of the learner is the trained one.
        settings: how statistics are taken.
        schedule: step -> learning rate and momentum.
        seed: of the sampling stream.
        dtype: the products' operands, float32 or bfloat16.
    """

    def __init__(
        self,
        rbm: RBM,
        settings: CDSettings,
        schedule: Schedule,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.settings = settings
        self.schedule = schedule
        self.dtype = dtype
        self.step_number = 0
        self._draws = Draws(seed, purpose="sampling/")
        self._gaussian = isinstance(rbm.units, Gaussian)
        if settings.sigma_rate and not self._gaussian:
            raise BadInput("train.sigma_rate: only gaussian visible units have a sigma to learn")
        weights, visible_bias, hidden_bias = (
            t.detach().clone().float().contiguous() for t in (rbm.weights, rbm.visible_bias, rbm.hidden_bias)
        )
        units = rbm.units
        if isinstance(units, Gaussian):
            units = Gaussian(units.sigma.detach().float().expand(visible_bias.shape).clone())
        self.rbm = RBM(weights, visible_bias, hidden_bias, units)
        self._weights = WeightUpdate(self.rbm.weights, dtype)
        self._visible_bias = BiasUpdate(self.rbm.visible_bias)
        self._hidden_bias = BiasUpdate(self.rbm.hidden_bias)
        self._sigma = units.sigma if isinstance(units, Gaussian) else None
        self._deviations = SigmaUpdate(units.sigma) if isinstance(units, Gaussian) and settings.sigma_rate else None
        self._activity = torch.full_like(self.rbm.hidden_bias, settings.sparsity_target or 0.0)
        self._chains: Tensor | None = None
        self._sampler: NegativeSampler | None = make_sampler(self.rbm, settings, seed)
        self._offsets: tuple[Tensor, Tensor] | None = None
        self._rooms: Workspace | None = None

    @property
    def finished(self) -> bool:
        """Never: how long to train is the recipe's."""
        return False

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """One update from visible data (batch, visible), float32, in data units.

        Returns:
            0-d tensors, not yet waited for: `reconstruction_error`, the squared error of the mean one-step reconstruction a
            visible unit, in data units squared; `hidden_activity`, the mean of p(h = 1 | data).
        """
        room = self._workspace(len(batch))
        draws = self._draws.at(self.step_number)
        rates = self.schedule(self.step_number)
        self._positive_phase(room, batch, draws)
        error = self._negative_phase(room, draws)
        self._update(room, rates)
        self.step_number += 1
        return {"reconstruction_error": error, "hidden_activity": room.positive_activity.mean()}

    def _positive_phase(self, room: Workspace, batch: Tensor, draws: Draws) -> None:
        """Fill the data's rows: v0 in units of sigma, p(h | v0) or states drawn from it."""
        if batch.shape[1:] != (self.rbm.num_visible,):
            raise BadInput(f"a batch of shape {tuple(batch.shape)} does not fit {self.rbm.num_visible} visible units")
        if self._sigma is None and self.settings.sample_data:
            uniform = room.uniform[: batch.numel()].view(batch.shape)
            torch.lt(draws.uniform("data", batch.shape, out=uniform), batch, out=room.v0)
        elif self._sigma is None:
            room.v0.copy_(batch)
        else:
            torch.div(batch, self._sigma, out=room.v0)
        room.visible[: room.size].copy_(room.v0)
        self._hidden_means(room.visible[: room.size], room, room.h_mean)
        torch.mean(room.h_mean, dim=0, out=room.positive_activity)
        self._sample(room.h_mean, room.h_state, draws, "h0", room)
        room.hidden[: room.size].copy_(room.h_state if self.settings.data_states else room.h_mean)

    def _negative_phase(self, room: Workspace, draws: Draws) -> Tensor:
        """Run the chains k steps and fill their rows; returns the reconstruction error."""
        negative = slice(room.size, None)
        error = None
        if self._sampler is not None:
            return self._sampled(room, draws, self._sampler)
        if self._chains is not None:
            error = self._reconstruction_error(room, self._visible_means(room.h_state, room))
            room.chain_state.copy_(self._chains)
        state, mean = (room.h_state, room.h_mean) if self._chains is None else (room.chain_state, room.chain_mean)
        for k in range(1, self.settings.k + 1):
            v = self._visible_means(state, room)
            if error is None:
                error = self._reconstruction_error(room, v)
            if self.settings.sample_visible:
                self._sample_visible(v, draws, f"v{k}", room)
            room.visible[negative].copy_(v)
            self._hidden_means(room.visible[negative], room, mean)
            if k < self.settings.k or self._chains is not None or self.settings.final_states:
                self._sample(mean, state, draws, f"h{k}", room)
        if self._chains is not None:
            self._chains.copy_(state)
        self._enter_negative(room, state if self.settings.final_states else mean, mean)
        assert error is not None
        return error

    def _enter_negative(self, room: Workspace, last: Tensor, out: Tensor) -> None:
        """Each phase is averaged over its own count: chains may be more or fewer than pictures."""
        torch.mul(last, -room.size / room.num_negative, out=out)
        room.hidden[room.size :].copy_(out)

    def _sampled(self, room: Workspace, draws: Draws, sampler: NegativeSampler) -> Tensor:
        """Negative rows from a sampler of its own; the reconstruction error is of one plain step all the same."""
        error = self._reconstruction_error(room, self._visible_means(room.h_state, room))
        v, h_mean = sampler.advance(room.v0 if self._sigma is None else room.v0 * self._sigma, draws)
        chains = room.v_mean[: room.num_negative]
        chains.copy_(v if self._sigma is None else v / self._sigma)
        room.visible[room.size :].copy_(chains)
        mean = room.h_mean if self.settings.chains is None else room.chain_mean
        self._enter_negative(room, h_mean, mean)
        return error

    def _update(self, room: Workspace, rates: Rates) -> None:
        settings = self.settings
        negative_activity = room.chain_mean if self.settings.chains is not None else room.h_mean
        positive = room.hidden[: room.size].float().mean(dim=0) if settings.data_states else room.positive_activity
        hidden = positive + negative_activity.sum(dim=0).div_(room.size)
        self._activity.lerp_(room.positive_activity, 1 - settings.sparsity_memory)
        if settings.sparsity_target is not None:
            hidden.add_(settings.sparsity_target - self._activity, alpha=settings.sparsity_cost)
        visible = room.v0.mean(dim=0) - room.visible[room.size :].float().mean(dim=0)
        if self._sigma is not None:
            visible.mul_(self._sigma)
        overlap = None if self._deviations is None else self._deviations.overlap
        squares = None if self._deviations is None else self._squares(room)
        if self._sampler is not None:
            self._sampler.learn(room.hidden, room.visible, hidden, visible, 1 / room.size, rates.learning_rate)
        offsets = self._centre(room) if settings.centring else None
        self._weights.apply(room.hidden, room.visible, 1 / room.size, rates, settings.weight_decay, overlap, settings.clip)
        self._hidden_bias.apply(hidden, rates)
        self._visible_bias.apply(visible, rates)
        if offsets is not None:
            self._uncentre(*offsets)
        if self._deviations is not None and squares is not None:
            self._deviations.apply(squares, Rates(rates.learning_rate * settings.sigma_rate, rates.momentum))

    def _centre(self, room: Workspace) -> tuple[Tensor, Tensor]:
        """Take running means from the rows of both phases; gives these means, of v / sigma and of h."""
        if self._offsets is None:
            self._offsets = (room.v0.mean(dim=0), room.positive_activity.clone())
        visible, hidden = self._offsets
        visible.lerp_(room.v0.mean(dim=0), _OFFSET_RATE)
        hidden.lerp_(room.positive_activity, _OFFSET_RATE)
        room.visible.sub_(visible.to(room.visible.dtype))
        signs = hidden.to(room.hidden.dtype)
        room.hidden[: room.size].sub_(signs)
        # Negative rows carry their sign and their phase's share.
        room.hidden[room.size :].add_(signs * (room.size / room.num_negative))
        return visible, hidden

    def _uncentre(self, visible: Tensor, hidden: Tensor) -> None:
        """A change of centred weights moves the plain biases against it, so that means are where they were."""
        change = self._weights.velocity
        self.rbm.hidden_bias.sub_(change @ visible)
        back = hidden @ change
        self.rbm.visible_bias.sub_(back if self._sigma is None else back * self._sigma)

    def _squares(self, room: Workspace) -> Tensor:
        """Mean of ((v - b) / sigma)^2 over the data less that over the chains, (visible,)."""
        assert self._sigma is not None
        bias = self.rbm.visible_bias / self._sigma
        chains = room.v_mean[: room.num_negative]
        return (room.v0 - bias).square_().mean(dim=0) - (chains - bias).square_().mean(dim=0)

    def _hidden_means(self, visible: Tensor, room: Workspace, out: Tensor) -> None:
        """p(h | v) of rows in units of sigma, float32, into ``out``."""
        product = room.product_h[: len(visible)]
        torch.mm(visible, self._weights.operand.t(), out=product)
        # Not one mixed-format call: those take torch's slow path (7 ms against 0.1 for 128 x 10,000).
        out.copy_(product).add_(self.rbm.hidden_bias).sigmoid_()

    def _visible_means(self, state: Tensor, room: Workspace) -> Tensor:
        """E[v | h] in units of sigma, float32 (a view of the workspace)."""
        product, out = room.product_v[: len(state)], room.v_mean[: len(state)]
        torch.mm(state, self._weights.operand, out=product)
        out.copy_(product)
        if self._sigma is not None:
            return out.add_(self.rbm.visible_bias / self._sigma)
        return out.add_(self.rbm.visible_bias).sigmoid_()

    def _sample(self, mean: Tensor, state: Tensor, draws: Draws, name: str, room: Workspace) -> None:
        uniform = room.uniform[: mean.numel()].view(mean.shape)
        torch.lt(draws.uniform(name, mean.shape, out=uniform), mean, out=state)

    def _sample_visible(self, mean: Tensor, draws: Draws, name: str, room: Workspace) -> None:
        """Replace means by draws, in place."""
        uniform = room.uniform[: mean.numel()].view(mean.shape)
        if self._gaussian:
            mean.add_(draws.normal(name, mean.shape, out=uniform))
        else:
            torch.lt(draws.uniform(name, mean.shape, out=uniform), mean, out=mean)

    def _reconstruction_error(self, room: Workspace, v_mean: Tensor) -> Tensor:
        difference = torch.sub(room.v0, v_mean[: room.size], out=room.uniform[: room.v0.numel()].view(room.v0.shape))
        if self._sigma is not None:
            difference.mul_(self._sigma)
        return torch.linalg.vector_norm(difference).square_().div_(difference.numel())

    def _workspace(self, size: int) -> Workspace:
        if self._rooms is None or self._rooms.size != size:
            self._rooms = Workspace(self.rbm, size, self.settings.chains, self.dtype)
        if self.settings.chains is not None and self._chains is None and self._sampler is None:
            self._chains = self._first_chains(self.settings.chains)
        return self._rooms

    def _first_chains(self, count: int) -> Tensor:
        shape = (count, self.rbm.num_hidden)
        coins = Draws(self._draws.seed, purpose="sampling/").uniform("chains", shape, self.rbm.weights.device)
        return (coins < 0.5).to(self.dtype)

    def state(self) -> dict[str, Tensor]:
        """Every tensor a resumed run needs to go on exactly; random numbers are keyed by the step and need none."""
        state = {
            **self.rbm.state(),
            "velocity.weights": self._weights.velocity,
            "velocity.visible_bias": self._visible_bias.velocity,
            "velocity.hidden_bias": self._hidden_bias.velocity,
            "activity": self._activity,
            "step": torch.tensor(self.step_number),
        }
        if self._chains is not None:
            state["chains"] = self._chains
        if self._deviations is not None:
            state |= self._deviations.state()
        if self._sampler is not None:
            state |= {f"sampler.{name}": tensor for name, tensor in self._sampler.state().items()}
        if self._offsets is not None:
            state |= {"offset.visible": self._offsets[0], "offset.hidden": self._offsets[1]}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave, copying into this learner's own arrays."""
        if "offset.visible" in state:
            self._offsets = (torch.zeros_like(self.rbm.visible_bias), torch.zeros_like(self.rbm.hidden_bias))
        if self._sampler is not None:
            prefix = "sampler."
            self._sampler.load_state({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
        own = self.state()
        missing = sorted(set(own) - set(state) - {"chains"})
        if missing:
            raise BadInput(f"the state lacks {', '.join(missing)}: it is of another kind of learner")
        for name in set(own) & set(state) - {"step"}:
            if own[name].shape != state[name].shape:
                raise BadInput(f"{name} has shape {tuple(state[name].shape)}, this model's is {tuple(own[name].shape)}")
            own[name].copy_(state[name])
        if "chains" in state:
            self._chains = state["chains"].to(device=self.rbm.weights.device, dtype=self.dtype, copy=True)
        self.step_number = int(state["step"])
        self._weights.refresh()

    def exchanged(self) -> list[Exchanged]:
        """Weights, biases and, where they are learned, the visible units' deviations."""
        found = {"weights": self.rbm.weights, "visible_bias": self.rbm.visible_bias, "hidden_bias": self.rbm.hidden_bias}
        if self._deviations is not None:
            found["sigma"] = self._deviations.sigma
        return [Exchanged(name, tensor) for name, tensor in found.items()]

    def refresh(self) -> None:
        """To be called after `rbm`'s parameters were changed from outside."""
        self._weights.refresh()
        if self._deviations is not None:
            self._deviations.refresh()

    def diagnose(self) -> dict[str, float]:
        """Slower readings for the log.

        The size of the last update beside the weights', the weights' own size, the shares of units that are nearly always off
        (below 0.001 on average over the last few batches) and on (above 0.99), and the range of learned deviations.
        """
        weights = torch.linalg.vector_norm(self.rbm.weights)
        change = torch.linalg.vector_norm(self._weights.velocity)
        readings = {
            "update_ratio": float(change / weights.clamp_min(1e-30)),
            "weight_rms": float(weights / self.rbm.weights.numel() ** 0.5),
            "dead": float((self._activity < DEAD).float().mean()),
            "always_on": float((self._activity > ALWAYS_ON).float().mean()),
        }
        if self._deviations is not None and self._sigma is not None:
            readings |= {f"sigma_{name}": float(getattr(self._sigma, name)()) for name in ("min", "median", "max")}
        return readings
