"""What is computed from a picture by classical means before a network reads it."""
