"""An unpickler in which a pickle can name nothing but tensors and containers, and do nothing else.

A pickle is a program for a small machine. Here every other class that it names stands for an object
that does nothing; only plain containers can be filled; and only texts become keys, since everything
else can be made to collide.

torch's own restricted unpickler (`weights_only=True`) runs no foreign code either, but with hostile
files its time and memory have no bound. With torch 2.13, and files of less than a kilobyte where no
size is named:

    file                                            torch                 here
    a key of 40 pairs, each of the last one twice   stopped after 25 s    read in 0.01 s
    the same in a set, OrderedDict or Counter       stopped after 25 s    read in 0.01 s
    `bytearray` of 4 GiB, by its length alone       4.1 s and 4 GiB       read in 0.01 s
    a thousand of 64 MiB, in 16 KB                  stopped after 25 s    read in 0.01 s
    a memo index of 2³² − 1                         read                  read
    100,000 nested lists or tuples, in 100 KB       0.2 s, 10 MB          0.2 s, 10 MB
    lists of lists with 2⁴⁰ leaves                  read                  read
    a storage that is said to have 2³⁶ numbers      refused               refused

It also stops at the first class that it does not know, and every file of Lightning names some. So
torch's cannot come first; and behind this one it would read nothing that is wanted.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import torch


class StandIn:
    """An object in the place of one that a pickle wants to build."""


_NO_SET = StandIn()


class UnreadableTensor(StandIn):
    """In the place of a tensor that has no plain numbers of its own in the file."""


class _Builder:
    """A function that a pickle may call but not change: it has no attributes to set."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        self.build = build


def _called(callee: Any, arguments: Any) -> Any:
    """What a call in a pickle gives.

    Raises:
        UnpicklingError: when something is called that cannot be.
    """
    if isinstance(callee, type) and issubclass(callee, StandIn):
        return callee()
    if not isinstance(callee, _Builder):
        raise pickle.UnpicklingError(f"a {type(callee).__name__} is called")
    if type(arguments) is not tuple or len(arguments) > _MOST:
        raise pickle.UnpicklingError("a call has too many arguments")
    return callee.build(*arguments)


_MOST = 64
"""Arguments of a call, and sides of a tensor. A pickle can repeat long ones in three bytes."""
_LONGEST_SIDE = 2**31


def _size(sides: Any) -> tuple[int, ...]:
    if type(sides) not in (list, tuple, torch.Size) or len(sides) > _MOST:
        raise pickle.UnpicklingError("a tensor has a malformed size")
    if not all(type(side) is int and 0 <= side < _LONGEST_SIDE for side in sides):
        raise pickle.UnpicklingError("a tensor has a malformed size")
    return tuple(sides)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_others: Any) -> Any:
    """A tensor of a storage, 1-D, that holds all its numbers."""
    size, stride = _size(size), _size(stride)
    if not isinstance(storage, torch.Tensor) or math.prod(size) > storage.numel():
        return UnreadableTensor()
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if math.prod(size) and not 0 <= offset <= last < storage.numel():
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    return storage.as_strided(size, stride, storage.storage_offset() + offset)


def _ordered(pairs: Any = ()) -> dict[str, Any]:
    """An OrderedDict, as files of Python 2 have it: of a list of pairs."""
    if type(pairs) is not list:
        pairs = []
    found = {pair[0]: pair[1] for pair in pairs if type(pair[0]) is str}
    # So that no list is read twice.
    pairs.clear()
    return found


_TENSOR = _Builder(_tensor)
_PARAMETER = _Builder(lambda tensor, *_others: tensor)


def _with_attributes(build: Any, _kind: Any, arguments: Any, _state: Any) -> Any:
    """A tensor that has attributes, without them."""
    return _called(build, arguments) if build in (_TENSOR, _PARAMETER) else UnreadableTensor()


