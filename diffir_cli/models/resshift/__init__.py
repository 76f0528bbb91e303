"""ResShift, diffusion by shifting the residual between two images (NeurIPS 2023, TPAMI 2024)."""
