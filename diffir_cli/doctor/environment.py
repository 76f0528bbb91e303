"""What the program stands on: libraries, the machine, extras, folders."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib import metadata, util
from pathlib import Path

from diffir_cli.doctor.check import Check, Found, State, tried
from diffir_cli.util.folders import settings_files
from diffir_cli.version import __version__

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
    "requests": "requests",
}
"""What the program cannot do without, by the names of the modules."""

EXTRAS = {
    "formats": ("pillow_heif", "pillow_jxl"),
    "metrics": ("torchmetrics",),
    "gdrive": ("gdown",),
    "gs": ("upath", "gcsfs"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "peers": ("openvino", "onnx", "onnxscript", "onnxruntime"),
    "plot": ("matplotlib",),
    "ray": ("ray",),
    "s3": ("upath", "s3fs"),
    "spandrel": ("spandrel",),
    "train": ("accelerate", "matplotlib"),
}
"""What can be installed beside it, by the names of the modules."""

_VARIABLES = ("DIFFIR_", "OMP_", "GOMP_", "CUDA_VISIBLE_DEVICES", "NO_COLOR")
"""Variables that change what the program does, or how their names begin."""


def check_versions() -> Iterator[Check]:
    """The program, Python, and what it cannot do without."""
    yield tried("versions", "diffir", lambda: (State.OK, __version__))
    yield tried("versions", "python", _python)
    for name, module in LIBRARIES.items():
        yield tried("versions", name, partial(_library, name, module))


def check_system() -> Iterator[Check]:
    """The machine, and what changes the program's ways."""
    yield tried("system", "system", lambda: (State.OK, platform.platform()))
    yield tried("system", "processor", _processor)
    yield tried("system", "CPUs", _cpus)
    yield tried("system", "memory", _memory)
    yield tried("system", "variables", _variables)
    yield tried("system", "settings", _settings)


def check_extras() -> Iterator[Check]:
    """What can be installed beside."""
    for name, modules in EXTRAS.items():
        yield tried("extras", name, partial(check_extra, name, modules))


def check_folders() -> Iterator[Check]:
    """Where files of its own go."""
    for name, folder in _FOLDERS.items():
        yield tried("folders", name, partial(check_folder, folder))


def _python() -> Found:
    return State.OK, f"{platform.python_version()}, {platform.python_implementation()}"


def _library(name: str, module: str) -> Found:
    loaded = importlib.import_module(module)
    version = getattr(loaded, "__version__", None) or metadata.version(name)
    return State.OK, str(version)


def check_extra(name: str, modules: tuple[str, ...]) -> Found:
    """Whether the modules of an extra are installed; they are not imported, which may be slow."""
    missing = [module for module in modules if util.find_spec(module) is None]
    if missing:
        return State.ABSENT, f"without {', '.join(missing)}; pip install 'diffir-cli[{name}]'"
    return State.OK, ", ".join(f"{module} {_version(module)}" for module in modules)


def _version(module: str) -> str:
    names = _distributions().get(module, [])
    return metadata.version(names[0]) if names else "of unknown version"


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Which distributions have each module; it takes a tenth of a second to find out."""
    return metadata.packages_distributions()


def _processor() -> Found:
    import torch

    from diffir_cli.benchmark.machine import describe_machine

    return State.OK, describe_machine(torch.device("cpu")).lines()[0]


def _cpus() -> Found:
    from diffir_cli.util.process import cpu_limit, cpu_quota

    quota = cpu_quota()
    limit = "no quota" if quota is None else f"a quota of {quota:g} CPUs"
    return State.OK, f"{cpu_limit()} of {os.cpu_count()} can be used, {limit}"


def _memory() -> Found:
    import torch

    from diffir_cli.util.device_memory import available_bytes

    free = available_bytes(torch.device("cpu"))
    return State.OK, "unknown" if free is None else f"{free / 2**30:.1f} GiB can be taken"


def _settings() -> Found:
    """The settings files; what is in them was read before any command began."""
    files = settings_files()
    return State.OK, ", ".join(str(path.absolute()) for path in files) or "none"


def _variables() -> Found:
    found = [f"{name}={value}" for name, value in os.environ.items() if name.startswith(_VARIABLES)]
    # Another stands in for it while JSON is made.
    stdout = sys.__stdout__ or sys.stdout
    encoding = f"text as {stdout.encoding}" if stdout else "no standard output"
    return State.OK, ", ".join([*sorted(found), encoding])


def _own(name: str) -> Path:
    """A folder of this program's own: cache, config or state."""
    from diffir_cli.util import folders

    return getattr(folders, f"{name}_folder")()


_FOLDERS: dict[str, Callable[[], Path]] = {
    "cache": lambda: _own("cache"),
    "weights": lambda: _own("cache") / "weights",
    "config": lambda: _own("config"),
    "state": lambda: _own("state"),
    "temporary": lambda: Path(tempfile.gettempdir()),
}


def check_folder(which: Callable[[], Path]) -> Found:
    """Whether a folder can be written, or made where it is to be."""
    folder = which()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"diffir")
            file.flush()
    except OSError as error:
        return State.FAILED, f"{folder}: {type(error).__name__}: {error.strerror} at {there}"
    free = shutil.disk_usage(there).free / 2**30
    made = "can be written" if there == folder else "is not there yet, can be made"
    return State.OK, f"{folder} {made}, {free:.1f} GiB free"
