"""The OHIF viewer's own build, as it comes in its npm package: pinned, checked, cached outside the source tree."""

import base64
import hashlib
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from dicom_node.public_data import cache_dir

VERSION = "3.13.2"
"""The last release whose package holds the built viewer that this test was seen to pass with."""
ARCHIVE_SHA512 = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
"""The archive's SHA-512 in base 64, as npm's ``integrity`` states it."""
NPM_LIMIT_S = 300


def ohif_build(npm: str) -> Path:
    """Return the folder of the built viewer (MIT licence), fetched with npm on first use.

    Raises
    ------
    RuntimeError
        When npm cannot fetch the package, or it is not the one whose checksum is known.
    """
    folder = cache_dir() / f"ohif-{VERSION}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as scratch:
            archive = _fetch(npm, Path(scratch))
            with tarfile.open(archive) as package:
                package.extractall(scratch, filter="data")
            (Path(scratch) / "package" / "dist").rename(folder)
    return folder


def _fetch(npm: str, scratch: Path) -> Path:
    """Fetch the archive with npm, from whatever registry this machine is set up for; nothing is installed."""
    done = subprocess.run(
        [npm, "pack", f"@ohif/app@{VERSION}", "--silent", "--pack-destination", str(scratch)],
        capture_output=True,
        text=True,
        check=False,
        timeout=NPM_LIMIT_S,
        cwd=scratch,
    )
    archive = scratch / f"ohif-app-{VERSION}.tgz"
    if done.returncode or not archive.exists():
        raise RuntimeError(f"npm could not fetch @ohif/app {VERSION}: {done.stderr.strip()[-300:]}")
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != ARCHIVE_SHA512:
        raise RuntimeError(f"{archive.name} has SHA-512 {found}; {ARCHIVE_SHA512} is expected. It was not used.")
    return archive
