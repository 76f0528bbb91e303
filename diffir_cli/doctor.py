"""Whether this installation works: every part tried, and told so that a bug report can hold it.

Nothing here fails: a check that raises is one that says why. So even torch is imported inside the
checks only.
"""

from __future__ import annotations

import importlib
import itertools
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffir_cli.config import ModelConfig, Precision, Tail
from diffir_cli.errors import ChecksumError, DeviceError, DiffIRError, WeightsError
from diffir_cli.folders import cache_folder, config_folder
from diffir_cli.registry import WeightSpec, read_registry
from diffir_cli.version import __version__

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LIBRARIES = {
    "torch": "torch",
    "numpy": "numpy",
    "pillow": "PIL",
    "opencv": "cv2",
    "typer": "typer",
    "rich": "rich",
    "tqdm": "tqdm",
    "platformdirs": "platformdirs",
    "filelock": "filelock",
    "safetensors": "safetensors",
}
"""What the program cannot do without, by the names of the modules."""

EXTRAS = {
    "formats": ("pillow_heif", "pillow_jxl"),
    "metrics": ("torchmetrics",),
    "plot": ("matplotlib",),
    "ray": ("ray",),
    "train": ("accelerate", "matplotlib"),
}
"""What can be installed beside it, by the names of the modules."""

_PRECISIONS = [precision for precision in Precision if precision is not Precision.AUTO]

