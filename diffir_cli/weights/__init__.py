"""Weights that are not part of this package: where they lie, and how they get there."""
