"""`diffir ablate`: train the paper's ablations in small and write their tables."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import options
from diffir_cli.cli.console import print_message, print_result, working


def ablate(
    recipes: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of recipes: s1.toml and one per variant.")
    ],
    settings: options.Settings = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for runs and tables.")
    ] = Path("runs/ablations"),
    registry: options.Registry = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train the paper's ablations at small scale. Run again to resume.

    Writes ablations.md, with Tables 4 and 5 and Figure 6 of the paper, and ablations.png.
    """
    import torch

    from diffir_cli.errors import RecipeError
    from diffir_cli.training.diffir.ablation import (
        STAGE1,
        as_markdown,
        plot_steps,
        run_variant,
        variants,
    )
    from diffir_cli.training.recipe_file import load_recipe
    from diffir_cli.training.run_folder import run_folder
    from diffir_cli.util.files import write_text

    if threads is not None:
        torch.set_num_threads(threads)
    chosen = {}
    for name in variants():
        path, changes = recipes / f"{name}.toml", list(settings or ())
        if name != STAGE1:
            # A file that is there already stands for the weights that stage 1 is going to make.
            changes.append(f"init={path}")
        recipe = load_recipe(path, changes, registry)
        if not recipe.validation.gt:
            raise RecipeError(str(path), ["validation.gt must name a folder of photos held out"])
        weights = output / STAGE1 / f"{STAGE1}.safetensors"
        chosen[name] = replace(recipe, init=recipe.init and str(weights))
    outcomes = {}
    for name, recipe in chosen.items():
        with (
            run_folder(output / name),
            working(f"training {name}", quiet or json) as status,
        ):
            outcome = run_variant(
                recipe,
                output / name,
                device,
                lambda progress: status(f"{100 * progress.share:.0f} %"),
            )
        if outcome is None:
            if not quiet:
                print_message("stopped; run the same command again to resume")
            raise typer.Exit(130)
        outcomes[name] = outcome
        if not (quiet or json):
            print_message(f"{name}: {outcome.psnr:.3f} dB in {outcome.minutes:.1f} min")
    write_text(output / "ablations.md", as_markdown(outcomes), overwrite=True)
    if not plot_steps(outcomes, output / "ablations.png") and not quiet:
        print_message("no ablations.png without matplotlib: pip install matplotlib")
    found = {name: asdict(outcome) for name, outcome in outcomes.items()}
    text = f"{output / 'ablations.md'}: {len(outcomes)} runs"
    print_result(json, quiet, {"output": str(output), "variants": found}, text)
