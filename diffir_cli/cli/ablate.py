"""`diffir ablate`: train the paper's ablations in small and write their tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import options
from diffir_cli.cli.console import be_quiet, print_message, working


def ablate(
    recipes: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of recipes: s1.toml and one per variant.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field in all recipes."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for runs and tables.")
    ] = Path("runs/ablations"),
    device: options.Device = "auto",
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Train the paper's ablations at small scale. Run again to resume.

    Writes ablations.md, with Tables 4 and 5 and Figure 6 of the paper, and ablations.png.
    """
    be_quiet(quiet)

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
    from diffir_cli.util.files import write_text

    if threads is not None:
        torch.set_num_threads(threads)
    outcomes = {}
    for name in variants():
        changes = list(settings or ())
        if name != STAGE1:
            changes.append(f"init={out / STAGE1 / f'{STAGE1}.safetensors'}")
        path = recipes / f"{name}.toml"
        recipe = load_recipe(path, changes)
        if not recipe.validation.gt:
            raise RecipeError(str(path), ["validation.gt must name a folder of photos held out"])
        with working(f"training {name}", quiet) as status:
            outcome = run_variant(
                recipe, out / name, device, lambda progress: status(f"{100 * progress.share:.0f} %")
            )
        if outcome is None:
            if not quiet:
                print_message("stopped; run the same command again to resume")
            raise typer.Exit(130)
        outcomes[name] = outcome
        if not quiet:
            print_message(f"{name}: {outcome.psnr:.3f} dB in {outcome.minutes:.1f} min")
    write_text(out / "ablations.md", as_markdown(outcomes), overwrite=True)
    if not plot_steps(outcomes, out / "ablations.png") and not quiet:
        print_message("no ablations.png without matplotlib: pip install matplotlib")
    if not quiet:
        print_message(f"{out / 'ablations.md'}: {len(outcomes)} runs")
