"""Randomness: one generator per purpose, and generator states as JSON values.

Every purpose (initialisation, actions, minibatches, environments, evaluation, pictures) has a generator
of its own, derived from the run's seed, so that drawing more for one never changes another. States are
written as hex strings because JSON writers refuse integers of 128 bits.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_for(seed: int, purpose: str, *numbers: int) -> int:
    """A seed of 63 bits for ``purpose`` and, say, an index; the same in every process."""
    purpose_word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:16], "little")
    sequence = np.random.SeedSequence(seed, spawn_key=(purpose_word, *numbers))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def torch_generator(seed: int, purpose: str, *numbers: int) -> torch.Generator:
    """A torch generator on the CPU for ``purpose``."""
    # Imported here: subprocesses of environments use this module and have no need of torch.
    import torch

    return torch.Generator().manual_seed(seed_for(seed, purpose, *numbers))


def torch_state(generator: torch.Generator) -> str:
    """The generator's state as a hex string."""
    return bytes(generator.get_state().numpy()).hex()


def restore_torch(generator: torch.Generator, state: str) -> None:
    """Set the state that :func:`torch_state` gave."""
    import torch

    generator.set_state(torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8))


def numpy_state(generator: np.random.Generator) -> dict[str, Any]:
    """The state of the generator's bit generator as JSON values; integers are hex strings."""
    encoded = _encode(generator.bit_generator.state)
    assert isinstance(encoded, dict)
    return encoded


def restore_numpy(generator: np.random.Generator, state: dict[str, Any]) -> None:
    """Set the state that :func:`numpy_state` gave. Raises ``ValueError`` for one of another kind."""
    generator.bit_generator.state = _decode(state)


def _encode(value: Any) -> Any:
    match value:
        case dict():
            return {key: _encode(item) for key, item in value.items()}
        case np.ndarray():
            return {"dtype": value.dtype.str, "bytes": value.tobytes().hex()}
        case str():
            return value
        case _:
            return hex(value)


def _decode(value: Any) -> Any:
    match value:
        case {"dtype": dtype, "bytes": content}:
            return np.frombuffer(bytes.fromhex(content), dtype=dtype)
        case dict():
            return {key: item if key == "bit_generator" else _decode(item) for key, item in value.items()}
        case _:
            return int(value, 16)
