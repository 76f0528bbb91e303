"""DiffIR (ICCV 2023): an image-restoration transformer steered by a vector from diffusion."""
