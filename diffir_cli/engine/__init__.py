"""One image, as fast and as small as the machine allows."""

from diffir_cli.engine.api import Restorer
from diffir_cli.engine.restorer import ModelRestorer

__all__ = ["ModelRestorer", "Restorer"]
