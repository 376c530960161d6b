"""Downloader of CUB-200-2011: photos, annotations and segmentations from the archive of Caltech.

It resumes where it was stopped::

    python -m kpose.data.download FOLDER
"""

import argparse
import hashlib
import logging
import tarfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from kpose._messages import one_line

__all__ = ["CUB_ARCHIVES", "Archive", "download_archive", "download_cub", "extract_archive", "main"]

_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


class Archive(NamedTuple):
    """File on a server, its name and hexadecimal checksum here, and the folder that extracting it makes."""

    url: str
    name: str
    md5: str
    creates: str


CUB_ARCHIVES = (
    Archive(
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",
        "CUB_200_2011.tgz",
        "97eceeb196236b17998738112f37df78",
        "CUB_200_2011",
    ),
    Archive(
        "https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz?download=1",
        "segmentations.tgz",
        "4d47ba1228eae64f2fa547c47bc65255",
        "segmentations",
    ),
)
"""Photos with their annotations (1.1 GB), and segmentations (39 MB)."""


def download_cub(folder: Path, archives: Sequence[Archive] = CUB_ARCHIVES, *, keep: bool = False) -> Path:
    """Download and extract CUB-200-2011; what is there already is not fetched again.

    Args:
        folder: Where ``CUB_200_2011/`` is made.
        archives: Photos with annotations, then segmentations, which are put into the first one's folder.
        keep: Whether the archives stay.

    Returns:
        The folder that data modules take as ``root``.

    Raises:
        ConnectionError: If a server cannot be reached or ends the transfer; a later call resumes.
        ValueError: If a file's checksum is wrong (the file is removed), or an archive is damaged, does not hold its
            folder, or would write outside it.
    """
    folder = Path(folder)
    photos, segmentations = archives
    root = folder / photos.creates
    for archive, target in ((photos, folder), (segmentations, root)):
        if (target / archive.creates).exists():
            _log.info("%s is there already.", target / archive.creates)
            continue
        path = download_archive(archive, folder)
        extract_archive(path, target, creates=archive.creates)
        if not keep:
            path.unlink()
    return root


def download_archive(archive: Archive, folder: Path, *, timeout: float = 30.0) -> Path:
    """Download a file, from where an earlier attempt stopped, and check it; see `download_cub`.

    While it is incomplete its name ends in ``.part``; ``timeout`` is in seconds without an answer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / archive.name
    part = path.with_name(path.name + ".part")
    if path.exists():
        _check(archive, path)
        return path
    try:
        _fetch(archive, part, timeout)
    except (OSError, HTTPException) as error:
        raise ConnectionError(
            f"download_archive needs {archive.url}; it cannot be reached or stopped sending ({error}). Check the "
            "network and run the command again (it resumes), or fetch the file by other means and put it at "
            f"{path}."
        ) from error
    _check(archive, part)
    return part.replace(path)


def extract_archive(path: Path, folder: Path, *, creates: str) -> None:
    """Extract a tar archive; its main folder appears only once it is complete."""
    work = folder / f".{creates}.part"
    work.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(path) as archive:
            for member in tqdm(archive, desc=f"extract {path.name}", unit=" files"):
                archive.extract(member, work, filter="data")
        (work / creates).replace(folder / creates)
    except (tarfile.TarError, EOFError, FileNotFoundError) as error:
        # tarfile lists every format that it has tried, a line each.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"extract_archive needs a tar archive with the folder {creates!r}; got {path} ({reason}). "
            "Remove the file and download it again."
        ) from error
    for rest in work.iterdir():
        rest.replace(folder / rest.name)
    work.rmdir()


def _fetch(archive: Archive, part: Path, timeout: float) -> None:
    """Fetch the bytes that ``part`` does not hold yet."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send
            error.close()
            return
        raise
    resumed = response.status == 206
    have = have if resumed else 0
    left = response.headers.get("Content-Length")
    total = have + int(left) if left else None
    bar = tqdm(desc=archive.name, initial=have, total=total, unit="B", unit_scale=True)
    with response, part.open("ab" if resumed else "wb") as file, bar:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and part.stat().st_size < total:
        raise ConnectionResetError(f"{part.stat().st_size} of {total} bytes arrived")


def _check(archive: Archive, path: Path) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:  # hashlib.file_digest comes with Python 3.11
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != archive.md5:
        path.unlink()
        raise ValueError(
            f"download_archive needs {archive.name} with the checksum {archive.md5}; got {digest.hexdigest()}, "
            "and removed the file. Run the command again."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Download CUB-200-2011, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m kpose.data.download", description="Download CUB-200-2011.")
    parser.add_argument("folder", type=Path, help="where CUB_200_2011/ is made (2.5 GB while extracting)")
    parser.add_argument("--keep", action="store_true", help="keep the archives")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        root = download_cub(options.folder, keep=options.keep)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{one_line(error)}\n")
    _log.info("CUB-200-2011 is at %s. Cameras: python -m kpose.data.sfm %s", root, root)


if __name__ == "__main__":
    main()
