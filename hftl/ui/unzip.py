"""A zip that somebody uploads becomes files of data: what is not safe is refused before the first one is written."""

import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from hftl.data.files import CONLL_SUFFIXES, DATA_SUFFIXES, FILE_KINDS, IMAGE_SUFFIXES
from hftl.errors import DataError


# Files of a zip, and bytes unpacked for each byte packed: photos hardly shrink, texts shrink to a tenth; deflate shrinks
# zeros to a thousandth, which is what a bomb is made of. Ours.
MAX_FILES, MAX_RATIO = 200_000, 100
_TAKEN = (*DATA_SUFFIXES, *CONLL_SUFFIXES, *IMAGE_SUFFIXES)
_CHUNK = 2**20  # bytes; a zip that unpacks to no more is no bomb
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError, UnicodeDecodeError)


def unzip(upload: Path, folder: Path, most: int) -> list[Path]:
    """Unpack the images and the files of rows of a zip into `folder`, at most `most` bytes; a folder around all is left out.

    Raises `DataError` with one line for a path that leads out, a link, a bomb, a password, or damage.
    """
    try:
        with zipfile.ZipFile(upload) as archive:
            members = _members(archive, upload.name, most)
            for name, member in members.items():
                _extract(archive, member, folder / name, upload.name)
    except _BROKEN as error:
        raise DataError(f"{upload.name} is no zip that can be read: {' '.join(str(error).split())[:100]}.") from None
    return [folder / name for name in members]


def _members(archive: zipfile.ZipFile, name: str, most: int) -> dict[str, zipfile.ZipInfo]:
    """Return the files to unpack by their names inside the new folder, all checked before the first is written."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > MAX_FILES:
        raise DataError(f"{name} holds {len(infos):,} files: at most {MAX_FILES:,} are unpacked.")
    total, packed = sum(info.file_size for info in infos), sum(info.compress_size for info in infos)
    if total > most or total > MAX_RATIO * max(packed, _CHUNK // MAX_RATIO):
        raise DataError(f"{name} would unpack to {total / 1e6:,.0f} MB: that is too much for a zip of its size.")
    wanted: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        if info.filename.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", info.filename):
            raise DataError(f"{name} holds {info.filename[:80]!r}, whose path leads out of the folder: pack it again.")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(f"{name} holds the link {info.filename[:80]!r}: pack the files themselves.")
        if info.flag_bits & 1:
            raise DataError(f"{name} is encrypted: pack it without a password.")
        hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
        if not hidden and PurePosixPath(parts[-1]).suffix.lower() in _TAKEN:
            wanted["/".join(parts)] = info
    if not wanted:
        raise DataError(f"{name} holds no images and no {FILE_KINDS}: pack a folder of images for each class.")
    if len({inside.lower() for inside in wanted}) < len(wanted):
        raise DataError(f"{name} holds two files of one name: rename one of them.")
    first = {PurePosixPath(inside).parts[0] for inside in wanted}
    deep = all(len(PurePosixPath(inside).parts) > 2 for inside in wanted) or not _are_images(wanted)
    around = len(first) == 1 and deep and all("/" in inside for inside in wanted)
    return {inside.partition("/")[2]: info for inside, info in wanted.items()} if around else wanted


def _are_images(names: Iterable[str]) -> bool:
    return all(PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES for name in names)


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, name: str) -> None:
    """Write one file of the zip; its bytes are counted, for its head may lie."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with archive.open(member) as source, path.open("xb") as target:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise DataError(f"{name} holds more than it says: it is damaged.")
            target.write(chunk)
