"""Distributions of actions: what is drawn, how probable it was, and how far two of them are apart.

Each holds what a network gave, with any leading dimensions; probabilities, entropies and divergences keep
these and add up over an action's components.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class Categorical(NamedTuple):
    """Independent choices; actions are int64 [..., choices], counted from 0."""

    logits: Tensor
    """[..., sum of sizes], those of all choices in one row."""
    sizes: list[int]

    @staticmethod
    def noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
        """What :meth:`moved_by` needs, of the shape of ``like``: −log of Exp(1), Gumbel's distribution."""
        return torch.empty_like(like).exponential_(generator=generator).log_().neg_()

    def moved_by(self, noise: Tensor) -> Tensor:
        """The actions drawn that ``noise`` [..., sum of sizes] gives."""
        # argmax of p / Exp(1) draws from p, without a Python loop or a host round trip.
        return Categorical(self.logits + noise, self.sizes).mode()

    def sample(self, generator: torch.Generator | None) -> Tensor:
        return self.moved_by(self.noise(self.logits, generator))

    def mode(self) -> Tensor:
        if len(self.sizes) == 1:
            return self.logits.argmax(-1, keepdim=True)
        return torch.stack([logits.argmax(-1) for logits in torch.split(self.logits, self.sizes, -1)], -1)

    def evaluate(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability [...] of ``actions`` and entropy [...]."""
        log_prob, entropy = self.logits.new_zeros(()), self.logits.new_zeros(())
        for choice, logits in enumerate(torch.split(self.logits, self.sizes, -1)):
            log_probs = logits.log_softmax(-1)
            log_prob = log_prob + log_probs.gather(-1, actions[..., choice : choice + 1]).squeeze(-1)
            entropy = entropy - (log_probs.exp() * log_probs).sum(-1)
        return log_prob, entropy

    def divergence(self, other: Distribution) -> Tensor:
        """KL(self ‖ other), [...]; ``other`` has the same choices."""
        assert isinstance(other, Categorical)
        total = self.logits.new_zeros(())
        for pair in zip(*(torch.split(one.logits, one.sizes, -1) for one in (self, other)), strict=True):
            mine, theirs = (logits.log_softmax(-1) for logits in pair)
            total = total + (mine.exp() * (mine - theirs)).sum(-1)
        return total


class Gaussian(NamedTuple):
    """A normal distribution with independent components; actions are float [..., size]."""

    mean: Tensor
    """[..., size]"""
    log_std: Tensor
    """[size], or anything that broadcasts against ``mean``."""

    @staticmethod
    def noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
        """What :meth:`moved_by` needs, of the shape of ``like``: standard normal."""
        return torch.empty_like(like).normal_(generator=generator)

    def moved_by(self, noise: Tensor) -> Tensor:
        """The actions drawn that ``noise`` [..., size] gives."""
        return self.mean + noise * self.log_std.exp()

    def sample(self, generator: torch.Generator | None) -> Tensor:
        return self.moved_by(self.noise(self.mean, generator))

    def mode(self) -> Tensor:
        return self.mean

    def evaluate(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability [...] of ``actions`` and entropy [...]."""
        deviations = (actions - self.mean) * (-self.log_std).exp()
        components = self.mean.shape[-1]
        size = self.log_std.sum(-1) + components * _HALF_LOG_TAU
        log_prob = -0.5 * deviations.square().sum(-1) - size
        return log_prob, (size + 0.5 * components).expand_as(log_prob)

    def divergence(self, other: Distribution) -> Tensor:
        """KL(self ‖ other), [...]."""
        assert isinstance(other, Gaussian)
        wider = other.log_std - self.log_std
        apart = (self.mean - other.mean) * (-other.log_std).exp()
        return (wider + 0.5 * ((-2 * wider).exp() + apart.square() - 1)).sum(-1)


Distribution: TypeAlias = Categorical | Gaussian
