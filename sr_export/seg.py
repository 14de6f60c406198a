"""Masks as DICOM Segmentation objects (PS3.3 A.51), BINARY, on the source's own grid.

The one way in is ``highdicom.Volume`` with the affine of the SOURCE headers: a mask whose slices run against
the order of the source list cannot land in the wrong place, nor a left bone on the right. Segments of one
object never overlap and no object reaches the number of frames at which viewers refuse to draw it, so a job
may give more than one object, each in a series of its own: OHIF 3.13 shows one SEG of a series and hides others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage

from sr_export.coded import code_item
from sr_export.codes import ANATOMICAL_STRUCTURE, FAMILIES, LATERALITIES, UNSPECIFIED_FAMILY, structure_code
from sr_export.context import TYPE_2, finish
from sr_export.errors import ContradictoryReport
from sr_export.frames import frame_number, refer_to_frames, stand_in_uid
from sr_export.geometry import Grid
from sr_export.inputs import Algorithm, Region, Report
from sr_export.text import long_string
from sr_export.uids import PLACEHOLDER, stamp_uids, uid_of

MAXIMUM_FRAMES = 399
"""Weasis 4.6 refuses to draw a SEG of more than 400 frames (its issue 680)."""

BITS_IN_A_BYTE = 8
SERIES_STEP = 10
"""From the series number of one SEG to that of the job's next."""

