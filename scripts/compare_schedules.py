"""What κ, p and the number of steps are worth: python scripts/compare_schedules.py PHOTOS HELD_OUT.

One small model on pixels for each schedule, of the same recipe, iterations and random numbers; then
PSNR and SSIM of the luma of photos degraded by seed, for chains of fewer steps, with the
posterior's noise (s = 1) and with none but the first (s = 0). It is the paper's comparison of
schedules in small. Training goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from measure_chain import degraded_pairs, last_steps, measure

from diffir_cli.models.resshift.family import FAMILY
from diffir_cli.training.loop import Trainer
from diffir_cli.training.recipe_file import load_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "resshift" / "resshift-lite.toml"
NARROW = (
    *("model.width=32", "model.multipliers=[1,2]", "model.blocks=[1,1]", "model.swin_dim=32"),
    *("model.heads=2", "model.resolution=32", "data.patch=32", "optimizer.warmup=50"),
)
SCHEDULES = {
    "κ 2, p 0.3": {},
    "κ 2, p 0.8": {"power": 0.8},
    "κ 2, p 2": {"power": 2.0},
    "κ 0.5, p 0.3": {"kappa": 0.5},
    "κ 8, p 0.3": {"kappa": 8.0},
    "4 steps": {"steps": 4, "min_noise_level": 0.2},
}
"""What differs from the first schedule of the paper, that of 15 steps."""
PAPER = {"steps": 15, "min_noise_level": 0.04, "kappa": 2.0, "power": 0.3}
COUNTS = (1, 2, 4, 8, 15)
"""How many steps of a schedule are taken."""

LARGEST = 256
"""Side of the photos that are measured, in pixels: their upper left corners."""

Curve = list[tuple[int, float, float]]
"""Steps, PSNR, SSIM."""


def main() -> None:
    """Train what is not trained yet, print a table, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, nargs="+", help="Folders to train on, then held out.")
    parser.add_argument("--iterations", type=int, default=250, help="Of each training.")
    parser.add_argument("--count", type=int, default=4, help="Number of photos held out.")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads.")
    parser.add_argument("--output", type=Path, default=Path("runs/schedules"), help="Folder.")
    parser.add_argument("--plot", type=Path, help="PNG for the PSNR as curves.")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    *train, held_out = asked.photos
    pairs = degraded_pairs(held_out, asked.count, 4, LARGEST)
    found: dict[str, dict[float, Curve]] = {}
    print("| schedule | s | " + " | ".join(f"{count} steps" for count in COUNTS) + " |")
    print("|---|---:|" + "---:|" * len(COUNTS))
    for name, differing in SCHEDULES.items():
        weights = _trained(name, PAPER | differing, train, asked.iterations, asked.output)
        config = FAMILY.load({"denoiser": weights}).config
        # One step draws no noise but the first.
        alone = (1, *measure(weights, last_steps(config, 1, 1.0), pairs, seeds=1)[:2])
        found[name] = {1.0: [alone], 0.0: [alone]}
        for stochasticity, curve in found[name].items():
            for count in (count for count in COUNTS[1:] if count <= config.steps):
                chain = last_steps(config, count, stochasticity)
                curve.append((count, *measure(weights, chain, pairs, seeds=1)[:2]))
            cells = [f"{score:.2f} / {similarity:.4f}" for _, score, similarity in curve]
            cells += [""] * (len(COUNTS) - len(cells))
            print(f"| {name} | {stochasticity:g} | " + " | ".join(cells) + " |", flush=True)
    if asked.plot:
        _plot(found, asked.plot)


def _trained(
    name: str, schedule: dict[str, float], photos: list[Path], iterations: int, folder: Path
) -> Path:
    """The weights of a network that learned with a schedule."""
    settings = [
        *NARROW,
        *(f"model.{field}={value}" for field, value in schedule.items()),
        f"data.train={json.dumps([str(path) for path in photos])}",
        f"iterations={iterations}",
        "max_minutes=0",
        "save_every=100",
        f"validation.every={iterations}",
    ]
    out = folder / name.replace(", ", "-").replace(" ", "").replace("κ", "kappa")
    out.parent.mkdir(parents=True, exist_ok=True)
    return Trainer(load_recipe(RECIPE, settings), out, "cpu").fit().weights


def _plot(found: dict[str, dict[float, Curve]], path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    titles = {1.0: "noise of the posterior (s = 1)", 0.0: "deterministic (s = 0)"}
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (stochasticity, title) in zip(panels, titles.items(), strict=True):
        for name, curves in found.items():
            counts, scores, _ = zip(*curves[stochasticity], strict=True)
            axes.plot(counts, scores, marker="o", markersize=4, label=name)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("steps taken")
        axes.set_xticks(COUNTS)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("PSNR (dB)")
    panels[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
