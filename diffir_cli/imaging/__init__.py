"""Files to arrays and back."""

from diffir_cli.imaging.masks import mask_from_alpha, read_mask
from diffir_cli.imaging.picture import Picture
from diffir_cli.imaging.read import list_pictures, read_picture
from diffir_cli.imaging.write import check_coding, check_fit, check_target, write_picture

__all__ = [
    "Picture",
    "check_coding",
    "check_fit",
    "check_target",
    "list_pictures",
    "mask_from_alpha",
    "read_mask",
    "read_picture",
    "write_picture",
]
