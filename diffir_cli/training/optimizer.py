"""How gradients become updates: Adam, or Muon for the matrices inside a network.

Muon (K. Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024) replaces the
momentum M of a weight matrix by the nearest semi-orthogonal one, so that all its directions are
learned equally fast:

    M ← μ M + (1 − μ) G;   U = (1 − μ) G + μ M                           (Nesterov's look-ahead)
    W ← W − lr · 0.2 √max(rows, columns) · (U Uᵀ)^(−1/2) U

The factor gives updates the size of Adam's (Liu et al., "Muon is scalable for LLM training", 2025).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from diffir_cli.training.kinds import OptimizerKind
from diffir_cli.training.recipe import OptimizerRecipe


def build_optimizer(
    model: nn.Module, parts: Iterable[nn.Module], recipe: OptimizerRecipe
) -> torch.optim.Optimizer:
    """The optimizer of a recipe for the parameters of a network that learn.

    Args:
        model: The network.
        parts: Its parts; see `hidden_matrices`.
        recipe: Which optimizer.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if recipe.kind is OptimizerKind.ADAM:
        return torch.optim.Adam(parameters, lr=recipe.lr, betas=recipe.betas)
    chosen = {id(matrix) for matrix in hidden_matrices(parts)}
    matrices = [parameter for parameter in parameters if id(parameter) in chosen]
    others = [parameter for parameter in parameters if id(parameter) not in chosen]
    return Muon(matrices, others, recipe.lr, recipe.betas)


def hidden_matrices(parts: Iterable[nn.Module]) -> list[Tensor]:
    """The weights of linear layers and of dense convolutions, but the first and last of each part.

    Depthwise filters are no matrices, and the first and last layers work on pixels: each of their
    rows has a meaning of its own.
    """
    found: list[Tensor] = []
    for part in parts:
        layers = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        found += [
            layer.weight
            for layer in layers[1:-1]
            if isinstance(layer, nn.Linear) or layer.groups == 1
        ]
    return found


class Muon(torch.optim.Optimizer):
    """Muon for some parameters, Adam for the others, with one learning rate.

    `torch.optim.Muon` takes two-dimensional parameters only and orthogonalises one at a time;
    here convolutions are flattened (`as_matrix`), and matrices of one shape are orthogonalised
    together.

    Args:
        matrices: Weights of linear layers (out, in) or convolutions (out, in, height, width).
        others: All other parameters.
        lr: Learning rate.
        betas: Adam's two decay rates.
        momentum: μ.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        others: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        momentum: float = 0.95,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "muon": True},
            {"params": list(others), "muon": False},
        ]
        defaults = {"lr": lr, "betas": betas, "momentum": momentum}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step down the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [each for each in group["params"] if each.grad is not None]
            if parameters:
                update = self._step_muon if group["muon"] else self._step_adam
                update(parameters, group)
        return loss

    def _step_muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        momentum = group["momentum"]
        gradients = _gradients(parameters)
        for each in parameters:
            if not self.state[each]:
                self.state[each]["momentum"] = torch.zeros_like(each)
        averages = [self.state[each]["momentum"] for each in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, averages, momentum)
        alike: dict[torch.Size, list[int]] = defaultdict(list)
        for number, each in enumerate(parameters):
            alike[as_matrix(each).shape].append(number)
        for shape, numbers in alike.items():
            updates = orthogonalised(torch.stack([as_matrix(ahead[i]) for i in numbers]))
            rate = group["lr"] * 0.2 * math.sqrt(max(shape))
            for i, update in zip(numbers, updates, strict=True):
                # In the order of the matrix's rows, a view of the parameter.
                weight = _shorter_first(parameters[i])
                weight.add_(update.view_as(weight), alpha=-rate)

    def _step_adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        for each in parameters:
            state = self.state[each]
            if not state:
                state["step"] = torch.zeros(())
                state["mean"], state["square"] = torch.zeros_like(each), torch.zeros_like(each)
        adam(
            parameters,
            _gradients(parameters),
            [self.state[each]["mean"] for each in parameters],
            [self.state[each]["square"] for each in parameters],
            [],
            [self.state[each]["step"] for each in parameters],
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


def as_matrix(weight: Tensor) -> Tensor:
    """A weight with one row for each output, or for each input of a convolution if they are fewer.

    The cost of `orthogonalised` grows with the cube of the shorter side.

    Args:
        weight: (out, in) or (out, in, height, width).
    """
    return _shorter_first(weight).flatten(1)


def _shorter_first(weight: Tensor) -> Tensor:
    fewer_inputs = weight.dim() == 4 and weight.shape[1] < weight.shape[0]
    return weight.transpose(0, 1) if fewer_inputs else weight


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [each.grad for each in parameters if each.grad is not None]


def orthogonalised(matrices: Tensor) -> Tensor:
    """Nearly (U Uᵀ)^(−1/2) U for a stack of matrices U, (N, rows, columns).

    Five Newton–Schulz steps X ← aX + b(XXᵀ)X + c(XXᵀ)²X with Jordan's coefficients, from
    X = U / |U|, which bring all singular values that are not tiny into about [0.7, 1.2]. Every X is
    P·U for a polynomial P of UUᵀ, so that the steps are taken on P and on XXᵀ, which are as small
    as the shorter side.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalised(matrices.mT).mT
    scaled = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    gram = scaled @ scaled.mT
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    product = None
    for step in range(5):
        # Q = aI + bA + cA² commutes with A = XXᵀ, as both are polynomials of UUᵀ.
        factor = torch.baddbmm(torch.add(a * eye, gram, alpha=b), gram, gram, alpha=c)
        product = factor if product is None else factor @ product
        if step < 4:
            gram = factor @ gram @ factor
            # Rounding must not make it any less symmetric with each step.
            gram = (gram + gram.mT) / 2
    return product @ scaled
