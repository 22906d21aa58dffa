"""Generators per purpose, and their states as JSON."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from trainers.randomness import (
    numpy_state,
    restore_numpy,
    restore_torch,
    seed_for,
    torch_generator,
    torch_state,
)


def test_seeds_differ_by_seed_purpose_and_number_and_never_change():
    seeds = [
        seed_for(s, p, *n)
        for s in (0, 1, 2**63 - 1)
        for p in ("actions", "minibatches")
        for n in ((), (0,), (1,))
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_for(1, "actions") == 3158897939794601481


def test_seeds_are_the_same_in_another_process():
    code = "from trainers.randomness import seed_for; print(seed_for(5, 'environment', 3))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(found) == seed_for(5, "environment", 3)


def test_a_torch_generator_goes_on_from_its_state():
    generator = torch_generator(1, "actions")
    torch.randn(7, generator=generator)
    state = json.loads(json.dumps(torch_state(generator)))
    other = torch.Generator()
    restore_torch(other, state)
    assert torch.equal(torch.randn(50, generator=generator), torch.randn(50, generator=other))


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_a_numpy_generator_goes_on_from_its_state(kind):
    generator = np.random.Generator(kind(3))
    generator.integers(0, 7, 5, dtype=np.int32)
    state = json.loads(json.dumps(numpy_state(generator)))
    other = np.random.Generator(kind(4))
    restore_numpy(other, state)
    np.testing.assert_array_equal(generator.normal(size=1000), other.normal(size=1000))


def test_a_state_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="state must be for a"):
        restore_numpy(np.random.Generator(np.random.SFC64(1)), numpy_state(np.random.default_rng(1)))
