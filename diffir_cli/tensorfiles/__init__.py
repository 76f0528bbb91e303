"""Weights files to named tensors and back, without running what is in them."""
