"""A device that is not there: the processor plays it, and refuses what a CUDA device would refuse.

An operation on its tensors and the processor's together raises, and so does reading one of its own as an
array; what goes from one to the other is counted. PyTorch takes it for "meta", the only kind of device that
every build has beside the processor.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from trainers import few_shot, few_trajectories, load, maml, maml_ppo, ppo

DEVICE, CPU = torch.device("meta"), torch.device("cpu")

_aten = torch.ops.aten
_COPY_INTO, _COPY_TO = _aten.copy_.default, _aten._to_copy.default
_WAITING = (_aten._local_scalar_dense.default, _aten.nonzero.default)
_INDEXING = (_aten.index.Tensor, _aten.index_put_.default, _aten._index_put_impl_.default)
"""Take indices from the processor too, which are copied then."""
_FROM_DATA = (torch.tensor, torch.as_tensor, torch.asarray)


class OnDevice(Tensor):
    """A tensor of the device, and the processor's that plays it."""

    played_by: Tensor
    is_meta = False

    @staticmethod
    def __new__(cls, played_by: Tensor) -> OnDevice:
        made = Tensor._make_wrapper_subclass(
            cls,
            played_by.size(),
            strides=played_by.stride(),
            storage_offset=played_by.storage_offset(),
            dtype=played_by.dtype,
            device=DEVICE,
        )
        made.played_by = played_by
        return made

    def __repr__(self) -> str:
        return f"OnDevice({self.played_by})"

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(index, list):
            index = torch.tensor(index, device=DEVICE)
        return super().__getitem__(index)

    def tolist(self) -> Any:
        return self.to(CPU).tolist()

    def numpy(self) -> Any:
        raise TypeError("can't convert a device's tensor to NumPy; use Tensor.cpu() first")

    def untyped_storage(self) -> Any:
        return self.played_by.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("a tensor of a device that is no more")


class _Operations(TorchDispatchMode):
    def __init__(self, transfers: Counter[str]) -> None:
        super().__init__()
        self.transfers = transfers

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        is_there = [isinstance(tensor, OnDevice) for tensor in tensors]
        goes_there = any(is_there)
        if kwargs.get("device") is not None:
            goes_there = torch.device(kwargs["device"]) == DEVICE
            kwargs["device"] = CPU
        self._count(operation, tensors, is_there, goes_there)
        made = operation(*tree_map(_played, args), **tree_map(_played, kwargs))
        if operation._schema.is_mutable:
            given = {id(_played(tensor)): tensor for tensor in tensors}
            return tree_map(lambda one: given.get(id(one), one), made)
        return tree_map(lambda one: OnDevice(one) if goes_there and isinstance(one, Tensor) else one, made)

    def _count(self, operation: Any, tensors: Any, is_there: list[bool], goes_there: bool) -> None:
        if operation in (_COPY_TO, _COPY_INTO):
            came_from = is_there[-1]
            goes_there = is_there[0] if operation is _COPY_INTO else goes_there
            if came_from != goes_there:
                self.transfers["written" if goes_there else "read"] += 1
            return
        if operation in _WAITING and is_there[0]:
            self.transfers["read"] += 1
        pairs = zip(tensors, is_there, strict=True)
        strangers = any(is_there) and [one for one, there in pairs if not there and one.ndim]
        if strangers and operation not in _INDEXING:
            raise RuntimeError(f"{operation}: expected all tensors to be on the same device")
        if strangers:
            self.transfers["written"] += 1


class _Data(TorchFunctionMode):
    """Tensors made of data: of a "meta" one PyTorch would forget them."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in _FROM_DATA and kwargs.get("device") is not None:
            return function(*args, **{**kwargs, "device": CPU}).to(kwargs["device"])
        return function(*args, **kwargs)


class _Generator(torch.Generator):
    """One of either device."""

    def __new__(cls, device: Any = CPU) -> _Generator:
        made = super().__new__(cls, CPU)
        made.belongs_to = torch.device(device)
        return made

    def __init__(self, device: Any = CPU) -> None:
        pass

    @property
    def device(self) -> torch.device:
        return self.belongs_to


@contextmanager
def pretended_device(monkeypatch: Any) -> Any:
    """Every trainer's device, whatever its name; gives how often was ``read`` from and ``written`` to it."""
    transfers: Counter[str] = Counter()
    for module in (few_shot, few_trajectories, load, maml, maml_ppo, ppo):
        monkeypatch.setattr(module, "find_device", lambda name: CPU if name == "cpu" else DEVICE)
    monkeypatch.setattr(torch, "Generator", _Generator)
    # The fused optimizer's own list of devices, on which "meta" is not.
    adam = import_module("torch.optim.adam")
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_, **__: None)
    with _Operations(transfers), _Data():
        yield transfers


def _played(one: Any) -> Any:
    return one.played_by if isinstance(one, OnDevice) else one
