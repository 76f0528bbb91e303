"""Files to arrays and back."""

from diffir_cli.imaging.encode import encode
from diffir_cli.imaging.formats import format_like, format_of
from diffir_cli.imaging.masks import mask_from_alpha, read_mask
from diffir_cli.imaging.picture import Picture
from diffir_cli.imaging.read import list_pictures, picture_from, read_levels, read_picture
from diffir_cli.imaging.write import (
    check_coding,
    check_fit,
    check_target,
    encode_picture,
    write_picture,
)

__all__ = [
    "Picture",
    "check_coding",
    "check_fit",
    "check_target",
    "encode",
    "encode_picture",
    "format_like",
    "format_of",
    "list_pictures",
    "mask_from_alpha",
    "picture_from",
    "read_levels",
    "read_mask",
    "read_picture",
    "write_picture",
]
