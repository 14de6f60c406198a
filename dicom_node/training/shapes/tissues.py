"""The tissues of a generated scene and the CT numbers each may have.

Ranges are for 120 kVp and deliberately wider than patients are, for a network has to bear other tube voltages,
contrast medium and calibration errors. Those without a source are assumptions from the literature at large [m].
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tissue:
    """One tissue.

    Attributes
    ----------
    name
        What it is.
    mean_hu
        Range of its mean; one value is drawn per scene.
    sd_hu
        Range of the standard deviation within the tissue (texture, not image noise).
    """

    name: str
    mean_hu: tuple[float, float]
    sd_hu: tuple[float, float] = (0.0, 0.0)


TISSUES: tuple[Tissue, ...] = (
    Tissue("air", (-1000, -1000)),
    Tissue("cortical", (800, 1700), (30, 120)),
    Tissue("trabecular", (60, 420), (10, 60)),  # of a voxel whose density factor is 1
    Tissue("marrow", (-90, 30), (5, 15)),  # fatty in the shaft; also what lies between trabeculae
    Tissue("muscle", (35, 70), (5, 15)),
    Tissue("fat", (-120, -85), (5, 12)),
    Tissue("cartilage", (40, 100), (5, 15)),  # joint space with cartilage and fluid
    Tissue("urine", (-5, 20), (1, 4)),
    Tissue("bowel_wall", (20, 60), (5, 15)),
    Tissue("bowel_content", (-20, 80), (10, 60)),
    Tissue("bowel_contrast", (150, 500), (10, 60)),
    Tissue("gas", (-1000, -900), (0, 20)),
    Tissue("organ", (30, 160), (5, 15)),  # uterus, prostate, liver, kidney, spleen, with or without contrast
    Tissue("artery", (30, 350), (2, 10)),  # from no contrast medium to the arterial phase
    Tissue("vein", (30, 220), (2, 10)),
    Tissue("skin", (-20, 60), (5, 15)),
    Tissue("disc", (50, 120), (5, 20)),
    Tissue("ligament", (40, 120), (5, 15)),
    Tissue("table_shell", (-250, 100), (5, 20)),  # carbon fibre
    Tissue("table_core", (-980, -850), (2, 10)),  # foam
    Tissue("cloth", (-950, -500), (20, 100)),  # cushion, mattress
    Tissue("phantom_body", (-50, 120), (1, 5)),
    Tissue("rod_0", (-60, 10), (1, 5)),  # five rods, 0 to about 400 mg/cm3 K2HPO4 or 0 to 200 of hydroxyapatite
    Tissue("rod_1", (20, 90), (1, 5)),
    Tissue("rod_2", (100, 180), (1, 5)),
    Tissue("rod_3", (190, 320), (1, 5)),
    Tissue("rod_4", (330, 620), (1, 5)),
    Tissue("metal", (2500, 12000), (0, 200)),
    Tissue("cement", (800, 2500), (50, 250)),
    Tissue("polyethylene", (-120, -40), (2, 10)),
    Tissue("calcification", (300, 1500), (50, 200)),
    Tissue("sclerosis", (400, 900), (20, 100)),
    Tissue("thecal_sac", (5, 50), (2, 10)),
    Tissue("lung", (-920, -650), (20, 60)),
)
"""A scene's tissue value is an index into this table."""

TISSUE_VALUE: dict[str, int] = {tissue.name: value for value, tissue in enumerate(TISSUES)}
