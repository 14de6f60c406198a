"""From labelled voxels to a micro-finite-element model between two plates.

Every voxel of the largest face-connected piece is one brick. The model's axes are the image's, turned so that the
compressed axis comes first; the turn is cyclic, so left stays left. The end faces are the first and the last layer of
the piece along that axis; both are held by plates that stick to the bone ("held") or let it slide ("sliding").
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fe.errors import BadLoad, EmptyMask, ModelTooLarge, NotSpanning, UnsupportedModel
from fe.flags import LIMITED_FRACTION, ModelFlag
from fe.tissue import Labels
from fe.voxel.numbering import Numbering, number_voxels
from fe.voxel.solver import ElasticModel, elastic_model

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Axis = Literal["slice", "row", "column"]
Ends = Literal["held", "sliding"]
Order = tuple[int, int, int]
Value = TypeVar("Value", bound=np.generic)

AXES: dict[str, Order] = {"slice": (0, 1, 2), "row": (1, 2, 0), "column": (2, 0, 1)}
"""Array axes of the image in the order of the model's (z, y, x): z is compressed. Cyclic, so handedness stays."""

LEAST_LAYERS = 2
"""One layer between two plates that hold it has no free node."""

SPAN_FRACTION = 0.95
"""The largest piece must reach over this part of the labelled height; below, the bone is broken between the faces, or
the labels belong to several specimens. Above, loose voxels beyond an end are noise [project's assumption]."""

RAGGED_FRACTION = 0.5
"""An end face below this part of the mean section is flagged [project's assumption]."""

