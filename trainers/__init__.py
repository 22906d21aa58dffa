"""PyTorch trainers (PPO) as iterators, usable without the terminal program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.load import load_policy

__all__ = ["load_policy"]


def __getattr__(name: str) -> Any:
    # On first use: importing torch takes two seconds, and the declarations are read without it.
    if name == "load_policy":
        from trainers.load import load_policy

        return load_policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
