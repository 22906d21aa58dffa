"""Policies with a value function: networks, and what makes actions and log-probabilities of their output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainers.distributions import Categorical, Gaussian
from trainers.normalizers import RunningMoments
from trainers.perceptrons import Perceptrons, Tanh
from trainers.spaces import ActionSpec, BoxSpec, DiscreteSpec, ImageLayout
from trainers.trainer import Array

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": Tanh, "relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU}

_HIDDEN_GAIN, _POLICY_GAIN, _VALUE_GAIN = math.sqrt(2), 0.01, 1.0
_ACTOR, _CRITIC = 0, 1
_IMAGE_FEATURES = 512
_IN_NUMPY = (torch.float32, torch.float64)
_NATURE_SIDE = 36
"""The smallest side that the three convolutions of Mnih et al. 2015 leave something of."""


class CategoricalHead(nn.Module):
    """Discrete and MultiDiscrete actions: independent choices, all their logits in one row.

    Actions are int64 [B, choices], counted from 0.
    """

    def __init__(self, spec: DiscreteSpec) -> None:
        super().__init__()
        self.spec = spec
        self.outputs = sum(spec.sizes)
        self._sizes = list(spec.sizes)
        self._ends = np.cumsum(spec.sizes)[:-1]
        self.shape, self.dtype = (len(spec.sizes),), torch.int64
        self._starts = np.asarray(spec.starts, spec.dtype).reshape(spec.shape)

    def distribution(self, outputs: Tensor) -> Categorical:
        """What ``outputs`` [..., outputs] say of the actions."""
        return Categorical(outputs, self._sizes)

    def sample(self, outputs: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.distribution(outputs).sample(generator)

    def noise(self, count: int, rows: int, generator: torch.Generator) -> Tensor:
        """What ``count`` times :meth:`moved_by` for ``rows`` rows needs, [count, rows, outputs]."""
        like = torch.empty(count, rows, self.outputs, device=generator.device)
        return Categorical.noise(like, generator)

    def moved_by(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """The actions drawn that ``noise``, of the shape of ``outputs``, gives."""
        return self.distribution(outputs).moved_by(noise)

    def array_moved_by(self, outputs: Array, noise: Array) -> Array:
        """:meth:`moved_by` in NumPy."""
        moved = outputs + noise
        if len(self._sizes) == 1:
            return np.asarray(moved.argmax(-1)[:, None])
        return np.stack([part.argmax(-1) for part in np.split(moved, self._ends, -1)], -1)

    def mode(self, outputs: Tensor) -> Tensor:
        return self.distribution(outputs).mode()

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability [B] of ``actions`` and entropy [B]."""
        return self.distribution(outputs).evaluate(actions)

    def shaped(self, actions: Tensor | Array) -> Array:
        """``actions`` as elements of the action space, [B, *shape], counted from its start."""
        counted = _numpy(actions).astype(self.spec.dtype).reshape(-1, *self.spec.shape)
        counted += self._starts
        return counted


