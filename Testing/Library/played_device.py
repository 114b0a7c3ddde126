"""Plays the part of a second device, on which tensors lie apart from the CPU's, so that a forgotten `device=` is found without a GPU.

Inside `played()` a tensor made on "meta" or sent there holds numbers after all, in a CPU tensor of its own; it meets no tensor of the CPU,
and no numpy, but by `.cpu()`. `Launches` stands before a Triton kernel and hands it the numbers.
"""

import contextlib

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = "meta"
BETWEEN = ("aten::_to_copy", "aten::copy_", "aten::index.Tensor", "aten::index")
"""What takes tensors of both devices."""


class Lent(torch.Tensor):
    """A tensor of the played device; `inner` has its numbers."""

    @staticmethod
    def __new__(cls, inner):
        shape = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(cls, inner.size(), **shape, dtype=inner.dtype, device=DEVICE)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _dispatch(function, args, kwargs or {})


class _Numbers(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _dispatch(function, args, kwargs or {})


class _Python(TorchFunctionMode):
    """What torch does with lists before it dispatches, which would make tensors on the real "meta"."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is torch.tensor and "device" in kwargs:
            device = kwargs.pop("device")
            return function(*args, **kwargs).to(device)
        if getattr(function, "__name__", "") == "__getitem__" and isinstance(args[1], list):
            args = args[0], torch.tensor(args[1])
        return function(*args, **kwargs)


def _dispatch(function, args, kwargs):
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    lent, name, device = any(isinstance(one, Lent) for one in tensors), function._schema.name, kwargs.get("device")
    if lent and name not in BETWEEN and any(one.dim() for one in tensors if not isinstance(one, Lent)):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device")
    if device is not None:
        lent, kwargs = torch.device(device).type == DEVICE, {**kwargs, "device": "cpu"}
    made = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if function._schema.is_mutable and not isinstance(made, (tuple, list)):
        return args[0]
    return tree_map(lambda one: Lent(one) if lent and isinstance(one, torch.Tensor) else one, made)


def _inner(one):
    return one.inner if isinstance(one, Lent) else one


@contextlib.contextmanager
def played():
    """The device is there."""
    with _Numbers(), _Python():
        yield


class Launches:
    """A Triton kernel that takes tensors of the played device alone."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        def launch(*args, **constants):
            assert all(isinstance(one, Lent) and one.is_contiguous() for one in args if isinstance(one, torch.Tensor))
            with _disable_current_modes():
                self.kernel[grid](*map(_inner, args), **constants)

        return launch
