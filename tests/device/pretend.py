"""A device that is not there: tensors whose data lie in the CPU's memory and which say that they are elsewhere.

As on a GPU, an operation on tensors of different devices fails, and what makes the host wait for the device is
noted, with the line of kpose that asked for it. Everything else gives the CPU's results.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

aten = torch.ops.aten
NAME = "pretend"
OURS, LIGHTNING = (
    f"{os.sep}kpose{os.sep}",
    (f"{os.sep}pytorch_lightning{os.sep}", f"{os.sep}lightning_fabric{os.sep}"),
)
COPIES = {aten._to_copy.default, aten.copy_.default, aten.copy.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
# Operations whose result has a size that the host has to learn, that return to the host, or that check for errors.
WAITING = {
    "_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "_local_scalar_dense", "_unique2", "bincount", "equal",
    "linalg_eig", "linalg_lstsq", "masked_select", "nonzero", "unique_consecutive", "unique_dim",
}  # fmt: skip


class Backend(_DummyBackendModule):
    """What torch asks of a device's module."""

    def is_available(self):
        return Device.active is not None

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16, torch.float32]

    def get_rng_state(self, device=None):
        return torch.zeros(1, dtype=torch.uint8)

    def set_rng_state(self, state, device=None):
        pass


class PretendTensor(torch.Tensor):
    """A tensor of the device."""

    @staticmethod
    def __new__(cls, data):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            data.size(),
            strides=data.stride(),
            storage_offset=data.storage_offset(),
            dtype=data.dtype,
            device=torch.device(NAME, 0),
        )
        made.held = data
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})

    def tolist(self):
        note("tolist")
        return self.held.tolist()

    def numpy(self, **kwargs):
        raise TypeError(f"can't convert {NAME} device type tensor to numpy.")

    __array__ = numpy

    def new_tensor(self, data, *, dtype=None, device=None, **kwargs):
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device, **kwargs)

    def __getitem__(self, key):
        return super().__getitem__(_sent(key))

    def __setitem__(self, key, value):
        super().__setitem__(_sent(key), value)

    def __reduce_ex__(self, protocol):
        return self.detach().held.__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        return self.detach().clone().requires_grad_(self.requires_grad)

    def __repr__(self, **kwargs):
        return f"PretendTensor({self.held!r})"


def _sent(key):
    """Send lists of numbers, as an index of a GPU's tensor is."""
    parts = key if isinstance(key, tuple) else (key,)
    sent = (torch.tensor(part, device=NAME) if isinstance(part, list | tuple) else part for part in parts)
    return tuple(sent)


def dispatch(func, args, kwargs):
    leaves = list(_leaves((args, kwargs)))
    here = [leaf for leaf in leaves if isinstance(leaf, PretendTensor)]
    there = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, PretendTensor)]
    target = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
    if Device.active is not None and (here or (target is not None and target.type == NAME)):
        Device.active.kernels += not _is_view(func)
        _check(func, args, here, there, target)
    args, kwargs = _map(_to_host, (args, kwargs))
    result = func(*args, **kwargs)
    moved = bool(here) if target is None else target.type == NAME
    if func in COPIES and target is not None and any(result is leaf for leaf in args):
        result = result.clone()
    known = {id(leaf.held): leaf for leaf in here}

    def to_device(leaf):
        if not isinstance(leaf, Tensor) or isinstance(leaf, PretendTensor):
            return leaf
        return known.get(id(leaf), PretendTensor(leaf) if moved and id(leaf) not in map(id, there) else leaf)

    return _map(to_device, result)


def _leaves(values):
    """Yield the parts of an operation's arguments; as `tree_leaves`, in a tenth of its time."""
    if isinstance(values, tuple | list):
        for value in values:
            yield from _leaves(value)
    elif isinstance(values, dict):
        yield from _leaves((*values.values(),))
    else:
        yield values


