"""The networks of ResShift as plain modules."""

from diffir_cli.models.resshift.networks.resshift import ResShift
from diffir_cli.models.resshift.networks.swin_unet import SwinUNet
from diffir_cli.models.resshift.networks.vq_autoencoder import VQAutoencoder

__all__ = ["ResShift", "SwinUNet", "VQAutoencoder"]