_BUILDERS = {
    ("collections", "OrderedDict"): _Builder(_ordered),
    ("torch._utils", "_rebuild_tensor"): _TENSOR,
    ("torch._utils", "_rebuild_tensor_v2"): _TENSOR,
    ("torch._utils", "_rebuild_parameter"): _PARAMETER,
    ("torch._utils", "_rebuild_parameter_with_state"): _PARAMETER,
    ("torch._tensor", "_rebuild_from_type_v2"): _Builder(_with_attributes),
    ("torch", "Size"): _Builder(_size),
}
"""The only callables that a pickle gets by name."""

_DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}
"""The types of numbers by the classes that name them in files: `torch.FloatStorage` and so on."""


# The unpickler written in Python: the one in C sizes its memo by the largest index in the file, so
# that twenty bytes can ask for gigabytes.
class InertUnpickler(pickle._Unpickler):
    """Runs a pickle without any effect but the containers and tensors in it."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    readline: Callable[[], bytes]
    read: Callable[[int], bytes]
    memo: dict[int, Any]

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """What a name stands for: a builder of tensors, a type of numbers, or else nothing."""
        if module_name in ("torch", "torch.cuda") and global_name in _DTYPES:
            return _DTYPES[global_name]
        if builder := _BUILDERS.get((module_name, global_name)):
            return builder
        rebuilds = module_name.startswith("torch.") and global_name.startswith("_rebuild")
        return UnreadableTensor if rebuilds else StandIn

    def _set(self, target: Any, items: list[Any]) -> None:
        if type(target) is dict:
            for key, value in zip(items[::2], items[1::2], strict=True):
                if type(key) is str:
                    target[key] = value
        elif not isinstance(target, StandIn):
            raise pickle.UnpicklingError(f"items are set in a {type(target).__name__}")

    def _extend(self, target: Any, items: list[Any]) -> None:
        if type(target) is list:
            target.extend(items)
        elif not isinstance(target, StandIn):
            raise pickle.UnpicklingError(f"items are added to a {type(target).__name__}")

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

    def load_empty_set(self) -> None:
        """Make nothing in the place of a set: no network has one."""
        self.append(_NO_SET)

    def load_additems(self) -> None:
        """Forget the items of a set, which would be hashed."""
        self.pop_mark()

    def load_frozenset(self) -> None:
        """Make nothing in the place of a frozenset."""
        self.pop_mark()
        self.append(_NO_SET)

    def load_bytearray8(self) -> None:
        """Read the bytes of a bytearray, as many as there are."""
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def load_put(self) -> None:
        """Remember what lies on the stack under a number in words."""
        self.memo[self._written_index()] = self.stack[-1]

    def load_get(self) -> None:
        """Fetch what was remembered under a number in words."""
        self.append(self.memo[self._written_index()])

    def _written_index(self) -> int:
        # Larger numbers can be made to collide.
        index = int(self.readline()[:-1])
        if not 0 <= index < 2**32:
            raise pickle.UnpicklingError("its memo is malformed")
        return index

    def load_build(self) -> None:
        """Forget the state of an object: nothing here has one."""
        self.stack.pop()

    def load_reduce(self) -> None:
        """Call a builder."""
        arguments = self.stack.pop()
        self.stack[-1] = _called(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        """Make an object of a class."""
        arguments, kind = self.stack.pop(), self.stack.pop()
        self.append(_called(kind, arguments))

    def load_newobj_ex(self) -> None:
        """Make an object of a class, with arguments by name."""
        self.stack.pop()
        self.load_newobj()

    def _instantiate(self, klass: Any, args: list[Any]) -> None:
        self.append(_called(klass, tuple(args)))


for _name in (
    *("SETITEM", "SETITEMS", "DICT", "APPEND", "APPENDS", "EMPTY_SET", "ADDITEMS", "FROZENSET"),
    *("BYTEARRAY8", "PUT", "GET", "BUILD", "REDUCE", "NEWOBJ", "NEWOBJ_EX"),
):
    _opcode = getattr(pickle, _name)[0]
    InertUnpickler.dispatch[_opcode] = getattr(InertUnpickler, f"load_{_name.lower()}")
