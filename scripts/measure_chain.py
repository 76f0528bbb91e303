"""What the steps of a ResShift chain and its noise are worth: python scripts/measure_chain.py.

A model on pixels, on photos degraded by seed: PSNR and SSIM of the luma for chains of fewer steps,
with the posterior's noise (s = 1) and without any but the first (s = 0), and how far results of
different seeds are from each other. With --plot also as a picture.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffir_cli.degradations.apply import degraded
from diffir_cli.degradations.kinds import Degradation
from diffir_cli.evaluation.metrics import luma, psnr, shave, ssim
from diffir_cli.models.resshift.checkpoint import load_denoiser
from diffir_cli.models.resshift.config import ResShiftConfig
from diffir_cli.models.resshift.diffusion import spaced_timesteps
from diffir_cli.models.resshift.family import FAMILY
from diffir_cli.models.resshift.model import ResShiftModel
from diffir_cli.models.resshift.networks import ResShift
from diffir_cli.options import Precision, RunOptions
from diffir_cli.runtime.runner import ModelRunner
from diffir_cli.tensorfiles.containers import read_tensors
from diffir_cli.training.data import load_photos

BORDER = 4

Pairs = list[tuple[np.ndarray, np.ndarray]]
"""Degraded and sharp photos, (H, W, 3), uint8."""


def main() -> None:
    """Print a row for each chain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="A denoiser on pixels, as `train` writes it.")
    parser.add_argument("photos", type=Path, help="Folder of sharp photos.")
    parser.add_argument("--count", type=int, default=8, help="Number of photos.")
    parser.add_argument("--plot", type=Path, help="PNG for the same as curves.")
    asked = parser.parse_args()
    config: ResShiftConfig = FAMILY.load({"denoiser": asked.weights}).config
    pairs = degraded_pairs(asked.photos, asked.count, config.scale)
    curves: dict[float, list[tuple[int, float]]] = {}
    print("| steps | t | s | PSNR | SSIM | spread of seeds |")
    print("|---:|---|---:|---:|---:|---:|")
    for count in range(1, config.steps + 1):
        for stochasticity in (1.0, 0.0):
            chain = last_steps(config, count, stochasticity)
            score, similarity, spread = measure(asked.weights, chain, pairs)
            curves.setdefault(stochasticity, []).append((count, score))
            steps = " ".join(str(t) for t in reversed(chain.timesteps))
            print(
                f"| {count} | {steps} | {stochasticity:g} | {score:.2f} | {similarity:.4f} "
                f"| {spread:.2f} |",
                flush=True,
            )
    if asked.plot:
        _plot(curves, asked.plot)


def degraded_pairs(photos: Path, count: int, scale: int, largest: int = 2**16) -> Pairs:
    """Degraded and sharp versions of the first photos of a folder, by seed, cut to a size."""
    pairs = []
    for number, photo in enumerate(load_photos([str(photos)], count)):
        height, width = (min(side, largest) // scale * scale for side in photo.shape[:2])
        gt = photo[:height, :width]
        rng = np.random.default_rng([0, number])
        pairs.append((degraded(gt, Degradation.REALWORLD, scale, rng), gt))
    return pairs


def last_steps(config: ResShiftConfig, count: int, stochasticity: float) -> ResShiftConfig:
    """A model with a chain of so many steps, the last of the schedule among them."""
    # It is needed: the chain begins with its noise.
    chosen = tuple(config.steps - 1 - t for t in reversed(spaced_timesteps(config.steps, count)))
    return replace(config, timesteps=chosen, stochasticity=stochasticity)


def measure(
    weights: Path, config: ResShiftConfig, pairs: Pairs, seeds: int = 2
) -> tuple[float, float, float]:
    """PSNR, SSIM, and the root mean squared distance of two seeds in levels of 255."""
    denoiser = load_denoiser(read_tensors(weights)[0], config, str(weights))
    options = RunOptions("cpu", Precision.FP32)
    runner = ModelRunner(ResShiftModel(ResShift(denoiser, None)), options)
    scores, similarities, spreads = [], [], []
    for lq, gt in pairs:
        results = [runner.restore(lq, seed=seed) for seed in range(seeds)]
        for hq in results:
            first, second = luma(shave(hq, BORDER)), luma(shave(gt, BORDER))
            scores.append(psnr(first, second))
            similarities.append(ssim(first, second))
        one, other = (results[index].astype(np.float64) for index in (0, -1))
        spreads.append(float(np.sqrt(np.mean((one - other) ** 2))))
    return (
        sum(scores) / len(scores),
        sum(similarities) / len(similarities),
        sum(spreads) / len(spreads),
    )


def _plot(curves: dict[float, list[tuple[int, float]]], path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for stochasticity, points in curves.items():
        counts, scores = zip(*points, strict=True)
        axes.plot(counts, scores, marker="o", label=f"s = {stochasticity:g}")
    axes.set_xlabel("steps")
    axes.set_ylabel("PSNR (dB)")
    axes.legend()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
