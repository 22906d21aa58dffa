"""PPO's loss and its derivatives, written out, down to the outputs of actor and critic.

With :class:`~trainers.perceptrons.Perceptrons` below them they are the whole gradient, equal to autograd's
of :func:`trainers.ppo.ppo_loss` but for rounding. In NumPy, whose operations on a minibatch's rows take a
third of PyTorch's time; one row for each output, because NumPy is slow along short rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from trainers.hyperparameters import PPOHyperparameters
from trainers.perceptrons import Perceptrons
from trainers.policies import GaussianHead, Policy
from trainers.trainer import Array

if TYPE_CHECKING:
    from trainers.ppo import Minibatch

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def gradients_by_hand(
    policy: Policy, perceptrons: Perceptrons, batch: Minibatch, h: PPOHyperparameters
) -> list[float]:
    """What :func:`trainers.ppo.gradients` does and returns, for a policy with ``perceptrons``.

    What is not finite is to be found in what it returns; NumPy's warnings of it are the caller's.
    """
    head, inputs = policy.head, policy.inputs(batch.observations)
    perceptrons.forward(inputs)
    outputs, derivatives, size = perceptrons.outputs, perceptrons.output_gradients, head.outputs
    given, actions = outputs[0, :size], batch.actions.numpy().T
    if isinstance(head, GaussianHead):
        taken = _in_normal(given, actions, head.log_std.detach().numpy())
    else:
        taken = _in_choices(given, actions, head.spec.sizes)
    loss = _loss(taken.log_probs, taken.entropy, outputs[1, 0], batch, h)
    by_output, by_log_std = taken.derivatives(loss.by_log_prob, loss.by_entropy)
    derivatives[0, :size], derivatives[1, 0] = by_output, loss.by_value
    perceptrons.backward()
    gradient = perceptrons.gradient.numpy()
    squares = gradient.dot(gradient)
    if by_log_std is not None:
        head.log_std.grad = torch.from_numpy(by_log_std)
        squares += by_log_std.dot(by_log_std)
    return [*loss.measured, math.sqrt(squares)]


class _Loss(NamedTuple):
    measured: list[float]
    """As ``trainers.ppo.ppo_loss`` gives it."""
    by_log_prob: Array
    by_entropy: Array | None
    by_value: Array
    """Derivatives by each row's log-probability, entropy (``None``: all 0) and value, [B]."""


def _loss(log_probs: Array, entropy: Array, values: Array, batch: Minibatch, h: PPOHyperparameters) -> _Loss:
    old_log_probs, old_values, advantages, targets, shares = [rows.numpy() for rows in batch[2:]]
    counted = shares > 0
    log_ratio = (log_probs - old_log_probs) * counted
    ratio = np.exp(log_ratio)
    excess = ratio - 1
    gained = ratio * advantages
    limited = np.minimum(np.maximum(ratio, 1 - h.clip_epsilon), 1 + h.clip_epsilon) * advantages
    # Where the clipped term is the smaller one, it is constant.
    by_log_prob = -shares * gained * (gained <= limited)

    errors = values - targets
    squares, by_value = np.square(errors), h.value_coef * shares * errors
    if h.value_clip_epsilon is not None:
        moved = values - old_values
        kept = moved.clip(-h.value_clip_epsilon, h.value_clip_epsilon)
        clipped_squares = np.square(old_values + kept - targets)
        by_value *= (moved == kept) | (squares >= clipped_squares)
        squares = np.maximum(squares, clipped_squares)

    terms = np.empty((5, len(shares)), shares.dtype)
    np.minimum(gained, limited, out=terms[0])
    terms[1], terms[2] = squares, entropy
    np.subtract(excess, log_ratio, out=terms[3])
    np.greater(np.abs(excess), h.clip_epsilon, out=terms[4])
    surrogate, square, mean_entropy, approx_kl, clip_fraction = terms.dot(shares).tolist()
    measured = [
        -surrogate,
        0.5 * square,
        mean_entropy,
        max(approx_kl, 0.0),  # negative by rounding only; NaN stays NaN
        clip_fraction,
        float(np.maximum.reduce(ratio * counted)),
    ]
    by_entropy = -h.entropy_coef * shares if h.entropy_coef else None
    return _Loss(measured, by_log_prob, by_entropy, by_value)


class _Taken(NamedTuple):
    """What a distribution says of the actions taken in it."""

    log_probs: Array
    entropy: Array
    """[B] both."""
    derivatives: Callable[[Array, Array | None], tuple[Array, Array | None]]
    """By what the network gave, [outputs, B], and by ``log_std`` [size], if there is one; from those by the
    log-probability and by the entropy, both [B]; ``None``: all 0."""


def _in_normal(mean: Array, actions: Array, log_std: Array) -> _Taken:
    """``mean`` and ``actions`` [size, B], ``log_std`` [size]."""
    scale = np.exp(-log_std)[:, None]
    deviations = (actions - mean) * scale
    squares = np.square(deviations)
    extent = log_std.sum() + len(mean) * _HALF_LOG_TAU

    def derivatives(by_log_prob: Array, by_entropy: Array | None) -> tuple[Array, Array]:
        by_log_std = (by_log_prob * (squares - 1)).sum(1)
        if by_entropy is not None:
            by_log_std += by_entropy.sum()
        return by_log_prob * deviations * scale, by_log_std

    entropy = np.full_like(deviations[0], extent + 0.5 * len(mean))
    return _Taken(-0.5 * squares.sum(0) - extent, entropy, derivatives)


def _in_choices(logits: Array, actions: Array, sizes: Sequence[int]) -> _Taken:
    """``logits`` [sum of sizes, B] of independent choices, ``actions`` [choices, B]."""
    if len(sizes) == 1:
        return _in_choice(logits, actions[0])
    parts = np.split(logits, np.cumsum(sizes)[:-1])
    taken = [_in_choice(part, action) for part, action in zip(parts, actions, strict=True)]

    def derivatives(by_log_prob: Array, by_entropy: Array | None) -> tuple[Array, None]:
        each = [choice.derivatives(by_log_prob, by_entropy)[0] for choice in taken]
        return np.concatenate(each), None

    log_probs, entropy = (sum(rows[1:], rows[0]) for rows in list(zip(*taken, strict=True))[:2])
    return _Taken(log_probs, entropy, derivatives)


def _in_choice(logits: Array, action: Array) -> _Taken:
    # Reductions by ufunc: what arrays' own methods add costs as much as the arithmetic.
    shifted = logits - np.maximum.reduce(logits)
    powers = np.exp(shifted)
    total = np.add.reduce(powers)
    log_probs, probs = shifted - np.log(total), powers / total
    taken = np.arange(len(logits))[:, None] == action
    entropy = -np.add.reduce(probs * log_probs)

    def derivatives(by_log_prob: Array, by_entropy: Array | None) -> tuple[Array, None]:
        # Of log p(action): 1 at the action − p. Of the entropy H: −p (log p + H).
        by_logit = by_log_prob * (taken - probs)
        if by_entropy is not None:
            by_logit -= by_entropy * probs * (log_probs + entropy)
        return by_logit, None

    return _Taken(np.add.reduce(log_probs * taken), entropy, derivatives)
