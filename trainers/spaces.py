"""What a policy reads and what it chooses, described without Gymnasium, as JSON that a checkpoint keeps.

A policy is built from these descriptions alone, so a trained one can be used without its environment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from trainers.declarations import format_value
from trainers.trainer import TrainingError

SMALLEST_IMAGE_SIDE = 8


@dataclass(frozen=True)
class BoxSpec:
    """Numbers of one ``shape`` and ``dtype``; ``low`` and ``high`` hold one number, or one per element.

    The first axis of a ``stacked`` one counts observations, of the environment's own shape.
    """

    shape: tuple[int, ...]
    dtype: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    stacked: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def range(self) -> tuple[float, float] | None:
        """Lowest and highest value when they are finite, apart, and the same for all elements."""
        if len(self.low) > 1 or len(self.high) > 1:
            return None
        return (self.low[0], self.high[0]) if 0 < self.high[0] - self.low[0] < math.inf else None

    @property
    def image(self) -> ImageLayout | None:
        """How to read it as an image, or ``None`` when it isn't one."""
        return image_layout(self.shape, self.dtype, stacked=self.stacked)

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "Box",
            "shape": list(self.shape),
            "dtype": self.dtype,
            "low": [_number_to_json(number) for number in self.low],
            "high": [_number_to_json(number) for number in self.high],
            "stacked": self.stacked,
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


def image_layout(shape: tuple[int, ...], dtype: str, *, stacked: bool = False) -> ImageLayout | None:
    """Tell an image from other observations by its shape.

    Images are [H, W] (bytes only), [H, W, C], [C, H, W], or three or four of these axes behind an axis of
    stacked frames, with both sides at least 8. Of the first and the last axis of a frame the smaller
    counts the channels; an equal count means channels first. Where observations are ``stacked`` along the
    first axis, one of them decides.
    """
    if stacked:
        layout = image_layout(shape[1:], dtype)
        return layout and replace(layout, frames=shape[0] * layout.frames)
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


def spec_from_json(description: dict[str, Any]) -> BoxSpec | DiscreteSpec:
    """What ``to_json`` wrote."""
    shape, dtype = tuple(description["shape"]), str(description["dtype"])
    if description["type"] == "Box":
        low, high = (tuple(float(number) for number in description[key]) for key in ("low", "high"))
        return BoxSpec(shape, dtype, low, high, bool(description.get("stacked", False)))
    return DiscreteSpec(tuple(description["sizes"]), tuple(description["starts"]), shape, dtype)


def other_space(own: Mapping[str, Any], theirs: Mapping[str, Any], whose: str) -> str | None:
    """The first of ``own`` that is not as in ``theirs``, naming both; ``None`` where all are.

    Both are descriptions by name, those of spaces as ``to_json`` writes them; ``theirs`` are ``whose``.
    """
    for name in own:
        if name in theirs and own[name] != theirs[name]:
            thing = f"{name} space" if isinstance(own[name], dict) else name
            return f"its {thing} {_in_words(own[name])} is not {whose}, {_in_words(theirs[name])}"
    return None


class HasSpaces(Protocol):
    """A policy or a family of environments."""

    observation: BoxSpec
    action: ActionSpec


def spaces_of(stands: HasSpaces) -> dict[str, Any]:
    """The spaces between which it stands, as JSON values."""
    return {"observation": stands.observation.to_json(), "action": stands.action.to_json()}


def check_spaces(env: str, own: HasSpaces, trained: Mapping[str, Any]) -> None:
    """Raises :class:`TrainingError`, naming both, where ``trained``, :func:`spaces_of` a run, are others."""
    if difference := other_space(spaces_of(own), trained, "the run's"):
        raise TrainingError(
            f"env = {env}: {difference}; the environment has changed since the run began, and its policy "
            "fits only what it was trained in"
        )


def _in_words(space: Any) -> str:
    if not isinstance(space, dict):
        return format_value(space)
    limits = {name: value for name, value in space.items() if name != "type" and value not in ([], False)}
    return f"{space.get('type', '')}({', '.join(f'{name} {_cut(value)}' for name, value in limits.items())})"


def _cut(value: Any) -> str:
    text = format_value(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _number_to_json(number: float) -> float | str:
    # JSON has no infinity; float() reads these words back.
    return number if math.isfinite(number) else ("inf" if number > 0 else "-inf")
