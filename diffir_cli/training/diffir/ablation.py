"""The paper's ablations in small: which parts of the diffusion help (Tables 4 and 5, Figure 6).

Each variant is a recipe that begins with the same stage 1. They are measured alike: PSNR on the
photos held out, and how far Ẑ is from the Z that CPEN_S1 finds there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffir_cli.errors import RecipeError
from diffir_cli.models.diffir.checkpoint import load_model, load_stage1
from diffir_cli.models.diffir.model import DiffIRModel, initial_noise
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.runtime.image_tensor import to_tensor
from diffir_cli.training.diffir.setup import load_teacher
from diffir_cli.training.loop import Progress, Trainer
from diffir_cli.training.recipe import Recipe
from diffir_cli.training.state import has_learnt
from diffir_cli.training.validate import Validation
from diffir_cli.util.files import file_errors, make_folder, whole_file, write_text
from diffir_cli.util.padding import pad


@dataclass(frozen=True)
class Variant:
    """A row of a table."""

    recipe: str
    """The stem of its recipe."""
    label: str


TABLES: dict[str, tuple[Variant, ...]] = {
    "Table 4: the diffusion model": (
        Variant("v1", "V1: no diffusion, D is the IPR"),
        Variant("v2", "V2: trained step by step, the DIRformer at rest"),
        Variant("v3", "V3: DiffIR, trained jointly"),
        Variant("v3-again", "V3 again, other random numbers"),
        Variant("v4", "V4: V3 with variance noise"),
    ),
    "Table 5: the loss of the IPR": (Variant("v3", "L1"), Variant("l2", "L2"), Variant("kl", "KL")),
    "Figure 6: the number of steps": (
        Variant("t1", "T = 1"),
        Variant("t2", "T = 2"),
        Variant("t3", "T = 3"),
        Variant("v3", "T = 4"),
        Variant("t8", "T = 8"),
    ),
}
"""What is compared with what, as in the paper."""

STAGE1 = "s1"
"""The recipe that all begin with."""


@dataclass(frozen=True)
class Outcome:
    """What a variant reached."""

    psnr: float
    """Mean over the photos held out, in dB."""
    ipr_error: float
    """Mean |Ẑ − Z| over them; 0 for stage 1."""
    minutes: float
    """Time of its training."""


def variants() -> list[str]:
    """The stems of all recipes, stage 1 first, each once."""
    rows = (variant.recipe for rows in TABLES.values() for variant in rows)
    return list(dict.fromkeys([STAGE1, *rows]))


def run_variant(
    recipe: Recipe,
    out: Path,
    device: str,
    report: Callable[[Progress], None] = lambda _progress: None,
) -> Outcome | None:
    """Train a variant, or find it trained already, and measure it.

    Args:
        recipe: Its recipe, with photos for validation.
        out: The folder of its run.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `xpu`, `xpu:N` or `mps`.
        report: Called as `Trainer.fit` does.

    Returns:
        What it reached, or None when a signal stopped it.

    Raises:
        RecipeError: when the folder holds a run with other settings, of whatever kind.
        DiffIRError: as `Trainer` does.
    """
    _refuse_other_settings(recipe, out)
    trainer = Trainer(recipe, out, device)
    result = trainer.fit(report)
    if not result.finished:
        return None
    validation = Validation.of(recipe)
    assert validation is not None
    target = trainer.world.device
    if recipe.stage == 1:
        psnr = validation.psnr(DiffIRModel(load_stage1(result.weights)), target)
        return Outcome(psnr, 0.0, result.minutes)
    student = load_model(result.weights)
    if recipe.loss.variance_noise:
        student = _with_variance_noise(student)
    teacher = load_teacher(recipe)
    assert teacher is not None
    psnr = validation.psnr(DiffIRModel(student), target)
    return Outcome(psnr, _ipr_error(student, teacher, validation), result.minutes)


def _refuse_other_settings(recipe: Recipe, out: Path) -> None:
    """Never report what other settings gave: a run goes on by the very recipe it began with."""
    kept, text = out / "recipe.json", json.dumps(recipe.to_dict(), indent=1, sort_keys=True)
    make_folder(out)
    try:
        known = kept.read_text(encoding="utf-8") if kept.exists() else ""
    except (OSError, UnicodeDecodeError):
        known = "unreadable"
    if known != text and has_learnt(out / "state.pt"):
        raise RecipeError(
            recipe.name,
            [f"{out} holds a run with other settings"],
            f"name another folder with --output, or remove {out} to begin again",
        )
    write_text(kept, text, overwrite=True)


class _NoisyS2(DiffIRS2):
    """A stage-2 network that adds variance noise in each step when it restores, too."""

    def sample(
        self, condition: Tensor, x_T: Tensor, variance_noise: Tensor | None = None
    ) -> Tensor:
        if variance_noise is None:
            generator = torch.Generator().manual_seed(0)
            variance_noise = torch.randn(self.schedule.steps, *x_T.shape, generator=generator)
        return super().sample(condition, x_T, variance_noise.to(x_T))


def _with_variance_noise(student: DiffIRS2) -> DiffIRS2:
    noisy = _NoisyS2(student.config)
    noisy.load_state_dict(student.state_dict())
    return noisy.eval()


@torch.inference_mode()
def _ipr_error(student: DiffIRS2, teacher: DiffIRS1, validation: Validation) -> float:
    student, teacher = student.cpu().eval(), teacher.cpu().eval()
    errors = []
    for lq, gt in validation.pairs:
        small, large = to_tensor(lq), to_tensor(gt)
        config = student.config
        padded = pad(small, config.multiple)
        z = teacher.ipr(padded, pad(large, config.multiple * config.scale))
        z_hat = student.ipr(padded, initial_noise(config, 0))
        errors.append(float((z_hat - z).abs().mean()))
    return sum(errors) / len(errors)


def as_markdown(outcomes: dict[str, Outcome]) -> str:
    """All tables, for what there is of them."""
    best = outcomes[STAGE1]
    lines = [f"Stage 1, which sees the truth: {best.psnr:.3f} dB, {best.minutes:.1f} min."]
    for title, rows in TABLES.items():
        lines += ["", f"## {title}", "", "| variant | PSNR (dB) | mean abs. IPR error | min |"]
        lines.append("|---|---:|---:|---:|")
        for row in rows:
            found = outcomes[row.recipe]
            numbers = f"{found.psnr:.3f} | {found.ipr_error:.4f} | {found.minutes:.1f}"
            lines.append(f"| {row.label} | {numbers} |")
    return "\n".join(lines) + "\n"


def plot_steps(outcomes: dict[str, Outcome], picture: Path) -> bool:
    """Figure 6 with the other variants beside it, as a PNG; False where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        return False
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    *others, steps = TABLES.values()
    counts = [int(row.label.removeprefix("T = ")) for row in steps]
    left.plot(counts, [outcomes[row.recipe].psnr for row in steps], marker="o")
    left.set_xlabel("T, steps of the diffusion")
    left.set_ylabel("PSNR (dB)")
    stems = list(dict.fromkeys(row.recipe for rows in others for row in rows))
    right.scatter(stems, [outcomes[stem].psnr for stem in stems])
    right.tick_params(axis="x", rotation=30)
    with file_errors(f"cannot write {picture}", "free some space"), whole_file(picture) as file:
        figure.savefig(file, format="png", dpi=100)
    return True
