"""`diffir train`: a recipe in, weights out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffir_cli.cli import options
from diffir_cli.cli.console import print_json, print_message

if TYPE_CHECKING:
    from diffir_cli.training.loop import Progress


def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", readable=False, help="Training recipe (TOML).")
    ],
    settings: options.Settings = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder of the run. Default: runs/NAME."
        ),
    ] = None,
    registry: options.Registry = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a network. Run the same command again to resume."""
    from diffir_cli.training.recipe_file import load_recipe

    chosen = load_recipe(recipe, settings or (), registry)

    import torch

    from diffir_cli.runtime import clock
    from diffir_cli.training.loop import Trainer
    from diffir_cli.training.run_folder import run_folder

    if threads is not None:
        torch.set_num_threads(threads)
    out = output or Path("runs") / chosen.name
    with run_folder(out):
        trainer = Trainer(chosen, out, device)
        silent = quiet or json or not trainer.world.is_first
        if trainer.iteration and not silent:
            over = trainer.share() >= 1
            hint = ": already finished; raise iterations or max_minutes, or use another --output"
            print_message(f"continuing {out} at iteration {trainer.iteration}{hint * over}")

        def peak() -> float:
            return clock.peak(trainer.world.device, chosen.precision)

        with _Bar(silent, peak) as bar:
            result = trainer.fit(bar.show)
    if not silent:
        state = "done" if result.finished else "stopped; run the same command again to resume"
        print_message(
            f"{state}: {result.iterations} iterations, {result.minutes:.1f} min, {result.weights}"
        )
    if json and trainer.world.is_first:
        print_json(
            {
                "finished": result.finished,
                "iterations": result.iterations,
                "minutes": round(result.minutes, 3),
                "weights": str(result.weights),
            }
        )
    if not result.finished:
        raise typer.Exit(130)


class _Bar:
    """A progress bar on a terminal, a line for each report elsewhere."""

    def __init__(self, silent: bool, peak: Callable[[], float]) -> None:
        from tqdm import tqdm

        self.silent = silent
        # Measured when it is first shown, by then with all threads awake.
        self.peak = cache(peak)
        # A run limited in time ends before its last iteration, so the bar counts shares of the run.
        self.bar = tqdm(
            total=100,
            unit="%",
            bar_format="{percentage:5.1f}%|{bar}| {elapsed}<{remaining} {postfix}",
            disable=True if silent else None,
        )

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.bar.close()

    def show(self, progress: Progress) -> None:
        """Show where a run stands."""
        if self.silent:
            return
        text = f"iteration {progress.iteration}, loss {progress.loss:.5f}"
        if progress.per_second:
            thousands = progress.pixels_per_second / 1000
            share = progress.flops_per_second / self.peak()
            text += f", {progress.per_second:.2f} it/s, {thousands:.1f}k LQ pixels/s"
            text += f" ({share:.0%} of peak)"
        if progress.psnr is not None:
            text += f", {progress.psnr:.2f} dB"
        if self.bar.disable:
            print_message(f"{100 * progress.share:5.1f}% {text}")
        else:
            self.bar.n = round(100 * progress.share, 2)
            self.bar.set_postfix_str(text)
