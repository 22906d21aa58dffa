"""What several tests of the trainers need."""

import sys

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiny_omniglot(tmp_path_factory):
    """A packed data set of 20 characters whose drawings are noise around a pattern of their own."""
    path = tmp_path_factory.mktemp("omniglot") / "tiny.npz"
    write_omniglot(path, 20)
    return path


@pytest.fixture
def hide_package(monkeypatch):
    """Makes a package look as if it were not installed; ``users`` are modules that have imported it."""

    def hide(package, *users):
        for name in list(sys.modules):
            if name.startswith((package, *users)):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)

    return hide


def write_omniglot(path, count, drawings=20, **changes):
    generator = np.random.default_rng(0)
    patterns = generator.random((count, 1, 28, 28)) < 0.2
    noise = generator.random((count, drawings, 28, 28)) < 0.02
    arrays = {
        "images": (patterns ^ noise).astype(np.uint8) * 255,
        "characters": np.array([f"alphabet/character{number:02d}" for number in range(count)]),
        "background": np.arange(count) % 2 == 0,
    }
    arrays |= changes
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
