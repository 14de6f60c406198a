"""How good a bone network is: Dice on a labelled crop of a lumbar spine that no training sees, and on seen scans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dicom_node.public_data import fetch
from dicom_node.strength.image_files import read_grid
from dicom_node.training.bones.subjects import IGNORED, LIMIT_BYTES, Subject
from inference.metrics import dice
from inference.networks.bone_classes import BoneClass
from inference.networks.bone_net import BoneNet
from inference.networks.grid import resampled, resampled_labels
from inference.networks.predict import probabilities
from inference.volume import Volume, canonical

BODY_VALUES, ARCH_VALUES = (49, 50), tuple(range(41, 49))
"""Sub-regions of a vertebra in the crop's reference: body (border and inside), and the rest."""

GROUPS: dict[str, tuple[BoneClass, ...]] = {
    "bodies": (BoneClass.BODY_CORE, BoneClass.BODY_SHELL),
    "cores": (BoneClass.BODY_CORE,),
    "posterior elements": (BoneClass.POSTERIOR_ELEMENTS,),
    "sacrum": (BoneClass.SACRUM,),
    "hip bones": (BoneClass.HIP_RIGHT, BoneClass.HIP_LEFT),
    "right femur": (BoneClass.FEMUR_RIGHT,),
    "left femur": (BoneClass.FEMUR_LEFT,),
    "ribs": (BoneClass.RIB,),
    "canal": (BoneClass.CANAL,),
}


@dataclass(frozen=True, slots=True, eq=False)
class Exam:
    """One image with its truth on the network's grid, and the groups that its reference knows."""

    name: str
    hu: NDArray[np.float32]
    target: NDArray[np.uint8]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """A fixed list of exams; the names of those that are not learned from begin with unseen."""

    exams: tuple[Exam, ...]

    @classmethod
    def public(cls, seen: Sequence[Subject] = (), unseen: Sequence[Subject] = ()) -> Self:
        """Return the judge of the public scans: the unseen lumbar crop, then ``unseen`` subjects, then ``seen`` ones.

        Raises
        ------
        ConfigurationError
            When the crop cannot be downloaded.
        """
        folder = fetch("lumbar")
        scan = read_grid(folder / "sub-ct_label-22_ct.nii.gz", LIMIT_BYTES)
        regions = read_grid(folder / "sub-ct_seg-subreg_label-22_msk.nii.gz", LIMIT_BYTES)
        volume, orientation = canonical(Volume(scan.values.astype(np.float32), scan.affine_lps))
        parts = np.asarray(orientation.apply(regions.values))
        target = np.zeros(parts.shape, np.uint8)
        target[np.isin(parts, ARCH_VALUES)] = BoneClass.POSTERIOR_ELEMENTS
        target[np.isin(parts, BODY_VALUES)] = BoneClass.BODY_SHELL
        small = resampled_labels(target, volume.spacing_mm)
        crop = Exam("unseen lumbar crop", resampled(volume), small, ("bodies", "posterior elements"))
        return cls((crop, *(_of(s, "unseen") for s in unseen), *(_of(s, "seen") for s in seen)))

    def figures(self, network: BoneNet) -> Mapping[str, float]:
        """Return Dice by exam and group; voxels that are left out of the loss are left out here."""
        found = {}
        for exam in self.exams:
            labels = probabilities(network, exam.hu).argmax(axis=0)
            counted = exam.target != IGNORED
            for group in exam.groups:
                ours, truth = (np.isin(array, GROUPS[group]) & counted for array in (labels, exam.target))
                found[f"Dice {group}, {exam.name}"] = dice(ours, truth)
        return found


def _of(subject: Subject, word: str) -> Exam:
    target = subject.target.numpy()
    groups = tuple(name for name, classes in GROUPS.items() if np.isin(target, classes).any())
    return Exam(f"{word} {subject.name}", subject.hu.numpy().astype(np.float32), target, groups)