_VARIABLES = ("DIFFIR_", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NO_COLOR")
"""Variables that change what the program does, or how their names begin."""

SIDE = 64
"""Pixels of the picture that each of the embedded weights restores."""

_FAR = 32.0
"""Levels of 255 by which a result may differ from its enlarged input on average."""

_TINY = ModelConfig(
    tail=Tail.SHUFFLE_ONCE,
    dim=8,
    num_blocks=(1, 1, 1, 1),
    refinement_blocks=1,
    cpen_dim=8,
    cpen_blocks=1,
)


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    ABSENT = "absent"
    """Something that one can do without is not there."""
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """One thing that was tried."""

    section: str
    name: str
    state: State
    text: str
    """What was found, or why it failed; a home folder is told as ~."""
    seconds: float
    """How long it took."""

    def line(self) -> str:
        """For people; a failure begins with the word."""
        told = f"failed: {self.text}" if self.state is State.FAILED else self.text
        return f"{self.name}: {told}"


Found = tuple[State, str]


def examine() -> Iterator[Check]:
    """Try everything, one thing after another."""
    yield _tried("versions", "diffir", lambda: (State.OK, __version__))
    yield _tried("versions", "python", _python)
    for name, module in LIBRARIES.items():
        yield _tried("versions", name, partial(_library, name, module))
    yield _tried("system", "system", lambda: (State.OK, platform.platform()))
    yield _tried("system", "processor", _processor)
    yield _tried("system", "memory", _memory)
    yield _tried("system", "variables", _variables)
    for name, modules in EXTRAS.items():
        yield _tried("extras", name, partial(_extra, name, modules))
    yield _tried("devices", "auto", _automatic)
    devices = _devices()
    for device in devices:
        yield _tried("devices", device, partial(_device, device))
    for device, precision in itertools.product(devices, _PRECISIONS):
        yield _tried("precisions", f"{device} {precision}", partial(_run, device, precision))
    for name, folder in _FOLDERS.items():
        yield _tried("folders", name, partial(_folder, folder))
    yield from _weights()


def _tried(section: str, name: str, check: Callable[[], Found]) -> Check:
    """What a check found; an exception of whatever kind is a finding too."""
    started = time.perf_counter()
    try:
        state, text = check()
    except DiffIRError as error:
        state, text = State.FAILED, error.message
    except Exception as error:
        state, text = State.FAILED, f"{type(error).__name__}: {error}"
    taken = time.perf_counter() - started
    return Check(section, name, state, _private(" ".join(text.split())), taken)


def _private(text: str) -> str:
    """Text without the path of the user's home, which has a name in it."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return text
    return text.replace(home, "~") if len(home) > 1 else text


def _python() -> Found:
    return State.OK, f"{platform.python_version()}, {platform.python_implementation()}"


def _library(name: str, module: str) -> Found:
    loaded = importlib.import_module(module)
    version = getattr(loaded, "__version__", None) or metadata.version(name)
    return State.OK, str(version)


def _extra(name: str, modules: tuple[str, ...]) -> Found:
    missing = [module for module in modules if util.find_spec(module) is None]
    if missing:
        return State.ABSENT, f"without {', '.join(missing)}; pip install 'diffir[{name}]'"
    return State.OK, ", ".join(f"{module} {_version(module)}" for module in modules)


def _version(module: str) -> str:
    names = metadata.packages_distributions().get(module, [])
    return metadata.version(names[0]) if names else "of unknown version"


def _processor() -> Found:
    import torch

    from diffir_cli.benchmark.machine import describe_machine

    return State.OK, describe_machine(torch.device("cpu")).lines()[0]


def _memory() -> Found:
    import torch

    from diffir_cli.engine.memory import available_bytes

    free = available_bytes(torch.device("cpu"))
    return State.OK, "unknown" if free is None else f"{free / 2**30:.1f} GiB can be taken"


def _variables() -> Found:
    found = [f"{name}={value}" for name, value in os.environ.items() if name.startswith(_VARIABLES)]
    encoding = f"text as {sys.stdout.encoding}" if sys.stdout else "no standard output"
    return State.OK, ", ".join([*sorted(found), encoding])


def _automatic() -> Found:
    from diffir_cli.engine.device import choose_device, choose_precision

    device = choose_device("auto")
    return State.OK, f"{device} in {choose_precision(Precision.AUTO, device).value}"


def _devices() -> list[str]:
    """The names of all devices; of the CPU alone where torch cannot tell."""
    found = ["cpu"]
    try:
        from diffir_cli.engine.device import choose_device

        for kind in ("cuda", "xpu", "mps"):
            for place in range(1024):
                try:
                    choose_device(f"{kind}:{place}")
                except DeviceError:
                    break
                found.append(f"{kind}:{place}")
    except Exception:
        # The checks of torch and of `auto` say why.
        return found
    return found


def _device(name: str) -> Found:
    import torch

    from diffir_cli.benchmark.machine import gpu_driver, gpu_name
    from diffir_cli.engine.memory import available_bytes

    device = torch.device(name)
    if device.type == "cpu":
        return State.OK, f"{torch.get_num_threads()} threads"
    free = available_bytes(device)
    room = "unknown memory" if free is None else f"{free / 2**30:.1f} GiB can be taken"
    return State.OK, f"{gpu_name(device)}, {gpu_driver(device)}, {room}"


def _run(device: str, precision: Precision) -> Found:
    """Restore a small picture with a small network."""
    import torch

    from diffir_cli.engine.device import choose_precision
    from diffir_cli.engine.restorer import ModelRestorer
    from diffir_cli.networks import DiffIRS2

    try:
        choose_precision(precision, torch.device(device))
    except DeviceError as error:
        return State.ABSENT, f"not used: {error.message}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        restorer = ModelRestorer(DiffIRS2(_TINY), device, precision)
    restorer.restore(_picture(32))
    if restorer.redone:
        return State.OK, "works, but overflowed: computed again in fp32"
    return State.OK, "works"


_FOLDERS: dict[str, Callable[[], Path]] = {
    "cache": cache_folder,
    "config": config_folder,
    "temporary": lambda: Path(tempfile.gettempdir()),
}


def _folder(which: Callable[[], Path]) -> Found:
    """Whether a folder can be written, or made where it is to be."""
    folder = which()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    with tempfile.TemporaryFile(dir=there) as file:
        file.write(b"diffir")
        file.flush()
    free = shutil.disk_usage(there).free / 2**30
    made = "can be written" if there == folder else "is not there yet, can be made"
    return State.OK, f"{folder} {made}, {free:.1f} GiB free"


def _weights() -> Iterator[Check]:
    """The files of the registry that are at hand, and a restoration with each embedded one."""
    try:
        registry = read_registry()
    except Exception as error:
        yield Check("weights", "registry", State.FAILED, f"{type(error).__name__}: {error}", 0.0)
        return
    absent = 0
    for spec in registry.values():
        check = _tried("weights", spec.name, partial(_file, spec))
        absent += check.state is State.ABSENT
        if check.state is not State.ABSENT:
            yield check
    text = f"{absent} more in the registry are not on this machine"
    yield Check("weights", "others", State.ABSENT if absent else State.OK, text, 0.0)
    for spec in registry.values():
        if spec.embedded:
            yield _tried("restorations", spec.name, partial(_restore, spec))


def _file(spec: WeightSpec) -> Found:
    from diffir_cli.weightfile import locate_weights

    try:
        found = locate_weights(spec.name, spec.task)
    except ChecksumError:
        raise
    except WeightsError:
        if spec.embedded:
            raise
        return State.ABSENT, ""
    verified = "verified" if found.sha256 == spec.sha256 else "not pinned"
    return State.OK, f"{verified}, sha256 {found.sha256[:16]}…"


def _restore(spec: WeightSpec) -> Found:
    """Restore a picture of 64×64 pixels, which must come out as large as said, and resemble it."""
    import numpy as np

    from diffir_cli.engine.loading import restorer_of
    from diffir_cli.weightfile import locate_weights

    restorer = restorer_of(locate_weights(spec.name, spec.task), spec.task)
    lq = _picture(SIDE)
    mask = None
    if restorer.takes_mask:
        mask = np.zeros(lq.shape[:2], np.bool_)
        mask[24:40, 28:32] = True
    started = time.perf_counter()
    hq = restorer.restore(lq, mask=mask)
    taken = time.perf_counter() - started
    expected = lq.repeat(spec.scale, axis=0).repeat(spec.scale, axis=1)
    size = f"{hq.shape[1]}×{hq.shape[0]}"
    if hq.shape != expected.shape:
        return State.FAILED, f"{SIDE}×{SIDE} pixels became {size}"
    off = float(np.abs(hq.astype(np.float32) - expected).mean())
    if off > _FAR:
        return State.FAILED, f"the result is {off:.0f} levels of 255 from its input on average"
    where = f"{restorer.device} in {restorer.precision.value}"
    return State.OK, f"{SIDE}×{SIDE} to {size} in {taken:.2f} s on {where}, finite"


def _picture(side: int) -> NDArray[np.uint8]:
    """A smooth picture in colours."""
    import numpy as np

    rows, columns = np.mgrid[:side, :side] / side
    waves = np.stack([rows, columns, (1 + np.sin(6 * rows + 4 * columns)) / 2], axis=2)
    return (40 + 170 * waves).astype(np.uint8)


def as_dict(checks: list[Check]) -> dict[str, Any]:
    """Checks as values that JSON can hold."""
    return {
        "diffir": __version__,
        "ok": all(check.state is not State.FAILED for check in checks),
        "checks": [
            {
                "section": check.section,
                "name": check.name,
                "state": check.state.value,
                "text": check.text,
                "seconds": check.seconds,
            }
            for check in checks
        ],
    }
