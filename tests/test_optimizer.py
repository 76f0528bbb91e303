"""Muon: what it does to matrices, which parameters it takes, and that runs go on with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from diffir_cli.errors import RecipeError
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.training.loop import Trainer
from diffir_cli.training.optimizer import Muon, hidden_matrices, orthogonalised
from tests.training_helpers import check_resuming, make_recipe, run_training

MUON = {"lr": 2e-3, "kind": "muon"}


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """Five steps as they are published, on the matrix itself, in float64."""
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(8, 8), (8, 30), (30, 8), (1, 5)])
def test_the_steps_on_the_gram_matrix_are_those_on_the_matrix(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape)
    wanted = torch.stack(
        [newton_schulz(each if shape[0] <= shape[1] else each.T) for each in matrices]
    )
    wanted = wanted if shape[0] <= shape[1] else wanted.mT
    torch.testing.assert_close(orthogonalised(matrices).double(), wanted, atol=1e-4, rtol=1e-4)


def test_singular_values_come_near_one() -> None:
    values = torch.linalg.svdvals(orthogonalised(torch.randn(4, 24, 60)))
    assert 0.6 < values.min() < values.max() < 1.3


def test_a_gradient_of_zeros_changes_nothing() -> None:
    matrix = nn.Parameter(torch.randn(4, 6))
    before = matrix.detach().clone()
    matrix.grad = torch.zeros_like(matrix)
    Muon([matrix], [], lr=0.1).step()
    assert torch.equal(matrix, before)


def test_the_other_parameters_are_updated_as_by_adam() -> None:
    ours, theirs = nn.Parameter(torch.ones(7)), nn.Parameter(torch.ones(7))
    muon = Muon([], [ours], lr=0.01, betas=(0.9, 0.99))
    adam = torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.99))
    for _ in range(5):
        ours.grad = torch.randn(7)
        theirs.grad = ours.grad.clone()
        muon.step()
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_a_parameter_that_learns_later_begins_its_own_count() -> None:
    early, late = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    muon = Muon([], [early, late], lr=0.01)
    for _ in range(5):
        early.grad = torch.randn(3)
        muon.step()
    alone = nn.Parameter(torch.ones(3))
    late.grad = torch.randn(3)
    alone.grad = late.grad.clone()
    muon.step()
    Muon([], [alone], lr=0.01).step()
    torch.testing.assert_close(late, alone)


def test_an_update_of_a_matrix_is_as_large_as_one_of_adam() -> None:
    matrix = nn.Parameter(torch.zeros(32, 96))
    matrix.grad = torch.randn(32, 96) * 1e-3
    Muon([matrix], [], lr=1.0).step()
    size = float(matrix.detach().square().mean().sqrt())
    assert 0.1 < size < 0.4  # 0.2 by design; the singular values lie around 1.


@pytest.mark.parametrize(("outputs", "inputs"), [(24, 8), (8, 24)])
def test_an_update_of_a_convolution_is_orthogonal_on_the_fewer_of_its_inputs_and_outputs(
    outputs: int, inputs: int
) -> None:
    weight = nn.Parameter(torch.zeros(outputs, inputs, 3, 3))
    weight.grad = torch.randn_like(weight)
    Muon([weight], [], lr=1.0).step()
    update = weight.detach() if outputs < inputs else weight.detach().transpose(0, 1)
    values = torch.linalg.svdvals(update.flatten(1)) / (0.2 * (24 * 9) ** 0.5)
    assert 0.6 < values.min() < values.max() < 1.3
    assert float((weight.detach() * weight.grad).sum()) < 0  # Down the gradient.


def test_muon_takes_the_matrices_inside_and_leaves_what_touches_pixels(tiny: ModelConfig) -> None:
    network = DiffIRS2(tiny)
    chosen = {id(each) for each in hidden_matrices(network.children())}
    names = {name for name, each in network.named_parameters() if id(each) in chosen}
    assert "dirformer.refinement.0.dmta.qkv.weight" in names
    assert "dirformer.refinement.0.dgfn.modulation.to_scale_shift.weight" in names
    assert "dirformer.down.0.0.weight" in names
    for left in ("patch_embed.weight", "tail.0.weight", "qkv_dwconv.weight", "temperature"):
        assert not any(name.endswith(left) and "dirformer" in name for name in names)
    assert all(name.endswith("weight") for name in names)


def test_muon_makes_the_loss_small(photos: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    recipe = make_recipe(photos, iterations=40, log_every=10, optimizer=MUON)
    Trainer(recipe, tmp_path / "run", "cpu").fit(lambda progress: losses.append(progress.loss))
    assert losses[-1] < 0.8 * losses[0]


def test_a_stopped_run_of_muon_ends_with_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    check_resuming(make_recipe(photos, optimizer=MUON), tmp_path)


def test_a_run_of_one_optimizer_is_not_continued_by_another(photos: Path, tmp_path: Path) -> None:
    run_training(make_recipe(photos), tmp_path / "run", stop_at=4)
    with pytest.raises(RecipeError, match=r"optimizer\.kind"):
        Trainer(make_recipe(photos, optimizer=MUON), tmp_path / "run", "cpu")
