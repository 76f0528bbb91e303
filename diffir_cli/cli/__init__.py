"""The command `diffir`: one file for each command, errors printed here and nowhere else."""

from __future__ import annotations

from diffir_cli.cli.app import app, main

__all__ = ["app", "main"]
