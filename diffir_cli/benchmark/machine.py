"""What a machine is, and how busy: without it a latency says nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from diffir_cli.util.process import cpu_limit

_BUSY = 0.25
"""Load for each core, before anything is measured, from which a machine counts as busy."""

_FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "VNNI",
    "avx512_bf16": "AVX-512 bf16",
    "amx_bf16": "AMX bf16",
    "asimd": "NEON",
    "sve": "SVE",
    "bf16": "bf16",
}
"""What of the CPU's instructions matters to a network, as Linux names it, and as people do."""


@dataclass(frozen=True)
class Machine:
    """What a figure was measured on."""

    system: str
    """Operating system and architecture."""
    cpu: str
    """Model of the CPU."""
    cores: int
    """Those that this process may use."""
    instructions: tuple[str, ...]
    """Vector instructions that the CPU has."""
    native_bf16: bool
    """Whether the CPU multiplies bf16 itself."""
    python: str
    torch: str
    threads: int
    """Of torch."""
    gpu: str
    """Model of the device in use; empty for a CPU."""
    driver: str
    """Its driver, and the CUDA that torch was built for; empty for a CPU."""
    load: float | None
    """Processes that wanted a core in the last minute, before anything was measured; None where
    the system does not know."""

    @property
    def busy(self) -> bool:
        """Whether others were at work before anything was measured."""
        return self.load is not None and self.load / self.cores > _BUSY

    def lines(self) -> list[str]:
        """For people."""
        bf16 = "bf16 units" if self.native_bf16 else "no bf16 units"
        load = "unknown" if self.load is None else f"{self.load:.2f}"
        return [
            f"{self.cpu}, {_counted(self.cores, 'core')} usable, "
            f"{', '.join([*self.instructions, bf16])}; {self.system}",
            *([f"{self.gpu}, {self.driver}"] if self.gpu else []),
            f"torch {self.torch}, {_counted(self.threads, 'thread')}, Python {self.python}; "
            f"load {load} before the first measurement",
        ]


def describe_machine(device: torch.device) -> Machine:
    """This machine as it is now, with the device that will be used."""
    names, flags = _cpu_info()
    instructions = tuple(name for flag, name in _FLAGS.items() if flag in flags)
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        cpu=names or platform.processor() or "unknown",
        cores=cpu_limit(),
        instructions=instructions or (torch.backends.cpu.get_cpu_capability(),),
        native_bf16=any("bf16" in name for name in instructions),
        python=platform.python_version(),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        gpu=gpu_name(device),
        driver=gpu_driver(device),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def gpu_name(device: torch.device) -> str:
    """The model of an accelerator; empty for a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "xpu":
        return str(torch.xpu.get_device_properties(device).name)
    return "Apple" if device.type == "mps" else ""


def gpu_driver(device: torch.device) -> str:
    """The driver of an accelerator as far as torch knows it; empty for a CPU."""
    if device.type == "cuda":
        if torch.version.hip:
            return f"HIP {torch.version.hip}"
        tool = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return f"driver {_first_line(tool) or 'unknown'}, CUDA {torch.version.cuda}"
    if device.type == "xpu":
        version = getattr(torch.xpu.get_device_properties(device), "driver_version", "unknown")
        return f"driver {version}"
    return f"macOS {platform.mac_ver()[0]}" if device.type == "mps" else ""


def _first_line(command: list[str]) -> str:
    """What a program of the system says; empty where it is not there, or fails."""
    tool = shutil.which(command[0])
    if tool is None:
        return ""
    try:
        answer = subprocess.run(
            [tool, *command[1:]], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return next(iter(answer.stdout.strip().splitlines()), "").strip()


def _cpu_info() -> tuple[str, set[str]]:
    """Model and flags of the CPU, as far as the system knows them."""
    if sys.platform == "darwin":
        return _first_line(["sysctl", "-n", "machdep.cpu.brand_string"]), set()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", set()
    return parse_cpu_info(text)


def parse_cpu_info(text: str) -> tuple[str, set[str]]:
    """Model and flags from what Linux says of its processors, of Intel's or of Arm's kind."""
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return model[1].strip() if model else "", set(flags[1].split()) if flags else set()


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