GEOMETRY: tuple[str, ...] = (
    "SOPClassUID",
    "SOPInstanceUID",
    "ReferencedFrameNumber",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Modality",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
"""What highdicom needs of a source slice; it never sees the patient."""
NO_IDENTITY: tuple[DataElement, ...] = tuple(DataElement(keyword, dictionary_VR(keyword), "") for keyword in TYPE_2)
"""Empty type 2 elements of patient and study."""

COLOURS_RGB: dict[str, tuple[int, int, int]] = {
    "femur-R": (230, 159, 0),
    "femur-L": (86, 180, 233),
    "hip_bone-R": (204, 121, 167),
    "hip_bone-L": (0, 158, 115),
    "sacrum-": (240, 228, 66),
}
"""Colours that colour-blind readers tell apart [OkabeIto2008]."""
VERTEBRA_COLOURS_RGB: tuple[tuple[int, int, int], ...] = ((213, 94, 0), (240, 228, 66), (0, 114, 178))


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a region that goes into one object: slices ``first`` to ``last``, both included."""

    region: Region
    first: int
    last: int
    frames: int
    label: str


@dataclass(slots=True)
class Sheet:
    """The segments of one object as a label array that grows as pieces are laid into it."""

    labels: NDArray[np.uint8]
    pieces: list[Piece] = field(default_factory=list)

    def takes(self, piece: Piece) -> bool:
        """Whether the piece overlaps no segment and leaves the frame count in bounds."""
        span = slice(piece.first, piece.last + 1)
        if sum(placed.frames for placed in self.pieces) + piece.frames > MAXIMUM_FRAMES:
            return False
        return not bool(self.labels[span][piece.region.mask[span]].any())

    def lay(self, piece: Piece) -> None:
        """Give the piece the next segment number."""
        self.pieces.append(piece)
        span = slice(piece.first, piece.last + 1)
        self.labels[span][piece.region.mask[span]] = len(self.pieces)


def build_segs(
    source: Sequence[Dataset], grid: Grid, report: Report, *, is_corrected: bool = False
) -> tuple[Dataset, ...]:
    """Return the Segmentation objects of a report; none when there is no region or no frame of reference.

    Parameters
    ----------
    source
        Original headers in the order of the masks' slice axis.
    grid
        Of the same headers.
    report
        Its ``regions`` are written in their order.
    is_corrected
        Whether a person corrected the segmentation, which makes every segment SEMIAUTOMATIC.

    Raises
    ------
    ContradictoryReport
        A mask is empty or has another shape than the source.
    """
    if not grid.frame_of_reference_uid:
        return ()
    headers = [_stand_in(header) for header in source]
    frames = {stand_in_uid(header): header for header in source if frame_number(header) is not None}
    sheets = _arrange([piece for region in report.regions for piece in _pieces(region, grid)], grid)
    segs = []
    for number, sheet in enumerate(sheets, 1):
        seg = finish(_segmentation(headers, grid, sheet, report, number), source[0], report, "seg")
        if number > 1:
            seg.SeriesNumber += SERIES_STEP * (number - 1)
            seg.SeriesDescription = seg.SeriesDescription.replace("bones", f"bones {number}")
        for segment in seg.SegmentSequence if is_corrected else ():
            segment.SegmentAlgorithmType = "SEMIAUTOMATIC"
        if frames:
            refer_to_frames(seg, frames)
        stamp_uids([seg], report.job_reference, "seg")
        segs.append(seg)
    return tuple(segs)


def tracking_uid(report: Report, key: str) -> str:
    """Return the Tracking Unique Identifier that a segment and its measurements share."""
    return str(uid_of("tracking", report.job_reference, key))


def _pieces(region: Region, grid: Grid) -> list[Piece]:
    """Cut a region into pieces of at most ``MAXIMUM_FRAMES`` slices; nearly always one."""
    if region.mask.shape != grid.shape:
        raise ContradictoryReport(
            f"The mask of {region.key} has shape {region.mask.shape}; the source has {grid.shape}."
        )
    slices = np.flatnonzero(region.mask.any(axis=(1, 2)))
    if len(slices) == 0:
        raise ContradictoryReport(f"The mask of {region.key} is empty.")
    parts = [slices[start : start + MAXIMUM_FRAMES] for start in range(0, len(slices), MAXIMUM_FRAMES)]
    suffixes = [f", part {n} of {len(parts)}" for n in range(1, len(parts) + 1)] if len(parts) > 1 else [""]
    return [
        Piece(region, int(part[0]), int(part[-1]), len(part), long_string(region.name + suffix))
        for part, suffix in zip(parts, suffixes, strict=True)
    ]


def _arrange(pieces: Sequence[Piece], grid: Grid) -> list[Sheet]:
    """Put each piece into the first object that takes it."""
    sheets: list[Sheet] = []
    for piece in pieces:
        sheet = next((sheet for sheet in sheets if sheet.takes(piece)), None)
        if sheet is None:
            sheet = Sheet(np.zeros(grid.shape, np.uint8))
            sheets.append(sheet)
        sheet.lay(piece)
    return sheets


def _segmentation(headers: Sequence[Dataset], grid: Grid, sheet: Sheet, report: Report, number: int) -> Dataset:
    """Build one object with highdicom; the identity, the times and the UIDs are set afterwards."""
    first = min(piece.first for piece in sheet.pieces)
    last = max(piece.last for piece in sheet.pieces)
    affine = grid.affine_lps.copy()
    affine[:3, 3] += first * affine[:3, 0]
    volume = hd.Volume(
        sheet.labels[first : last + 1],
        affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=grid.frame_of_reference_uid,
    )
    seg = hd.seg.Segmentation(
        source_images=headers[first : last + 1],
        pixel_array=volume,
        segmentation_type="BINARY" if is_packed_by_the_byte(grid) else "FRACTIONAL",
        segment_descriptions=[_segment(n, piece, report) for n, piece in enumerate(sheet.pieces, 1)],
        series_instance_uid=PLACEHOLDER,
        series_number=1,
        sop_instance_uid=PLACEHOLDER,
        instance_number=1,
        manufacturer=report.equipment.manufacturer,
        manufacturer_model_name=report.equipment.model_name,
        software_versions=report.equipment.software_version,
        device_serial_number=report.equipment.serial_number,
        content_label="BONE_SEG",
        content_description="Bones and regions of measurement",
    )
    organization = uid_of("dimension organization", report.job_reference, str(number))
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for item in seg.DimensionIndexSequence:
        item.DimensionOrganizationUID = organization
    return seg


def is_packed_by_the_byte(grid: Grid) -> bool:
    """Whether every frame of one bit a pixel begins with a byte of its own.

    Where it does not (matrices that are no multiple of 8 pixels), OHIF 3.13 cuts the frames at bytes and draws the
    bones sheared beside their place, so such objects have a byte a pixel.
    """
    _, rows, columns = grid.shape
    return rows * columns % BITS_IN_A_BYTE == 0


def _segment(number: int, piece: Piece, report: Report) -> Dataset:
    """Describe a segment; side in label, tracking identifier and modifier, since viewers drop the last."""
    region = piece.region
    algorithm = segmentation_algorithm(report)
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=piece.label,
        segmented_property_category=ANATOMICAL_STRUCTURE,
        segmented_property_type=structure_code(region.structure),
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=long_string(algorithm.name),
            family=FAMILIES.get(algorithm.family, UNSPECIFIED_FAMILY),
            version=long_string(algorithm.version),
            source=long_string(report.equipment.manufacturer),
        ),
        tracking_uid=tracking_uid(report, region.key),
        tracking_id=long_string(region.name),
        display_color=hd.color.CIELabColor.from_rgb(*_colour(region)),
    )
    if region.laterality:
        item = description.SegmentedPropertyTypeCodeSequence[0]
        item.SegmentedPropertyTypeModifierCodeSequence = [code_item(LATERALITIES[region.laterality])]
    return description


def segmentation_algorithm(report: Report) -> Algorithm:
    """Return the algorithm whose key is ``segmentation``, else the node itself."""
    node = Algorithm("node", report.equipment.model_name, report.equipment.software_version, "Packaging of the results")
    return next((algorithm for algorithm in report.algorithms if algorithm.key == "segmentation"), node)


def _colour(region: Region) -> tuple[int, int, int]:
    known = COLOURS_RGB.get(f"{region.structure}-{region.laterality}")
    return known or VERTEBRA_COLOURS_RGB[sum(map(ord, region.structure)) % len(VERTEBRA_COLOURS_RGB)]


def _stand_in(header: Dataset) -> Dataset:
    """Return a geometry header that passes for a single-frame instance; its references are mended afterwards."""
    reduced = geometry_header(header)
    if frame_number(header) is not None:
        del reduced.ReferencedFrameNumber
        reduced[Tag("SOPInstanceUID")] = DataElement("SOPInstanceUID", "UI", stand_in_uid(header))
        reduced[Tag("SOPClassUID")] = DataElement("SOPClassUID", "UI", CTImageStorage)
    return reduced


def geometry_header(header: Dataset) -> Dataset:
    """Return a new header with the geometry alone; the type 2 attributes highdicom asks for are empty.

    The elements are shared with the original, so they must not be assigned to.
    """
    reduced = Dataset()
    for keyword in GEOMETRY:
        if keyword in header:
            element = header[keyword]
            reduced[element.tag] = element
    for element in NO_IDENTITY:
        reduced[element.tag] = element
    return reduced
