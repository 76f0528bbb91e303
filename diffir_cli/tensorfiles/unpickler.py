"""An unpickler in which a pickle can name nothing but tensors and containers, and do nothing else.

A pickle is a program for a small machine. Here every other class that it names stands for an object
that does nothing; only plain containers can be filled; and what becomes a key must be plain.

torch's own restricted unpickler (`weights_only=True`) runs no foreign code either, but with hostile
files its time and memory have no bound. With torch 2.13, and files of less than a kilobyte where no
size is named:

    file                                            torch                 here
    a key of 40 pairs, each of the last one twice   stopped after 25 s    refused in 0.01 s
    the same in a set, OrderedDict or Counter       stopped after 25 s    refused in 0.01 s
    `bytearray` of 4 GiB, by its length alone       4.1 s and 4 GiB       refused in 0.01 s
    a thousand of 64 MiB, in 16 KB                  stopped after 25 s    refused in 0.01 s
    a memo index of 2³² − 1                         read                  read
    100,000 nested lists or tuples, in 100 KB       0.2 s, 10 MB          0.2 s, 10 MB
    lists of lists with 2⁴⁰ leaves                  read                  read
    a storage that is said to have 2³⁶ numbers      refused               refused

It also stops at the first class that it does not know, and every file of Lightning names some. So
torch's cannot come first; and behind this one it would read nothing that is wanted.
"""

from __future__ import annotations

import collections
import pickle
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch


class StandIn:
    """An object in the place of one that a pickle wants to build."""

    def __new__(cls, *_args: object, **_kwargs: object) -> StandIn:
        """The same inert object, whatever it is called with."""
        return object.__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass


class _Builder:
    """A function that a pickle may call but not change: it has no attributes to set."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build

    def __call__(self, *arguments: Any) -> Any:
        return self._build(*arguments)


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_others: Any) -> Any:
    """A tensor of a storage, 1-D; torch refuses those that reach beyond it."""
    if not isinstance(storage, torch.Tensor):
        return StandIn()
    return storage.as_strided(size, stride, offset)


def _parameter(tensor: Any, *_others: Any) -> Any:
    return tensor


def _ordered(pairs: Iterable[Any] = ()) -> collections.OrderedDict[Any, Any]:
    found: collections.OrderedDict[Any, Any] = collections.OrderedDict()
    for key, value in pairs:
        found[_plain_key(key)] = value
    return found


_BUILDERS = {
    ("collections", "OrderedDict"): _Builder(_ordered),
    ("torch._utils", "_rebuild_tensor_v2"): _Builder(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Builder(_parameter),
    ("torch", "Size"): _Builder(torch.Size),
}
"""The only callables that a pickle gets by name."""

_DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}
"""The types of numbers by the classes that name them in files: `torch.FloatStorage` and so on."""

_SCALARS = (str, bytes, int, float, complex, bool, type(None), StandIn)


def _plain_key(key: Any) -> Any:
    """The same, where it may be a key.

    Raises:
        UnpicklingError: when it is nested.
    """
    parts = key if type(key) is tuple else (key,)
    # A class of stand-ins is named by files of Lightning.
    if not all(isinstance(part, (*_SCALARS, type)) for part in parts):
        raise pickle.UnpicklingError("a key is neither a word nor a number")
    return key


# The unpickler written in Python: the one in C sizes its memo by the largest index in the file, so
# that twenty bytes can ask for gigabytes.
class InertUnpickler(pickle._Unpickler):
    """Runs a pickle without any effect but the containers and tensors in it."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """What a name stands for: a builder of tensors, a type of numbers, or else nothing."""
        if module_name in ("torch", "torch.cuda") and global_name in _DTYPES:
            return _DTYPES[global_name]
        builder = _BUILDERS.get((module_name, global_name))
        return builder or type("StandIn", (StandIn,), {})

    def _set(self, target: Any, items: list[Any]) -> None:
        if type(target) in (dict, collections.OrderedDict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[_plain_key(key)] = value
        elif not isinstance(target, StandIn):
            raise pickle.UnpicklingError(f"items are set in a {type(target).__name__}")

    def _extend(self, target: Any, items: list[Any]) -> None:
        if type(target) is list:
            target.extend(items)
        elif not isinstance(target, StandIn):
            raise pickle.UnpicklingError(f"items are added to a {type(target).__name__}")

    def _build(self, callee: Any, arguments: tuple[Any, ...]) -> Any:
        stand_in = isinstance(callee, type) and issubclass(callee, StandIn)
        if not (stand_in or isinstance(callee, _Builder)):
            raise pickle.UnpicklingError(f"a {type(callee).__name__} is called")
        return callee() if stand_in else callee(*arguments)

    def load_setitem(self) -> None:
        """Set one item."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        """Set several items."""
        items = self.pop_mark()
        self._set(self.stack[-1], items)

    def load_dict(self) -> None:
        """Make a dict of what lies on the stack."""
        items = self.pop_mark()
        found: dict[Any, Any] = {}
        self._set(found, items)
        self.append(found)

    def load_append(self) -> None:
        """Add one item to a list."""
        value = self.stack.pop()
        self._extend(self.stack[-1], [value])

    def load_appends(self) -> None:
        """Add several items to a list."""
        items = self.pop_mark()
        self._extend(self.stack[-1], items)

    def load_additems(self) -> None:
        """Add several items to a set."""
        items, target = self.pop_mark(), self.stack[-1]
        if type(target) is set:
            target.update(_plain_key(item) for item in items)
        else:
            self._extend(target, items)

    def load_frozenset(self) -> None:
        """Make a set of what lies on the stack."""
        self.append(frozenset(_plain_key(item) for item in self.pop_mark()))

    def load_build(self) -> None:
        """Forget the state of an object: nothing here has one."""
        self.stack.pop()

    def load_reduce(self) -> None:
        """Call a builder."""
        arguments = self.stack.pop()
        self.stack[-1] = self._build(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        """Make an object of a class."""
        arguments, kind = self.stack.pop(), self.stack.pop()
        self.append(self._build(kind, arguments))

    def load_newobj_ex(self) -> None:
        """Make an object of a class, with arguments by name."""
        self.stack.pop()
        self.load_newobj()

    def _instantiate(self, klass: Any, args: list[Any]) -> None:
        self.append(self._build(klass, tuple(args)))


for _name in (
    *("SETITEM", "SETITEMS", "DICT", "APPEND", "APPENDS", "ADDITEMS", "FROZENSET"),
    *("BUILD", "REDUCE", "NEWOBJ", "NEWOBJ_EX"),
):
    _opcode = getattr(pickle, _name)[0]
    InertUnpickler.dispatch[_opcode] = getattr(InertUnpickler, f"load_{_name.lower()}")
