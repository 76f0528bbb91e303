"""Networks as programs of OpenVINO, which runs on CPUs and on the GPUs of Intel.

OpenVINO is optional, and private to this module: torch knows nothing of its devices.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffir_cli.errors import DeviceError
from diffir_cli.util.extras import require_extra
from diffir_cli.util.out_of_memory import is_out_of_memory

_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def openvino_device(requested: str) -> torch.device:
    """The device for `auto`, `cpu`, `xpu` or `xpu:N`; `auto` is the CPU.

    Returns:
        `cpu`, or `xpu:N` for the Nth GPU of Intel, whether torch can use it or not.

    Raises:
        MissingLibraryError: when OpenVINO is not installed.
        DeviceError: when OpenVINO finds no such device.
    """
    require_extra("openvino", "openvino")
    import openvino  # noqa: PLC0415 (optional)

    if requested in ("auto", "cpu"):
        return torch.device("cpu")
    match = re.fullmatch(r"xpu(?::(\d+))?", requested)
    if not match:
        raise DeviceError(
            f"--engine openvino does not run on {requested}", "use --device cpu or xpu"
        )
    found = [name for name in openvino.Core().available_devices if name.startswith("GPU")]
    if int(match[1] or 0) >= len(found):
        raise DeviceError(
            f"{requested} is not available: OpenVINO finds {len(found)} GPUs of Intel",
            "use --device cpu",
        )
    return torch.device("xpu", int(match[1] or 0))


class OpenVinoNetwork:
    """A network that is compiled for each size of its inputs.

    The last program is kept, since tiles and most pictures of a folder are of one size. Others
    would hold memory that nobody has planned for.

    Args:
        network: In eval mode on the CPU, in fp32.
        example: Inputs of any size. The network must compute the same at all sizes.
    """

    def __init__(self, network: nn.Module, example: Sequence[Tensor]) -> None:
        self.network, self.example = network, tuple(example)
        self._model: Any = None
        self._made_for: Any = None
        self._request: Any = None

    def _converted(self) -> Any:
        """The network as a model of OpenVINO, whose inputs are of any size.

        `openvino.convert_model` does the same, slowly, and reports it to the makers of OpenVINO.
        """
        from openvino.frontend import FrontEndManager  # noqa: PLC0415 (optional)
        from openvino.frontend.pytorch.ts_decoder import (  # noqa: PLC0415 (optional)
            TorchScriptPythonDecoder,
        )

        with warnings.catch_warnings(), torch.no_grad():
            # It warns of sides that look like constants; OpenVINO reads them as they are.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(self.network, self.example, check_trace=False)
        reader = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=self.example)
        return reader.convert(reader.load(decoder))

    def run(self, inputs: Sequence[Tensor], dtype: torch.dtype, device: torch.device) -> Tensor:
        """The network's only output, float32 on the CPU.

        Args:
            inputs: float32 on the CPU, each (1, …).
            dtype: Number format of the program.
            device: What `openvino_device` gave.

        Raises:
            DeviceError: when the device cannot compute in the format.
        """
        made_for = dtype, device, *(tuple(value.shape) for value in inputs)
        if made_for != self._made_for:
            # Before the next one is made, so that the memory of two is never taken.
            self._request = self._made_for = None
            self._request = self._compiled(inputs, dtype, device).create_infer_request()
            self._made_for = made_for
        arrays = [value.contiguous().numpy() for value in inputs]
        found = self._request.infer(arrays, share_inputs=True)
        # The program writes its next result into the same memory.
        return torch.from_numpy(found[0].copy())

    def _compiled(self, inputs: Sequence[Tensor], dtype: torch.dtype, device: torch.device) -> Any:
        import openvino  # noqa: PLC0415 (optional)

        self._model = self._model or self._converted()
        model = self._model.clone()
        shapes = (list(value.shape) for value in inputs)
        model.reshape(dict(zip(model.inputs, shapes, strict=True)))
        name = "CPU" if device.type == "cpu" else f"GPU.{device.index or 0}"
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[dtype],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if name == "CPU":
            settings["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
        try:
            return openvino.Core().compile_model(model, name, settings)
        except RuntimeError as error:
            if dtype is torch.float32 or is_out_of_memory(error):
                raise
            raise DeviceError(
                f"OpenVINO does not compute in {_HINTS[dtype]} on {device}", "use --precision fp32"
            ) from error
