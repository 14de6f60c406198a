"""One header a slice, whatever the archive keeps: single-frame CT as it is, multi-frame CT taken apart.

A frame of an Enhanced or Legacy Converted Enhanced CT becomes a header with the patient, the study and the equipment
of its instance and the geometry of its functional groups (PS3.3 C.7.6.16); Referenced Frame Number says which frame it
is, so that results can refer to it. Everything after this module has one path.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from pydicom.dataset import Dataset

from sr_export.errors import SourceMismatch
from sr_export.uids import uid_of

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
LEFT_OUT: frozenset[str] = frozenset((*GROUPS, "NumberOfFrames", "PixelData", "DimensionIndexSequence"))
"""What belongs to the instance as a whole."""
PLACES: dict[str, str] = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
}
"""Attribute of a slice -> functional group that holds it (PS3.3 C.7.6.16.2)."""


def slice_headers(source: Sequence[Dataset]) -> list[Dataset]:
    """Return one header a slice.

    Parameters
    ----------
    source
        Headers of single-frame instances in slice order, which come back as they are; or of multi-frame instances,
        whose frames come back in ascending order along the normal, row direction x column direction.

    Raises
    ------
    SourceMismatch
        A multi-frame instance has no functional groups for each of its frames.
    """
    if not any(is_multi_frame(header) for header in source):
        return list(source)
    instances = {str(header.SOPInstanceUID): header for header in source}.values()
    return sorted((frame for instance in instances for frame in _frames(instance)), key=_height_mm)


def is_multi_frame(header: Dataset) -> bool:
    """Whether a header describes several frames."""
    return int(header.get("NumberOfFrames") or 1) > 1 or GROUPS[1] in header


def frame_number(header: Dataset) -> int | None:
    """Return the number of the frame within its instance, from 1; None for a single-frame instance."""
    number = header.get("ReferencedFrameNumber")
    return None if number is None else int(number)


def stand_in_uid(header: Dataset) -> str:
    """Return a UID that no other slice has; a single-frame instance's own."""
    number, uid = frame_number(header), str(header.SOPInstanceUID)
    return uid if number is None else str(uid_of("frame", uid, str(number)))


def refer_to_frames(dataset: Dataset, by_stand_in: Mapping[str, Dataset]) -> None:
    """Turn references to stand-in UIDs into references to frames of their instance, in place.

    A list of instances names each instance once and without frames (Referenced Instance Sequence, PS3.3 C.12.2).
    """
    for element in dataset:
        if element.VR != "SQ":
            continue
        for item in element.value:
            header = by_stand_in.get(str(item.get("ReferencedSOPInstanceUID", "")))
            if header is not None:
                item.ReferencedSOPClassUID = header.SOPClassUID
                item.ReferencedSOPInstanceUID = header.SOPInstanceUID
                if element.keyword != "ReferencedInstanceSequence":
                    item.ReferencedFrameNumber = frame_number(header)
            refer_to_frames(item, by_stand_in)
        if element.keyword == "ReferencedInstanceSequence":
            element.value = list({item.ReferencedSOPInstanceUID: item for item in element.value}.values())


def _frames(instance: Dataset) -> Iterator[Dataset]:
    shared = instance.get(GROUPS[0]) or [Dataset()]
    per_frame = instance.get(GROUPS[1]) or []
    count = int(instance.get("NumberOfFrames") or 1)
    if len(per_frame) != count:
        raise SourceMismatch(
            f"The source is a multi-frame instance of {count} frames with functional groups for {len(per_frame)}."
        )
    common = Dataset()
    for element in instance:
        if element.keyword not in LEFT_OUT:
            common[element.tag] = element
    for number, groups in enumerate(per_frame, 1):
        header = Dataset()
        header.update(common)
        for keyword, sequence in PLACES.items():
            items = groups.get(sequence) or shared[0].get(sequence)
            if items and keyword in items[0]:
                header[keyword] = items[0][keyword]
        header.ReferencedFrameNumber = number
        yield header


def _height_mm(header: Dataset) -> float:
    """Position along the slice's own normal; 0 where the header has none, which is refused later."""
    if "ImageOrientationPatient" not in header or "ImagePositionPatient" not in header:
        return 0.0
    cosines = [float(value) for value in header.ImageOrientationPatient]
    position = [float(value) for value in header.ImagePositionPatient]
    return float(np.dot(np.cross(cosines[:3], cosines[3:]), position))
