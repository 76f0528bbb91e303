"""Which file marks the holes of which photo: by name, and never a photo itself."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from diffir_cli.batch.find import Found, files_in
from diffir_cli.batch.stores import below, is_remote, real_path, store_errors
from diffir_cli.errors import InputError
from diffir_cli.util.files import check_reachable

_MARK = "_mask"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Masks:
    """The masks of a run."""

    place: Path
    """A mask for all, or a folder of them."""
    by_name: dict[str, Path] | None
    """Those of a folder, by their path below it without ending; None for one mask."""

    def of(self, item: Found) -> Path | None:
        """The mask of a photo: of its name, or with `_mask` behind it; first in the same tree."""
        if self.by_name is None:
            return self.place
        path = _name(item.below)
        stem = PurePosixPath(path).name
        names = (path, path + _MARK, stem, stem + _MARK)
        return next((self.by_name[name] for name in names if name in self.by_name), None)


def find_masks(place: Path, found: Sequence[Found]) -> tuple[Masks, list[Found]]:
    """The masks of a run, and its photos: what was found without the masks among it.

    Raises:
        InputError: when there is no such file or folder, or nothing but masks was found.
    """
    if not is_remote(place):
        check_reachable(place)
    with store_errors(place):
        is_folder = place.is_dir()
        if not (is_folder or place.exists()):
            raise InputError(f"no such file or folder: {place}", "check its name")
    masks = {item.path for item in _masks_among(found, place, is_folder)}
    photos = [item for item in found if item.path not in masks]
    if found and not photos:
        raise InputError(
            f"{found[0].path} is a mask of --mask {place}, and no photo is left",
            "name photos, and keep their masks in another folder or call them name_mask.png",
        )
    if len(photos) < len(found):
        _log.info("%d masks among the photos are not restored", len(found) - len(photos))
    if not is_folder:
        return Masks(place, None), photos
    taken = {str(real_path(item.path)) for item in photos}
    by_name: dict[str, Path] = {}
    for path in sorted(files_in(place, True)):
        if str(real_path(path)) not in taken:
            by_name.setdefault(_name(below(path, place)), path)
    return Masks(place, by_name), photos


def _masks_among(found: Sequence[Found], place: Path, is_folder: bool) -> list[Found]:
    masks = real_path(place)
    if not is_folder:
        return [item for item in found if real_path(item.path) == masks]
    inside = [item for item in found if masks in real_path(item.path).parents]
    stems = {(item.path.parent, _stem(item.path)) for item in inside}
    marked = [
        item
        for item in inside
        if _stem(item.path).endswith(_MARK)
        and (item.path.parent, _stem(item.path).removesuffix(_MARK)) in stems
    ]
    # Masks beside their photos, or else in a folder of their own, which may lie among the photos.
    return marked or (inside if len(inside) < len(found) else [])


def _stem(path: Path) -> str:
    return _name(PurePosixPath(path.name))


def _name(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path.with_suffix("")))
