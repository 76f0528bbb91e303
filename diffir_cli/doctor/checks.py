"""What the program does, really done: devices, precisions, weights, and restorations."""

from __future__ import annotations

import copy
import itertools
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from diffir_cli.doctor.check import Check, Found, State, tried
from diffir_cli.errors import DeviceError
from diffir_cli.models.diffir.config import ModelConfig, Tail
from diffir_cli.options import Precision, RunOptions
from diffir_cli.weights.registry import WeightSpec, read_registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE = 64
"""Pixels of the picture that each of the embedded weights restores."""

_FAR = 32.0
"""Levels of 255 by which a result may differ from its enlarged input on average."""

_NEAR = 16.0
"""Levels of 255 by which a number format may move a pixel of the small network's result."""

_TINY = ModelConfig(
    tail=Tail.SHUFFLE_ONCE,
    dim=8,
    num_blocks=(1, 1, 1, 1),
    refinement_blocks=1,
    cpen_dim=8,
    cpen_blocks=1,
)

_PRECISIONS = [precision for precision in Precision if precision is not Precision.AUTO]


def check_devices() -> Iterator[Check]:
    """Each device that torch finds, and a small restoration on it in each number format."""
    yield tried("devices", "auto", _automatic)
    if requested := os.environ.get("DIFFIR_DEVICE"):
        yield tried("devices", "DIFFIR_DEVICE", partial(_configured, requested))
    devices = _devices()
    for device in devices:
        yield tried("devices", device, partial(_device, device))
    for device, precision in itertools.product(devices, _PRECISIONS):
        name = f"{device} {precision}"
        yield tried("precisions", name, partial(check_precision, device, precision))


def _automatic() -> Found:
    from diffir_cli.runtime.device import choose_device, choose_precision

    device = choose_device("auto")
    return State.OK, f"{device} in {choose_precision(Precision.AUTO, device).value}"


def _configured(requested: str) -> Found:
    """What a user wants to be used; several by commas, as `diffir batch` takes them."""
    from diffir_cli.runtime.device import choose_device

    return State.OK, ", ".join(str(choose_device(name.strip())) for name in requested.split(","))


def _devices() -> list[str]:
    """The names of all devices; of the CPU alone where torch does not know."""
    found = ["cpu"]
    try:
        from diffir_cli.runtime.device import choose_device

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
    from diffir_cli.util.device_memory import available_bytes

    device = torch.device(name)
    if device.type == "cpu":
        return State.OK, f"{torch.get_num_threads()} threads"
    free = available_bytes(device)
    room = "unknown memory" if free is None else f"{free / 2**30:.1f} GiB can be taken"
    return State.OK, f"{gpu_name(device)}, {gpu_driver(device)}, {room}"


def check_precision(device: str, precision: Precision) -> Found:
    """Restore a small picture with a small network, as the CPU does in fp32 but for rounding."""
    import numpy as np
    import torch

    from diffir_cli.models.families import find_family
    from diffir_cli.runtime.device import choose_precision
    from diffir_cli.runtime.runner import ModelRunner

    try:
        choose_precision(precision, torch.device(device))
    except DeviceError as error:
        return State.ABSENT, f"not used: {error.message}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = find_family("diffir").build(_TINY)
    lq = _picture(32)
    found = ModelRunner(copy.deepcopy(model), RunOptions(device, precision)).run(lq)
    hq = found.pixels
    expected = ModelRunner(model, RunOptions("cpu", Precision.FP32)).restore(lq)
    off = np.abs(hq.astype(np.float32) - expected).max()
    if off > _NEAR:
        return State.FAILED, f"the result is up to {off:.0f} levels of 255 from that of the CPU"
    if found.redone:
        return State.OK, "works, but overflowed: computed again in fp32"
    return State.OK, "works"


def check_weights(extra: Path | None = None) -> Iterator[Check]:
    """The files of the registry that are at hand, and a restoration with each embedded one.

    Args:
        extra: The user's own registry; None for that of the environment.
    """
    try:
        registry = read_registry(extra)
    except Exception as error:
        yield Check("weights", "registry", State.FAILED, f"{type(error).__name__}: {error}", 0.0)
        return
    absent = 0
    for spec in registry.values():
        check = tried("weights", spec.name, partial(_file, spec, extra))
        absent += check.state is State.ABSENT
        if check.state is not State.ABSENT:
            yield check
    text = f"{absent} more in the registry are not on this machine"
    yield Check("weights", "others", State.ABSENT if absent else State.OK, text, 0.0)
    for spec in registry.values():
        if spec.embedded:
            yield tried("restorations", spec.name, partial(check_restoration, spec))


def _file(spec: WeightSpec, registry: Path | None = None) -> Found:
    from diffir_cli.weights import cache
    from diffir_cli.weights.locate import locate_weights

    installed = [cache.find_installed(part) for part in spec.parts]
    if None in installed:
        return State.ABSENT, ""
    found = locate_weights(spec.name, spec.task, registry, teachers=True)
    if cache.state_of(spec) is cache.State.CORRUPT:
        return State.FAILED, f"{found.path} is not as large as it must be: {spec.size} bytes"
    if not spec.embedded:
        from diffir_cli.models.families import find_family

        # The embedded ones restore a picture.
        find_family(spec.family).load(found.files, spec.model, any_stage=spec.teaches)
    verified = "verified" if all(one and one.sha256 for one in installed) else "not pinned"
    return State.OK, f"{verified}, sha256 {found.sha256[:16]}…"


def check_restoration(spec: WeightSpec) -> Found:
    """Restore a picture of 64×64 pixels, which must come out as large as said, and resemble it."""
    import numpy as np

    from diffir_cli.runtime.loading import load_runner
    from diffir_cli.weights.locate import locate_weights

    runner = load_runner(locate_weights(spec.name, spec.task), spec.task)
    lq = _picture(SIDE)
    mask = None
    if runner.info.takes_mask:
        mask = np.zeros(lq.shape[:2], np.bool_)
        mask[24:40, 28:32] = True
    started = time.perf_counter()
    found = runner.run(lq, mask=mask)
    hq = found.pixels
    taken = time.perf_counter() - started
    expected = lq.repeat(spec.scale, axis=0).repeat(spec.scale, axis=1)
    size = f"{hq.shape[1]}×{hq.shape[0]}"
    if hq.shape != expected.shape:
        return State.FAILED, f"{SIDE}×{SIDE} pixels became {size}"
    off = float(np.abs(hq.astype(np.float32) - expected).mean())
    if off > _FAR:
        return State.FAILED, f"the result is {off:.0f} levels of 255 from its input on average"
    where = f"{runner.device} in {found.precision.value}"
    return State.OK, f"{SIDE}×{SIDE} to {size} in {taken:.2f} s on {where}, finite"


def _picture(side: int) -> NDArray[np.uint8]:
    """A smooth picture in colours."""
    import numpy as np

    rows, columns = np.mgrid[:side, :side] / side
    waves = np.stack([rows, columns, (1 + np.sin(6 * rows + 4 * columns)) / 2], axis=2)
    return (40 + 170 * waves).astype(np.uint8)
