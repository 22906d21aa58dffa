"""Screens leave much for the garbage collector; as in the app itself, full collections are rare here."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="package")
def rare_collections() -> Iterator[None]:
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 1_000)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()
