"""PPO's loss and its derivatives, written out, down to the outputs of actor and critic.

With :class:`~trainers.perceptrons.Perceptrons` below them they are the whole gradient, equal to autograd's
of :func:`trainers.ppo.ppo_loss` but for rounding. In NumPy, whose operations on a minibatch's rows take a
third of PyTorch's time; one row for each output, because NumPy is slow along short rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainers.distributions import Gaussian
from trainers.hyperparameters import PPOHyperparameters
from trainers.perceptrons import Perceptrons
from trainers.trainer import Array

if TYPE_CHECKING:
    from trainers.policies import Policy
    from trainers.ppo import Minibatch

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


@torch.no_grad()
def gradients_by_hand(
    policy: Policy, perceptrons: Perceptrons, batch: Minibatch, h: PPOHyperparameters
) -> Tensor:
    """What :func:`trainers.ppo.gradients` does and returns, for a policy with ``perceptrons``."""
    head = policy.head
    outputs, size = perceptrons.forward(policy.inputs(batch.observations)), head.outputs
    given, actions = np.ascontiguousarray(outputs[0, :, :size].numpy().T), batch.actions.numpy().T
    distribution = head.distribution(outputs)
    # What is not finite is found in what was measured.
    with np.errstate(all="ignore"):
        if isinstance(distribution, Gaussian):
            taken = _in_normal(given, actions, distribution.log_std.detach().numpy())
        else:
            taken = _in_choices(given, actions, distribution.sizes)
        loss = _loss(taken.log_probs, taken.entropy, outputs[1, :, 0].numpy(), batch, h)
        by_output, by_log_std = taken.derivatives(loss.by_log_prob, loss.by_entropy)
    derivatives = torch.zeros_like(outputs)
    into = derivatives.numpy()
    into[0, :, :size], into[1, :, 0] = by_output.T, loss.by_value
    perceptrons.backward(derivatives)
    norm = torch.linalg.vector_norm(perceptrons.gradient).item()
    if by_log_std is not None:
        policy.head.log_std.grad = torch.from_numpy(by_log_std)
        norm = math.hypot(norm, *by_log_std)
    return outputs.new_tensor([*loss.measured, norm])


class _Loss(NamedTuple):
    measured: list[float]
    """As ``trainers.ppo.ppo_loss`` gives it."""
    by_log_prob: Array
    by_entropy: Array
    by_value: Array
    """Derivatives by each row's log-probability, entropy and value, [B]."""


def _loss(log_probs: Array, entropy: Array, values: Array, batch: Minibatch, h: PPOHyperparameters) -> _Loss:
    old_log_probs, old_values, advantages, targets, shares = (rows.numpy() for rows in batch[2:])
    counted = shares > 0
    log_ratio = (log_probs - old_log_probs) * counted
    ratio = np.exp(log_ratio)
    gained = ratio * advantages
    limited = np.clip(ratio, 1 - h.clip_epsilon, 1 + h.clip_epsilon) * advantages
    excess = ratio - 1
    # Where the clipped term is the smaller one, it is constant.
    by_log_prob = -shares * gained * (gained <= limited)

    errors = values - targets
    squares, by_value = np.square(errors), h.value_coef * shares * errors
    if h.value_clip_epsilon is not None:
        moved = values - old_values
        kept = np.clip(moved, -h.value_clip_epsilon, h.value_clip_epsilon)
        clipped_squares = np.square(old_values + kept - targets)
        by_value *= (moved == kept) | (squares >= clipped_squares)
        squares = np.maximum(squares, clipped_squares)
    measured = (
        -shares.dot(np.minimum(gained, limited)),
        0.5 * shares.dot(squares),
        shares.dot(entropy),
        shares.dot(excess - log_ratio),
        shares.dot(np.abs(excess) > h.clip_epsilon),
        (ratio * counted).max(),
    )
    return _Loss([float(value) for value in measured], by_log_prob, -h.entropy_coef * shares, by_value)


class _Taken(NamedTuple):
    """What a distribution says of the actions taken in it."""

    log_probs: Array
    entropy: Array
    """[B] both."""
    derivatives: Callable[[Array, Array], tuple[Array, Array | None]]
    """By what the network gave, [outputs, B], and by ``log_std`` [size], if there is one; from those by the
    log-probability and by the entropy, both [B]."""


def _in_normal(mean: Array, actions: Array, log_std: Array) -> _Taken:
    """``mean`` and ``actions`` [size, B], ``log_std`` [size]."""
    scale = np.exp(-log_std)[:, None]
    deviations = (actions - mean) * scale
    squares = np.square(deviations)
    extent = log_std.sum() + len(mean) * _HALF_LOG_TAU

    def derivatives(by_log_prob: Array, by_entropy: Array) -> tuple[Array, Array]:
        by_log_std = (by_log_prob * (squares - 1) + by_entropy).sum(1)
        return by_log_prob * deviations * scale, by_log_std

    entropy = np.full_like(deviations[0], extent + 0.5 * len(mean))
    return _Taken(-0.5 * squares.sum(0) - extent, entropy, derivatives)


def _in_choices(logits: Array, actions: Array, sizes: list[int]) -> _Taken:
    """``logits`` [sum of sizes, B] of independent choices, ``actions`` [choices, B]."""
    parts = np.split(logits, np.cumsum(sizes)[:-1]) if len(sizes) > 1 else [logits]
    taken = [_in_choice(part, action) for part, action in zip(parts, actions, strict=True)]

    def derivatives(by_log_prob: Array, by_entropy: Array) -> tuple[Array, None]:
        each = [choice.derivatives(by_log_prob, by_entropy)[0] for choice in taken]
        return np.concatenate(each), None

    log_probs, entropy = (sum(rows[1:], rows[0]) for rows in list(zip(*taken, strict=True))[:2])
    return _Taken(log_probs, entropy, derivatives)


def _in_choice(logits: Array, action: Array) -> _Taken:
    shifted = logits - logits.max(0)
    log_probs = shifted - np.log(np.exp(shifted).sum(0))
    probs = np.exp(log_probs)
    taken = np.arange(len(logits))[:, None] == action
    entropy = -(probs * log_probs).sum(0)

    def derivatives(by_log_prob: Array, by_entropy: Array) -> tuple[Array, None]:
        # Of log p(action): 1 at the action − p. Of the entropy H: −p (log p + H).
        return by_log_prob * (taken - probs) - by_entropy * probs * (log_probs + entropy), None

    return _Taken((log_probs * taken).sum(0), entropy, derivatives)
