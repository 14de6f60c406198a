"""The gate before delivery: DICOM validators, each where it is installed.

dciodvfy judges one object against its IOD, dcentvfy the consistency of patient and study over all objects (it
catches the wrong patient), PixelMed's SR validator the templates of PS3.16. ``sr_export.check`` runs before
them, always. A validator that is missing is logged and skipped; one that hangs or breaks is a finding.

Validators quote attribute values; what they quote is cut out here, so that a finding can be logged and shown.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydicom import dcmread

from sr_export.context import PATIENT_STUDY

log = structlog.get_logger(__name__)

TIMEOUT_S = 120
"""PixelMed needs 5 to 17 s for one SR; a Java that has not finished after this never will."""
SEARCH_PATH = "/usr/bin:/usr/local/bin:/opt/bin"
PIXELMED_JARS: tuple[Path, ...] = (Path("/usr/share/java/pixelmed.jar"), Path("/usr/share/java/Saxon-HE.jar"))
"""Debian's libpixelmed-java and libsaxonhe-java; the JDK's own XSLT engine refuses these style sheets."""
PIXELMED_OPTIONS: tuple[str, ...] = (
    "-Xmx2000m",
    "-Djavax.xml.transform.TransformerFactory=net.sf.saxon.TransformerFactoryImpl",
)
PIXELMED_CLASS = "com.pixelmed.validate.DicomSRValidator"
ROOT_TEMPLATE_FOUND = "Found Root Template TID_1500"
WITHOUT_TEMPLATE = ("1.2.840.10008.5.1.4.1.1.88.11",)
"""Basic Text SR: it has no numbers, so TID 1500 cannot be its template."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A message of a validator that is no fault of the object, and why."""

    tool: str
    pattern: str
    reason: str


ALLOWED: tuple[Allowance, ...] = (
    Allowance("dciodvfy", "99OSTEONODE", "A private scheme is no defined term; each object declares it."),
    Allowance(
        "dciodvfy",
        r"DeviceUID\(0018,1002\)> - Attribute is not present in standard DICOM IOD",
        "The validator is of 2022; Device UID joined the Contributing Equipment Sequence later (IHE AIR).",
    ),
    Allowance(
        "dciodvfy",
        r"Laterality\(0020,0060\)> - is only permitted to be empty when actually unknown",
        "A report page has no side; without the attribute the validator misses it (Type 2C).",
    ),
    Allowance(
        "dcentvfy",
        r"Element=<AccessionNumber> IE <Study> versus <Series>",
        "The validator counts Accession Number to two entities; the values are equal.",
    ),
)


@dataclass(frozen=True, slots=True)
class ValidatorFinding:
    """One message of one validator about one file, without values; ``severity`` is error or warning."""

    tool: str
    file: str
    severity: str
    text: str

    def __str__(self) -> str:
        return f"{self.tool}: {self.file}: {self.text}"


def validate(paths: Sequence[Path], source: Path) -> tuple[str, ...]:
    """Return the errors that every installed validator finds; empty when the objects may be sent.

    Parameters
    ----------
    paths
        The result objects of one job.
    source
        One original instance of the series they belong to. An error about an attribute of patient or study
        that the source has in the same words was copied from it and is not counted.
    """
    return tuple(str(finding) for finding in findings(paths, source) if finding.severity == "error")


def findings(paths: Sequence[Path], source: Path) -> tuple[ValidatorFinding, ...]:
    """Return errors and warnings that no allowance explains."""
    found: list[ValidatorFinding] = []
    if dciodvfy := _program("dciodvfy"):
        inherited = {f.text for f in _object_findings(dciodvfy, source) if _is_copied(f.text)}
        for path in paths:
            found += [f for f in _object_findings(dciodvfy, path) if f.text not in inherited]
    if dcentvfy := _program("dcentvfy"):
        found += _entity_findings(dcentvfy, paths, source)
    if java := _pixelmed():
        for path in paths:
            header = dcmread(path, specific_tags=["Modality", "SOPClassUID"])
            if header.get("Modality") == "SR":
                found += _template_findings(java, path, has_template=header.SOPClassUID not in WITHOUT_TEMPLATE)
    return tuple(found)