class GaussianHead(nn.Module):
    """Box actions: a normal distribution whose log-deviation does not depend on the observation.

    Actions are float [B, size], not clipped: their log-probability is that of what was drawn, and only
    the environment sees them clipped to its bounds, by :meth:`shaped`.
    """

    def __init__(self, spec: BoxSpec) -> None:
        super().__init__()
        self.spec = spec
        self.outputs = spec.size
        self.shape, self.dtype = (spec.size,), torch.float32
        self.log_std = nn.Parameter(torch.zeros(spec.size))

    def distribution(self, outputs: Tensor) -> Gaussian:
        """What ``outputs`` [..., size] say of the actions."""
        return Gaussian(outputs, self.log_std)

    def sample(self, outputs: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.distribution(outputs).sample(generator)

    def noise(self, count: int, rows: int, generator: torch.Generator) -> Tensor:
        """What ``count`` times :meth:`moved_by` for ``rows`` rows needs, [count, rows, outputs]."""
        like = torch.empty(count, rows, self.outputs, device=generator.device)
        return Gaussian.noise(like, generator)

    def moved_by(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """The actions drawn that ``noise``, of the shape of ``outputs``, gives."""
        return self.distribution(outputs).moved_by(noise)

    @np.errstate(all="ignore")
    def array_moved_by(self, outputs: Array, noise: Array) -> Array:
        """:meth:`moved_by` in NumPy."""
        return np.asarray(outputs + noise * np.exp(self.log_std.detach().numpy()))

    def mode(self, outputs: Tensor) -> Tensor:
        return outputs

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability [B] of ``actions`` and entropy [B]."""
        return self.distribution(outputs).evaluate(actions)

    def shaped(self, actions: Tensor | Array) -> Array:
        """``actions`` as elements of the action space, [B, *shape], clipped to its bounds; NaN stays NaN."""
        low, high = (np.asarray(bound) for bound in (self.spec.low, self.spec.high))
        clipped = np.clip(_numpy(actions), low, high).reshape(-1, *self.spec.shape)
        return np.asarray(clipped, self.spec.dtype)


class Policy(nn.Module):
    """Action distribution and value of an observation.

    Plain observations go through an actor and a critic of their own, multi-layer perceptrons of
    ``hidden_sizes``. Images (:func:`trainers.spaces.image_layout`) go through convolutions that actor and
    critic share (Mnih et al. 2015), from which each reads with one layer. Initialised orthogonally, gain
    √2 in hidden layers, 0.01 for the actor's and 1 for the critic's output; biases 0.

    All methods take raw observations [B, *shape]: ``normalizer``, when there is one, belongs to the policy.
    """

    def __init__(
        self,
        observation: BoxSpec,
        action: ActionSpec,
        *,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "tanh",
        normalize_observations: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.observation, self.action = observation, action
        self.head: CategoricalHead | GaussianHead
        self.head = CategoricalHead(action) if isinstance(action, DiscreteSpec) else GaussianHead(action)
        self.features: nn.Module | None = None
        self.normalizer: RunningMoments | None = None
        if layout := observation.image:
            # Images are brought to 0…1 by their bounds; a running deviation per pixel helps nobody.
            bounds = (0.0, 255.0) if observation.dtype == "uint8" else observation.range or (0.0, 1.0)
            self.features = _convolutions(layout, bounds, generator)
            inputs, sizes = _IMAGE_FEATURES, []
        else:
            inputs, sizes = observation.size, list(hidden_sizes)
            self.normalizer = RunningMoments((observation.size,)) if normalize_observations else None
        self.actor = _perceptron([inputs, *sizes, self.head.outputs], activation, _POLICY_GAIN, generator)
        self.critic = _perceptron([inputs, *sizes, 1], activation, _VALUE_GAIN, generator)
        self._stackable = self.features is None and activation == "tanh"
        self._stack()

    def _apply(self, fn: Any, recurse: bool = True) -> Policy:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # Moved to another device or type, parameters may be other tensors.
        self._stack()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        # Copied or unpickled, parameters are no views of one tensor.
        self._stack()

    def _stack(self) -> None:
        in_numpy = all(one.is_cpu and one.dtype in _IN_NUMPY for one in self.parameters())
        self.perceptrons = Perceptrons(self.actor, self.critic) if self._stackable and in_numpy else None
        """Actor and critic with their gradient written out, where that pays: tanh networks on a CPU."""

    def wholes(self) -> list[Tensor]:
        """Few tensors that hold all parameters, which are views of them, as their ``grad`` do theirs."""
        if self.perceptrons is None:
            return list(self.parameters())
        return [self.perceptrons.parameters, *self.head.parameters()]

    @property
    def stored_dtype(self) -> torch.dtype:
        """What observations are kept as: bytes stay bytes, anything else becomes float32."""
        return torch.uint8 if self.observation.dtype == "uint8" else torch.float32

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw an action for each observation."""
        return self.head.sample(self._actor_outputs(observations), generator)

    def act_by(self, observations: Tensor, noise: Tensor) -> Tensor:
        """The actions drawn that ``noise`` gives, a part of what ``head.noise`` drew ahead."""
        return self.head.moved_by(self._actor_outputs(observations), noise)

    def act_by_hand(self, observations: Array, noise: Array) -> Array:
        """:meth:`act_by` for a policy with ``perceptrons``, in NumPy: PyTorch takes three times as long."""
        assert self.perceptrons is not None
        inputs = self.inputs(torch.from_numpy(observations)).numpy()
        return self.head.array_moved_by(self.perceptrons.forward_of(_ACTOR, inputs), noise)

    def greedy(self, observations: Tensor) -> Tensor:
        """The most probable action for each observation; for Box actions the mean."""
        return self.head.mode(self._actor_outputs(observations))

    def value(self, observations: Tensor) -> Tensor:
        """V(s) for each observation, [B]."""
        inputs = self.inputs(observations)
        if torch.is_grad_enabled() or self.perceptrons is None:
            value: Tensor = self.critic(inputs)
        else:
            value = torch.from_numpy(self.perceptrons.forward_of(_CRITIC, inputs.numpy()))
        return value.squeeze(-1)

    def evaluate(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability of ``actions``, entropy and value, each [B], with their gradients."""
        inputs = self.inputs(observations)
        if torch.is_grad_enabled() or self.perceptrons is None:
            outputs, values = self.actor(inputs), self.critic(inputs).squeeze(-1)
        else:
            both = self.perceptrons.forward(inputs)
            outputs, values = both[_ACTOR, : self.head.outputs].mT, both[_CRITIC, 0].clone()
        log_prob, entropy = self.head.evaluate(outputs, actions)
        return log_prob, entropy, values

    def inputs(self, observations: Tensor) -> Tensor:
        """What actor and critic see of ``observations``, [B, in]."""
        if self.features is not None:
            features: Tensor = self.features(observations)
            return features
        rows = self.normalizer_rows(observations)
        rows = rows if rows.is_floating_point() else rows.float()
        return self.normalizer(rows) if self.normalizer is not None else rows

    def normalizer_rows(self, observations: Tensor) -> Tensor:
        """``observations`` [B, *shape] as ``normalizer.update`` takes them, [B, size]."""
        return observations if observations.ndim == 2 else observations.reshape(-1, self.observation.size)

    def _actor_outputs(self, observations: Tensor) -> Tensor:
        inputs = self.inputs(observations)
        if torch.is_grad_enabled() or self.perceptrons is None:
            outputs: Tensor = self.actor(inputs)
            return outputs
        return torch.from_numpy(self.perceptrons.forward_of(_ACTOR, inputs.numpy()))


class _Images(nn.Module):
    """Observations in any of the orders of :class:`ImageLayout` to [B, frames × channels, H, W] in 0…1."""

    def __init__(self, layout: ImageLayout, bounds: tuple[float, float]) -> None:
        super().__init__()
        self.layout = layout
        self.low, self.high = bounds

    def forward(self, observations: Tensor) -> Tensor:
        layout = self.layout
        if layout.channels_last:
            images = observations.reshape(-1, layout.frames, layout.height, layout.width, layout.channels)
            images = images.permute(0, 1, 4, 2, 3)
        else:
            images = observations
        images = images.reshape(-1, layout.frames * layout.channels, layout.height, layout.width)
        return (images.float() - self.low) / (self.high - self.low)


def _convolutions(
    layout: ImageLayout, bounds: tuple[float, float], generator: torch.Generator | None
) -> nn.Sequential:
    # (channels, kernel, stride, padding); images too small for the published network get 3 × 3 kernels.
    plan = ((32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0))
    if min(layout.height, layout.width) < _NATURE_SIDE:
        plan = ((32, 3, 2, 1), (64, 3, 2, 1), (64, 3, 1, 1))
    channels, height, width = layout.frames * layout.channels, layout.height, layout.width
    layers: list[nn.Module] = [_Images(layout, bounds)]
    for outputs, kernel, stride, padding in plan:
        convolution = nn.Conv2d(channels, outputs, kernel, stride, padding)
        layers += [_initialized(convolution, _HIDDEN_GAIN, generator), nn.ReLU()]
        channels = outputs
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    linear = nn.Linear(channels * height * width, _IMAGE_FEATURES)
    return nn.Sequential(*layers, nn.Flatten(), _initialized(linear, _HIDDEN_GAIN, generator), nn.ReLU())


def _perceptron(
    sizes: Sequence[int], activation: str, output_gain: float, generator: torch.Generator | None
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=2):
        last = number == len(sizes)
        gain = output_gain if last else _HIDDEN_GAIN
        layers.append(_initialized(nn.Linear(inputs, outputs), gain, generator))
        if not last:
            layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers)


def _initialized(
    layer: nn.Linear | nn.Conv2d, gain: float, generator: torch.Generator | None
) -> nn.Linear | nn.Conv2d:
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _numpy(actions: Tensor | Array) -> Array:
    return actions if isinstance(actions, np.ndarray) else np.asarray(actions.detach().cpu())
