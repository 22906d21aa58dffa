"""The derivatives of PPO's loss, written out, down to the outputs of actor and critic.

With :class:`~trainers.perceptrons.Perceptrons` below them they are the whole gradient, equal to autograd's
of :func:`trainers.ppo.ppo_loss` but for rounding, in a third of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainers.distributions import Distribution, Gaussian
from trainers.hyperparameters import PPOHyperparameters
from trainers.perceptrons import Perceptrons

if TYPE_CHECKING:
    from trainers.policies import Policy
    from trainers.ppo import Minibatch


def backward(
    policy: Policy, perceptrons: Perceptrons, batch: Minibatch, h: PPOHyperparameters
) -> list[Tensor]:
    """Set every parameter's ``grad``; returns the few tensors that hold them all.

    Those of ``batch`` are the latest outputs of ``perceptrons``, the policy's. To be used under
    ``torch.no_grad()``.
    """
    outputs, size = perceptrons.outputs, policy.head.outputs
    distribution = policy.head.distribution(outputs[0, :, :size])
    log_probs, _ = distribution.evaluate(batch.actions)
    by_log_prob, by_entropy, by_value = loss_derivatives(log_probs, outputs[1, :, 0], batch, h)
    by_output, by_log_std = distribution_derivatives(distribution, batch.actions, by_log_prob, by_entropy)
    derivatives = torch.zeros_like(outputs)
    derivatives[0, :, :size] = by_output
    derivatives[1, :, 0] = by_value
    perceptrons.backward(derivatives)
    if by_log_std is None:
        return [perceptrons.gradient]
    policy.head.log_std.grad = by_log_std
    return [perceptrons.gradient, by_log_std]


def loss_derivatives(
    log_probs: Tensor, values: Tensor, batch: Minibatch, h: PPOHyperparameters
) -> tuple[Tensor, Tensor, Tensor]:
    """Those of the loss by each row's log-probability, entropy and value, all [B]."""
    shares = batch.weights
    ratio = ((log_probs - batch.log_probs) * (shares > 0)).exp()
    clipped = ratio.clamp(1 - h.clip_epsilon, 1 + h.clip_epsilon)
    # Where the clipped term is the smaller one, it is constant.
    gained = ratio * batch.advantages
    by_log_prob = -shares * gained * (gained <= clipped * batch.advantages)

    errors = values - batch.targets
    by_value = h.value_coef * shares * errors
    if h.value_clip_epsilon is not None:
        moved = values - batch.values
        limited = moved.clamp(-h.value_clip_epsilon, h.value_clip_epsilon)
        clipped_errors = batch.values + limited - batch.targets
        by_value *= (moved == limited) | (errors.abs() >= clipped_errors.abs())
    return by_log_prob, -h.entropy_coef * shares, by_value


def distribution_derivatives(
    distribution: Distribution, actions: Tensor, by_log_prob: Tensor, by_entropy: Tensor
) -> tuple[Tensor, Tensor | None]:
    """By what the network gave, [B, outputs], and by ``log_std`` [size], if there is one.

    ``by_log_prob`` and ``by_entropy``, [B], are those by the log-probability of ``actions`` and by entropy.
    """
    by_log_prob, by_entropy = by_log_prob[:, None], by_entropy[:, None]
    if isinstance(distribution, Gaussian):
        scale = (-distribution.log_std).exp()
        deviations = (actions - distribution.mean) * scale
        by_log_std = (by_log_prob * (deviations.square() - 1) + by_entropy).sum(0)
        return by_log_prob * deviations * scale, by_log_std

    return torch.cat(
        [
            _choice_derivatives(logits, actions[:, choice : choice + 1], by_log_prob, by_entropy)
            for choice, logits in enumerate(
                torch.split_with_sizes(distribution.logits, distribution.sizes, -1)
            )
        ],
        -1,
    ), None


def _choice_derivatives(logits: Tensor, action: Tensor, by_log_prob: Tensor, by_entropy: Tensor) -> Tensor:
    """Of log p(action): 1 at the action − p. Of the entropy H: −p (log p + H)."""
    log_probs = logits.log_softmax(-1)
    probs = log_probs.exp()
    entropy = -(probs * log_probs).sum(-1, keepdim=True)
    derivatives = -probs * (by_log_prob + by_entropy * (log_probs + entropy))
    return derivatives.scatter_add_(-1, action, by_log_prob)