def _map(function, values):
    if isinstance(values, tuple | list):
        parts = [_map(function, value) for value in values]
        return parts if isinstance(values, list) else tuple(parts)
    if isinstance(values, dict):
        return {name: _map(function, value) for name, value in values.items()}
    return function(values)


def _is_view(func):
    results = [result.alias_info for result in func._schema.returns]
    return "empty" in func._schema.name or any(info is not None and not info.is_write for info in results)


def _to_host(leaf):
    if isinstance(leaf, PretendTensor):
        return leaf.held
    return torch.device("cpu") if isinstance(leaf, torch.device) else leaf


def _check(func, args, here, there, target):
    name = func._schema.name.removeprefix("aten::")
    if func in COPIES:
        if there or (target is not None and target.type != NAME):
            note(f"copy {'to' if there else 'from'} the device")
        return
    if func in INDEXING:
        index = [part for part in args[1] if isinstance(part, Tensor)]
        if any(not isinstance(part, PretendTensor) for part in index):
            note("index on the CPU")
        there = [part for part in (args[0], *args[2:3]) if isinstance(part, Tensor) and part.device.type != NAME]
        # A mask and one value is `masked_fill`.
        filled = len(args) > 2 and len(index) == len(args[1]) == 1 and args[2].numel() == 1
        if not filled and any(part.dtype in (torch.bool, torch.uint8) for part in index):
            note("index by a mask")
    if name in WAITING or func is aten.repeat_interleave.Tensor:
        note(name)
    # A number on the CPU is handed to a kernel by value, but not to those that join tensors.
    mixed = [tuple(part.shape) for part in there if part.dim() or name in ("cat", "stack")]
    if here and mixed:
        raise RuntimeError(f"{name}: expected all tensors to be on {NAME}:0, got {mixed} on the CPU; {_place()}")


def note(what):
    """Note that the host waits for the device, unless Lightning wants it to."""
    place = _place()
    if Device.active is not None and place is not None:
        Device.active.waits.append(f"{what}: {place}")


def _place():
    """Return the innermost line of kpose; None where Lightning calls for its own purposes."""
    frame = sys._getframe()  # `traceback` would read the lines of all files
    while frame is not None:
        file = frame.f_code.co_filename
        if any(part in file for part in LIGHTNING):
            return None
        if OURS in file:
            return f"{file[file.rindex(OURS) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "in a backward pass"


class Device(TorchDispatchMode):
    """The device, while it is entered; a run of the process has one at most at a time.

    Attributes:
        waits: What the host waited for since `watched` was entered.
        kernels: Operations on the device since then, but for views.
    """

    active, accelerator = None, NAME

    def __init__(self):
        super().__init__()
        self.device = torch.device(NAME, 0)
        self.waits, self.kernels = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if torch.is_inference_mode_enabled():  # composite operations come here whole
            with self:
                result = func.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        return dispatch(func, args, kwargs or {})

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[str]]:
        """Yield a list that is filled with what the host waits for."""
        before, self.waits, self.kernels = self.waits, [], 0
        try:
            yield self.waits
        finally:
            self.waits = before


# Before anything is differentiated: autograd makes its threads for devices once.
_setup_privateuseone_for_python_backend(NAME, backend_module=Backend())


@contextlib.contextmanager
def pretend_device() -> Iterator[Device]:
    """Enter the device."""
    make, convert = torch.tensor, torch.as_tensor

    def tensor(data, *, dtype=None, device=None, **kwargs):
        if device is None or torch.device(device).type != NAME:
            return make(data, dtype=dtype, device=device, **kwargs)
        return make(data, dtype=dtype, **kwargs).to(NAME)

    def as_tensor(data, dtype=None, device=None):
        if device is None or torch.device(device).type != NAME:
            return convert(data, dtype=dtype, device=device)
        return (data if isinstance(data, Tensor) else make(data, dtype=dtype)).to(device, dtype)

    device = Device()
    with mock.patch.multiple(torch, tensor=tensor, as_tensor=as_tensor), device:
        Device.active = device
        try:
            yield device
        finally:
            Device.active = None
