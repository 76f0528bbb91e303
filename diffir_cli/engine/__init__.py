"""One image, as fast and as small as the machine allows."""

from diffir_cli.engine.loading import load_restorer
from diffir_cli.engine.restorer import Restorer

__all__ = ["Restorer", "load_restorer"]
