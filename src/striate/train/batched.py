"""Many small RBMs trained side by side by CD-k as one batched computation: `contrastive.py` with a dimension in front.

The paper's 26 patch RBMs (section 2.5) are products of 100 x 192 x 300: alone, each step is mostly overhead. Here every
half-step is one batched product, every draw one array, every elementwise pass one call. Model m's draws are row m of those of
the whole. Cost a step: models * 10 * n * hidden * visible operations. Benchmark: `patch-rbms`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm.many import ManyRBMs
from striate.train.contrastive import ALWAYS_ON, DEAD, CDSettings, Schedule
from striate.train.exchanged import Exchanged
from striate.train.updates import BiasUpdate


class BatchedContrastiveLearner:
    """Trains RBMs side by side by CD-k.

    Args:
        many: the models; their parameters are copied.
        settings: one for all; kept chains and learned deviations are not offered here.
        schedule: step -> learning rate and momentum.
        seed: of the sampling stream.
        dtype: the products' operands.
    """

    finished = False

    def __init__(
        self, many: ManyRBMs, settings: CDSettings, schedule: Schedule, *, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        if settings.chains is not None or settings.sigma_rate:
            raise BadInput("RBMs side by side are trained by CD with fixed sigma: leave train.chains and train.sigma_rate out")
        self.settings, self.schedule, self.dtype, self.step_number = settings, schedule, dtype, 0
        self._draws = Draws(seed, purpose="sampling/")
        copied = [tensor.detach().clone().float() for tensor in (many.weights, many.visible_bias, many.hidden_bias)]
        sigma = None if many.sigma is None else many.sigma.detach().clone().float()
        self.many = ManyRBMs(copied[0], copied[1], copied[2], sigma)
        self._velocity = torch.zeros_like(self.many.weights)
        self._operand = self.many.weights if dtype == torch.float32 else self.many.weights.to(dtype)
        self._visible_bias, self._hidden_bias = BiasUpdate(self.many.visible_bias), BiasUpdate(self.many.hidden_bias)
        self._activity = torch.full_like(self.many.hidden_bias, settings.sparsity_target or 0.0)
        self._rooms: _Workspace | None = None

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """One update from rows (models, n, visible), in data units; metrics are means over all models."""
        if batch.ndim != 3 or batch.shape[::2] != self.many.weights.shape[::2]:
            models, _, visible = self.many.weights.shape
            raise BadInput(f"a batch of shape {tuple(batch.shape)} does not fit {models} RBMs of {visible} visible units")
        room = self._workspace(batch.shape[1])
        draws = self._draws.at(self.step_number)
        size, sigma = room.size, self.many.sigma
        room.v0.copy_(batch)
        if sigma is not None:
            room.v0.div_(sigma[:, None])
        room.visible[:, :size].copy_(room.v0)
        self._hidden_means(room, slice(0, size))
        positive = room.h_mean.mean(dim=1)
        self._draw_hidden(room, "h0", draws)
        entered = room.h_state if self.settings.data_states else room.h_mean
        activity = entered.float().mean(dim=1)
        room.hidden[:, :size].copy_(entered)
        error = self._negative_phase(room, draws)
        activity -= room.h_mean.mean(dim=1)
        room.hidden[:, size:].copy_(room.h_mean.neg_())
        self._update(room, positive, activity)
        self.step_number += 1
        return {"reconstruction_error": error, "hidden_activity": positive.mean()}

    def _negative_phase(self, room: _Workspace, draws: Draws) -> Tensor:
        error = torch.zeros(())
        for k in range(1, self.settings.k + 1):
            if k > 1:
                self._draw_hidden(room, f"h{k - 1}", draws)
            v = self._visible_means(room)
            if k == 1:
                difference = room.v0 - v
                if self.many.sigma is not None:
                    difference *= self.many.sigma[:, None]
                error = difference.square_().mean()
            if self.settings.sample_visible:
                self._sample_visible(room, v, draws, f"v{k}")
            room.visible[:, room.size :].copy_(v)
            self._hidden_means(room, slice(room.size, None))
        if self.settings.final_states:
            name = f"h{self.settings.k}"
            torch.lt(draws.uniform(name, room.h_mean.shape, out=room.uniform_h), room.h_mean, out=room.h_mean)
        return error

    def _draw_hidden(self, room: _Workspace, name: str, draws: Draws) -> None:
        torch.lt(draws.uniform(name, room.h_mean.shape, out=room.uniform_h), room.h_mean, out=room.h_state)

    def _hidden_means(self, room: _Workspace, rows: slice) -> None:
        torch.bmm(room.visible[:, rows], self._operand.transpose(1, 2), out=room.product_h)
        room.h_mean.copy_(room.product_h).add_(self.many.hidden_bias[:, None]).sigmoid_()

    def _visible_means(self, room: _Workspace) -> Tensor:
        torch.bmm(room.h_state, self._operand, out=room.product_v)
        v = room.v_mean.copy_(room.product_v)
        if self.many.sigma is not None:
            return v.add_((self.many.visible_bias / self.many.sigma)[:, None])
        return v.add_(self.many.visible_bias[:, None]).sigmoid_()

    def _sample_visible(self, room: _Workspace, v: Tensor, draws: Draws, name: str) -> None:
        if self.many.sigma is not None:
            v.add_(draws.normal(name, v.shape, out=room.uniform_v))
        else:
            torch.lt(draws.uniform(name, v.shape, out=room.uniform_v), v, out=v)

    def _update(self, room: _Workspace, positive: Tensor, hidden: Tensor) -> None:
        settings, rates = self.settings, self.schedule(self.step_number)
        self._activity.lerp_(positive, 1 - settings.sparsity_memory)
        if settings.sparsity_target is not None:
            hidden.add_(settings.sparsity_target - self._activity, alpha=settings.sparsity_cost)
        visible = room.v0.mean(dim=1) - room.visible[:, room.size :].float().mean(dim=1)
        if self.many.sigma is not None:
            visible.mul_(self.many.sigma)
        weights, rate = self.many.weights, rates.learning_rate
        if self.dtype == torch.float32:
            self._velocity.baddbmm_(room.hidden.transpose(1, 2), room.visible, beta=rates.momentum, alpha=rate / room.size)
        else:
            statistics = torch.bmm(room.hidden.transpose(1, 2), room.visible, out=room.statistics)
            room.change.copy_(statistics)
            self._velocity.mul_(rates.momentum).add_(room.change, alpha=rate / room.size)
        if settings.weight_decay:
            self._velocity.add_(weights, alpha=-rate * settings.weight_decay)
        weights.add_(self._velocity)
        self.refresh()
        self._hidden_bias.apply(hidden, rates)
        self._visible_bias.apply(visible, rates)

    def exchanged(self) -> list[Exchanged]:
        """Weights and biases of all models."""
        found = {name: getattr(self.many, name) for name in ("weights", "visible_bias", "hidden_bias")}
        return [Exchanged(name, tensor) for name, tensor in found.items()]

    def refresh(self) -> None:
        """To be called after parameters were changed from outside."""
        if self._operand is not self.many.weights:
            self._operand.copy_(self.many.weights)

    def diagnose(self) -> dict[str, float]:
        """As `ContrastiveLearner.diagnose`, over all models."""
        weights = torch.linalg.vector_norm(self.many.weights)
        return {
            "update_ratio": float(torch.linalg.vector_norm(self._velocity) / weights.clamp_min(1e-30)),
            "weight_rms": float(weights / self.many.weights.numel() ** 0.5),
            "dead": float((self._activity < DEAD).float().mean()),
            "always_on": float((self._activity > ALWAYS_ON).float().mean()),
        }

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed run needs."""
        return {
            "weights": self.many.weights,
            "visible_bias": self.many.visible_bias,
            "hidden_bias": self.many.hidden_bias,
            "velocity.weights": self._velocity,
            "velocity.visible_bias": self._visible_bias.velocity,
            "velocity.hidden_bias": self._hidden_bias.velocity,
            "activity": self._activity,
            "step": torch.tensor(self.step_number),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            BadInput: it is of models of another size, or number.
        """
        for name, tensor in self.state().items():
            if name not in state or state[name].shape != tensor.shape:
                found = tuple(state[name].shape) if name in state else "nothing"
                raise BadInput(f"the checkpoint holds {found} for {name}, these models need {tuple(tensor.shape)}")
            if name != "step":
                tensor.copy_(state[name])
        self.step_number = int(state["step"])
        self.refresh()

    def _workspace(self, size: int) -> _Workspace:
        if self._rooms is None or self._rooms.size != size:
            self._rooms = _Workspace(self.many, size, self.dtype)
        return self._rooms


class _Workspace:
    """Every large array a step writes; rows of the negative phase follow the data's."""

    def __init__(self, many: ManyRBMs, size: int, dtype: torch.dtype) -> None:
        models, hidden, visible = many.weights.shape
        device = many.weights.device

        def array(rows: int, width: int, kind: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(models, rows, width, dtype=kind, device=device)

        self.size = size
        self.v0, self.v_mean, self.h_mean = array(size, visible), array(size, visible), array(size, hidden)
        self.visible, self.hidden = array(2 * size, visible, dtype), array(2 * size, hidden, dtype)
        self.h_state = array(size, hidden, dtype)
        self.product_h, self.product_v = array(size, hidden, dtype), array(size, visible, dtype)
        self.uniform_h, self.uniform_v = array(size, hidden), array(size, visible)
        if dtype != torch.float32:
            self.statistics, self.change = array(hidden, visible, dtype), array(hidden, visible)
