"""Files to arrays and back."""

from diffir_cli.imaging.masks import read_mask
from diffir_cli.imaging.picture import Picture
from diffir_cli.imaging.read import list_pictures, read_picture
from diffir_cli.imaging.write import check_fit, check_target, write_picture

__all__ = [
    "Picture",
    "check_fit",
    "check_target",
    "list_pictures",
    "read_mask",
    "read_picture",
    "write_picture",
]
