"""The networks of DiffIR as plain modules, to be read next to the paper."""

from diffir_cli.models.diffir.networks.cpen import CPEN
from diffir_cli.models.diffir.networks.denoiser import Denoiser
from diffir_cli.models.diffir.networks.diffir import DiffIRS1, DiffIRS2
from diffir_cli.models.diffir.networks.dirformer import DGFN, DMTA, DIRformer, DynamicBlock

__all__ = ["CPEN", "DGFN", "DMTA", "DIRformer", "Denoiser", "DiffIRS1", "DiffIRS2", "DynamicBlock"]
