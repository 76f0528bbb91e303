"""Two-stage training, from a recipe to weights."""
