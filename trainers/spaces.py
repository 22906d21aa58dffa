"""What a policy reads and what it chooses, described without Gymnasium, as JSON that a checkpoint keeps.

A policy is built from these descriptions alone, so a trained one can be used without its environment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from trainers.trainer import Array, TrainingError

SMALLEST_IMAGE_SIDE = 8


@dataclass(frozen=True)
class BoxSpec:
    """Numbers of one ``shape`` and ``dtype``; ``low`` and ``high`` hold one number, or one per element."""

    shape: tuple[int, ...]
    dtype: str
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def range(self) -> tuple[float, float] | None:
        """Lowest and highest value when they are finite and the same for all elements."""
        uniform = len(self.low) == len(self.high) == 1
        return (self.low[0], self.high[0]) if uniform and np.isfinite((*self.low, *self.high)).all() else None

    @property
    def image(self) -> ImageLayout | None:
        """How to read it as an image, or ``None`` when it isn't one."""
        return image_layout(self.shape, self.dtype)

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "Box",
            "shape": list(self.shape),
            "dtype": self.dtype,
            "low": [_number_to_json(number) for number in self.low],
            "high": [_number_to_json(number) for number in self.high],
        }


@dataclass(frozen=True)
class DiscreteSpec:
    """One choice or several: ``sizes[i]`` values from ``starts[i]`` on; ``shape`` is the action's."""

    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "Discrete",
            "sizes": list(self.sizes),
            "starts": list(self.starts),
            "shape": list(self.shape),
            "dtype": self.dtype,
        }


ActionSpec: TypeAlias = BoxSpec | DiscreteSpec


@dataclass(frozen=True)
class ImageLayout:
    """An image observation as [frames, channels, height, width], whatever the order it comes in."""

    frames: int
    channels: int
    height: int
    width: int
    channels_last: bool


def image_layout(shape: tuple[int, ...], dtype: str) -> ImageLayout | None:
    """Tell an image from other observations by its shape.

    Images are [H, W] (bytes only), [H, W, C], [C, H, W], or three or four of these axes behind an axis of
    stacked frames, with both sides at least 8. Of the first and the last axis of a frame the smaller
    counts the channels; an equal count means channels first.
    """
    if len(shape) == 2 and dtype == "uint8":
        layout = ImageLayout(1, 1, *shape, channels_last=False)
    elif len(shape) in (3, 4):
        frames, frame = (1, shape) if len(shape) == 3 else (shape[0], shape[1:])
        last = frame[2] < frame[0]
        height, width, channels = frame if last else (frame[1], frame[2], frame[0])
        layout = ImageLayout(frames, channels, height, width, channels_last=last)
    else:
        return None
    return layout if min(layout.height, layout.width) >= SMALLEST_IMAGE_SIDE else None


def observation_spec(space: Any) -> BoxSpec:
    """Describe a Gymnasium observation space. Raises :class:`TrainingError` unless it is a Box."""
    if type(space).__name__ != "Box":
        raise TrainingError(f"observation space {space}: not supported; a Box (of any shape) is")
    return _box(space)


def action_spec(space: Any) -> ActionSpec:
    """Describe a Gymnasium action space. Raises :class:`TrainingError` for one that PPO can't choose in."""
    match type(space).__name__:
        case "Discrete":
            return DiscreteSpec((int(space.n),), (int(space.start),), (), str(space.dtype))
        case "MultiDiscrete":
            sizes, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
            return DiscreteSpec(tuple(sizes), tuple(starts), tuple(space.shape), str(space.dtype))
        case "Box" if np.issubdtype(space.dtype, np.floating):
            return _box(space)
    raise TrainingError(
        f"action space {space}: not supported; Discrete, MultiDiscrete and Box of real numbers are"
    )


def spec_from_json(description: dict[str, Any]) -> BoxSpec | DiscreteSpec:
    """What ``to_json`` wrote."""
    shape, dtype = tuple(description["shape"]), str(description["dtype"])
    if description["type"] == "Box":
        low, high = (tuple(float(number) for number in description[key]) for key in ("low", "high"))
        return BoxSpec(shape, dtype, low, high)
    return DiscreteSpec(tuple(description["sizes"]), tuple(description["starts"]), shape, dtype)


def _box(space: Any) -> BoxSpec:
    return BoxSpec(tuple(space.shape), str(space.dtype), _bounds(space.low), _bounds(space.high))


def _bounds(bounds: Array) -> tuple[float, ...]:
    flat = np.asarray(bounds, np.float64).ravel()
    return (float(flat[0]),) if flat.size and (flat == flat[0]).all() else tuple(flat.tolist())


def _number_to_json(number: float) -> float | str:
    # JSON has no infinity; float() reads these words back.
    return number if math.isfinite(number) else ("inf" if number > 0 else "-inf")