def missing_validators() -> tuple[str, ...]:
    """Return the validators that are not installed."""
    present = {
        "dciodvfy": shutil.which("dciodvfy", path=SEARCH_PATH),
        "dcentvfy": shutil.which("dcentvfy", path=SEARCH_PATH),
        "PixelMed": shutil.which("java", path=SEARCH_PATH) and all(jar.is_file() for jar in PIXELMED_JARS),
    }
    return tuple(tool for tool, is_present in present.items() if not is_present)


def without_values(line: str) -> str:
    """Cut what a validator quotes of an object: after an equals sign, between quotes or square brackets."""
    line = re.sub(r"=\s*<[^>]*>", "= <...>", line)
    line = re.sub(r"<(?:/[^<>]*)?/([^/<>]+\.dcm)>", r"<\1>", line)
    line = re.sub(r'"[^"]*"|\'[^\']*\'', '"..."', line)
    return re.sub(r"\[(?!\d+\])[^\]]*\]", "[...]", line).strip()


def _program(name: str) -> str | None:
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        log.warning("validator_missing", validator=name)
    return path


def _pixelmed() -> str | None:
    """Path of java where PixelMed can run."""
    if "PixelMed" in missing_validators():
        log.warning("validator_missing", validator="PixelMed")
        return None
    return shutil.which("java", path=SEARCH_PATH)


def _object_findings(program: str, path: Path) -> Iterator[ValidatorFinding]:
    yield from _messages("dciodvfy", path.name, _run([program, "-new", str(path)]))


def _entity_findings(program: str, paths: Sequence[Path], source: Path) -> Iterator[ValidatorFinding]:
    output = _run([program, str(source), *(str(path) for path in paths)])
    yield from _messages("dcentvfy", "all objects", output)


def _template_findings(java: str, path: Path, *, has_template: bool) -> Iterator[ValidatorFinding]:
    """PixelMed exits 0 whatever it finds, so its words are what counts."""
    jars = ":".join(str(jar) for jar in PIXELMED_JARS)
    output = _run([java, *PIXELMED_OPTIONS, "-cp", jars, PIXELMED_CLASS, str(path)])
    if has_template and output is not None and ROOT_TEMPLATE_FOUND not in output:
        yield ValidatorFinding("PixelMed", path.name, "error", "the root template was not recognised")
    errors = None if output is None else "\n".join(re.findall(r"^Error.*", output, re.MULTILINE))
    yield from _messages("PixelMed", path.name, errors)


def _messages(tool: str, file: str, output: str | None) -> Iterator[ValidatorFinding]:
    """Read the lines that begin with Error or Warning, except those that an allowance explains."""
    if output is None:
        yield ValidatorFinding(tool, file, "error", f"the validator broke off or took longer than {TIMEOUT_S} s")
        return
    for line in output.splitlines():
        severity = next((word for word in ("Error", "Warning") if line.startswith(word)), None)
        if severity and not _is_allowed(tool, line):
            yield ValidatorFinding(tool, file, severity.lower(), without_values(line))


def _run(arguments: Sequence[str]) -> str | None:
    """Return standard output and error of a validator together; None when it was killed or took too long."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed programs, file paths of our own
            list(arguments),
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode >= 0 else None


def _is_allowed(tool: str, line: str) -> bool:
    return any(allowance.tool == tool and re.search(allowance.pattern, line) for allowance in ALLOWED)


def _is_copied(text: str) -> bool:
    """Whether a message is about a root attribute that every result copies from the source."""
    match = re.search(r"</(\w+)\(", text)
    return match is not None and match.group(1) in PATIENT_STUDY