BYTES_PER_ELEMENT = 700
BYTES_PER_BOX_CELL = 60
BYTES_PER_CASE = 300
"""Estimate of the peak need: per element, per cell of the box around the bone, and per element of every further case.
Measured on the public tibia of 252 000 elements in a million cells: see docs/methods/micro-fe.md."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """A connected piece of bone between two end faces, in the model's axes.

    Attributes
    ----------
    labels : (nz, ny, nx) int array
        Tissue of every voxel, 0 outside of the piece.
    size_mm
        Voxel edges along (z, y, x).
    order
        Array axes of the image in the order (z, y, x).
    corner
        Image index (slice, row, column) of the piece's box.
    image_shape
        Shape of the image.
    islands, dropped_voxels
        Other pieces, and the voxels in them.
    dropped_layers
        Labelled layers beyond the ends of the piece.
    """

    labels: NDArray[np.integer]
    size_mm: tuple[float, float, float]
    order: Order
    corner: tuple[int, int, int]
    image_shape: tuple[int, int, int]
    islands: int
    dropped_voxels: int
    dropped_layers: int

    @property
    def height_mm(self) -> float:
        """Distance of the end faces."""
        return self.labels.shape[0] * self.size_mm[0]

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.size_mm))

    @property
    def box_mm2(self) -> float:
        """Area of the box around the piece, across the compressed axis."""
        return float(np.prod(self.labels.shape[1:]) * np.prod(self.size_mm[1:]))

    def end_faces_mm2(self) -> tuple[float, float]:
        """Return the bone's area on the first and the last layer."""
        low, high = (int(np.count_nonzero(self.labels[layer])) for layer in (0, -1))
        area = self.size_mm[1] * self.size_mm[2]
        return low * area, high * area

    def turned(self, image: NDArray[Value]) -> NDArray[Value]:
        """Return the piece's box of an image (slice, row, column) in the model's axes."""
        turned = image.transpose(self.order)
        start = [self.corner[axis] for axis in self.order]
        return turned[tuple(slice(s, s + n) for s, n in zip(start, self.labels.shape, strict=True))]

    def on_image(self, elements: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return element values on the image's grid (slice, row, column), NaN outside of the piece."""
        image = np.full(self.image_shape, np.nan, dtype=np.float32)
        box = self.turned(image)
        box[self.labels != 0] = elements
        return image

    def vectors_xyz(self, vectors: Doubles) -> Doubles:
        """Return (3, n) vectors along the model's (x, y, z) along the image's (x, y, z): column, row, slice."""
        turned = np.empty_like(vectors)
        for model_axis, image_axis in enumerate(self.order):
            turned[2 - image_axis] = vectors[2 - model_axis]
        return turned

    def node_points_mm(self, places: NDArray[np.integer]) -> Doubles:
        """Return node places (n, 3) of the model as LPS points (n, 3), relative to the image's first voxel."""
        points = np.empty((len(places), 3))
        for model_axis, image_axis in enumerate(self.order):
            index = places[:, model_axis] + self.corner[image_axis] - 0.5
            points[:, 2 - image_axis] = index * self.size_mm[model_axis]
        return points


def find_specimen(labels: Labels, spacing_mm: tuple[float, float, float], axis: Axis) -> Specimen:
    """Keep the largest face-connected piece of the labelled voxels and turn the compressed axis first.

    Parameters
    ----------
    labels : (slice, row, column) int array
        0 outside; embedding that carries load has a label too.
    spacing_mm
        Voxel spacing along (slice, row, column).
    axis
        The compressed axis.

    Raises
    ------
    EmptyMask
        Nothing is labelled.
    NotSpanning
        The largest piece ends well before the labelled voxels do, or is one layer thick.
    BadLoad
        There is no such axis.
    """
    if axis not in AXES:
        raise BadLoad(f"The compressed axis is one of {', '.join(AXES)}, not {axis!r}.")
    order = AXES[axis]
    occupied = labels != 0
    if not occupied.any():
        raise EmptyMask("No voxel is labelled: there is no bone to compress.")
    pieces, count = ndimage.label(occupied)
    sizes = np.bincount(pieces.ravel())[1:]
    largest = 1 + int(np.argmax(sizes))
    box = ndimage.find_objects(pieces)[largest - 1]
    layers = box[order[0]].stop - box[order[0]].start
    rows = np.flatnonzero(occupied.any(axis=tuple(order[1:])))
    labelled_layers = int(rows[-1] - rows[0] + 1)
    if layers < LEAST_LAYERS or layers < SPAN_FRACTION * labelled_layers:
        raise NotSpanning(
            f"The largest of {count} pieces covers {layers} of {labelled_layers} labelled layers along the {axis} "
            f"axis; {SPAN_FRACTION:.0%}, and {LEAST_LAYERS}, are needed to carry load from one end face to the other."
        )
    piece = np.where(pieces[box] == largest, labels[box], 0).transpose(order)
    return Specimen(
        labels=np.ascontiguousarray(piece, dtype=np.uint8 if labels.dtype == np.bool_ else labels.dtype),
        size_mm=(float(spacing_mm[order[0]]), float(spacing_mm[order[1]]), float(spacing_mm[order[2]])),
        order=order,
        corner=(box[0].start, box[1].start, box[2].start),
        image_shape=(labels.shape[0], labels.shape[1], labels.shape[2]),
        islands=count - 1,
        dropped_voxels=int(sizes.sum() - sizes.max()),
        dropped_layers=labelled_layers - layers,
    )


def check_memory(specimen: Specimen, cases: int, limit_bytes: int) -> None:
    """Refuse a model that would need more memory than allowed.

    Raises
    ------
    ModelTooLarge
        The estimate exceeds the limit.
    """
    elements = int(np.count_nonzero(specimen.labels))
    needed = elements * (BYTES_PER_ELEMENT + (cases - 1) * BYTES_PER_CASE) + specimen.labels.size * BYTES_PER_BOX_CELL
    if needed > limit_bytes:
        raise ModelTooLarge(elements, needed, limit_bytes)


def plated_model(specimen: Specimen, modulus_mpa: Doubles, poisson_ratio: float, ends: Ends) -> ElasticModel:
    """Set up the model with its end faces in plates.

    Parameters
    ----------
    specimen
        The piece.
    modulus_mpa : (nz, ny, nx) array
        Young's modulus in the model's axes; read where there is bone.
    poisson_ratio
        nu of all tissues.
    ends
        ``held``: every displacement of both end faces is prescribed. ``sliding``: only along the compressed axis; a
        node and a direction of the lower face are pinned against rigid motion, which carries no force.

    Raises
    ------
    UnsupportedModel
        There are no such ends.
    """
    numbering = number_voxels(specimen.labels != 0)
    low, high = end_nodes(numbering)
    is_fixed = np.zeros((3, numbering.node_count), dtype=bool)
    if ends == "held":
        is_fixed[:, low | high] = True
    elif ends == "sliding":
        is_fixed[2, low | high] = True
        _pin(is_fixed, numbering, low)
    else:
        raise UnsupportedModel(f"End faces are held or sliding, not {ends!r}.")
    modulus = np.where(numbering.is_bone, modulus_mpa, 0.0)
    return elastic_model(modulus, specimen.size_mm, poisson_ratio, is_fixed, numbering)


def plate_motion_mm(
    specimen: Specimen,
    numbering: Numbering,
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    turn_rad: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Doubles:
    """Return the displacement (3, nodes) that grows linearly from the resting lower plate to the moved upper plate.

    On the end faces this is the plates' motion, in between a first guess.

    Parameters
    ----------
    specimen, numbering
        The piece and its nodes.
    shift_mm
        Translation of the upper plate along the model's (x, y, z).
    turn_rad
        Its small rotation about the model's (x, y, z) through the centre of the upper face.
    """
    places = numbering.node_places
    share = places[:, 0] / specimen.labels.shape[0]
    turned = np.cross(turn_rad, arms_mm(specimen, numbering))
    return np.ascontiguousarray(((np.asarray(shift_mm) + turned) * share[:, None]).T)


def arms_mm(specimen: Specimen, numbering: Numbering) -> Doubles:
    """Return every node's place (nodes, 3) along the model's (x, y, z), seen from the centroid of the upper face."""
    points = (numbering.node_places * np.array(specimen.size_mm))[:, ::-1]
    rows, columns = np.nonzero(specimen.labels[-1])
    nz, dy, dx = specimen.labels.shape[0], specimen.size_mm[1], specimen.size_mm[2]
    centre = ((columns.mean() + 0.5) * dx, (rows.mean() + 0.5) * dy, nz * specimen.size_mm[0])
    return np.asarray(points - np.array(centre))


def end_nodes(numbering: Numbering) -> tuple[Bools, Bools]:
    """Return the (nodes,) masks of the first and the last node layer."""
    layer = numbering.node_places[:, 0]
    return layer == 0, layer == numbering.is_bone.shape[0]


def _pin(is_fixed: Bools, numbering: Numbering, low: Bools) -> None:
    """Hold the lower face against sliding and turning as a rigid body: one node, and one direction of the farthest."""
    face = np.flatnonzero(low)
    offset = numbering.node_places[face, 1:] - numbering.node_places[face[0], 1:]
    farthest = int(np.argmax((offset.astype(np.int64) ** 2).sum(axis=1)))
    is_fixed[:2, face[0]] = True
    rows, columns = np.abs(offset[farthest])
    is_fixed[1 if columns >= rows else 0, face[farthest]] = True


def specimen_flags(specimen: Specimen, limited_voxels: int) -> Iterator[ModelFlag]:
    """Yield what limits a specimen's result.

    Parameters
    ----------
    specimen
        The piece.
    limited_voxels
        Voxels whose modulus a law's limits held.
    """
    elements = int(np.count_nonzero(specimen.labels))
    if specimen.islands:
        yield ModelFlag(
            "islands_dropped",
            f"{specimen.islands} pieces ({specimen.dropped_voxels} voxels) share no face with the specimen and were "
            f"left out; it is {specimen.dropped_layers} layers shorter than the labels.",
            (("islands", float(specimen.islands)), ("elements", float(specimen.dropped_voxels))),
        )
    mean_mm2 = elements * specimen.voxel_mm3 / specimen.height_mm
    smallest = min(specimen.end_faces_mm2())
    if smallest < RAGGED_FRACTION * mean_mm2:
        yield ModelFlag(
            "ragged_end_face",
            f"An end face holds {smallest:.2f} mm2 of bone, {smallest / mean_mm2:.0%} of the mean section: the plate "
            "rests on tips, which makes the specimen too soft and too weak. Cut the image where there is more bone.",
            (("end_face_mm2", smallest), ("mean_section_mm2", mean_mm2)),
        )
    if limited_voxels >= LIMITED_FRACTION * elements:
        yield ModelFlag(
            "modulus_limited",
            f"{limited_voxels / elements:.0%} of the voxels have a density for which the law's modulus lies outside of "
            "its limits; they were set to these.",
            (("fraction", limited_voxels / elements),),
        )
