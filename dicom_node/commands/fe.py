"""``osteonode fe``: bone strength from an image and a mask."""

import argparse

from rich.console import Console

from dicom_node import clock
from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings
from dicom_node.strength.bone import Sources
from dicom_node.strength.models import MODELS
from dicom_node.strength.outcome import Choices
from dicom_node.strength.run import Order, compute_strength

BYTES_PER_GB = 2**30


def fe(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Compute the strength of one bone from files."""
    _check(options)
    limit_bytes = int(options.memory_limit_gb * BYTES_PER_GB)
    order = Order(
        model=options.model,
        sources=Sources(
            image=options.image,
            mask=options.mask,
            label=options.label,
            calibration_file=options.calibration or (settings.calibration_file if options.image.is_dir() else None),
            record_id=options.record,
            density_material=options.density_mg_per_cm3,
            needs_density=options.model != "microfe" or options.threshold_mg_per_cm3 is not None,
            limit_bytes=limit_bytes,
        ),
        side=options.side or "",
        level=options.level or "",
        choices=Choices(
            element_mm=options.element_mm,
            discretisation=options.discretisation or "voxel",
            with_sensitivity=_with_sensitivity(options),
            memory_limit_bytes=limit_bytes,
            tissue_modulus_mpa=options.tissue_modulus_mpa,
            threshold_mg_per_cm3=options.threshold_mg_per_cm3,
        ),
        output=options.out,
        may_overwrite=options.overwrite,
        despite_flags=options.despite_flags,
        threads=options.threads,
    )
    compute_strength(order, clock.now(), console)


def _with_sensitivity(options: argparse.Namespace) -> bool:
    """Whether the strength is repeated for changed masks: yes, where the model can and nobody said no."""
    return MODELS[options.model].bone != "specimen" and options.sensitivity is not False


def _check(options: argparse.Namespace) -> None:
    """Refuse what does not go together, before anything is read.

    Raises
    ------
    ConfigurationError
        With what to change.
    """
    needs = MODELS[options.model].bone
    if needs == "vertebra" and not options.level:
        raise ConfigurationError("Say with --level which vertebra it is, for example --level L1.")
    unused = {
        "--element-mm": options.element_mm is not None and needs == "specimen",
        "--sensitivity": options.sensitivity and needs == "specimen",
        "--side": options.side and needs != "femur",
        "--level": options.level and needs != "vertebra",
        "--discretisation": options.discretisation and options.model != "ct2s",
        "--tissue-modulus-mpa": options.tissue_modulus_mpa is not None and needs != "specimen",
        "--threshold-mg-per-cm3": options.threshold_mg_per_cm3 is not None and needs != "specimen",
    }
    if wrong := [name for name, is_wrong in unused.items() if is_wrong]:
        raise ConfigurationError(f"{', '.join(wrong)} has no meaning for the model {options.model}; leave it out.")
    if options.density_mg_per_cm3 and (options.calibration or options.record):
        raise ConfigurationError("An image of densities needs no calibration: leave out --calibration and --record.")
    for name in ("element_mm", "tissue_modulus_mpa", "memory_limit_gb"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigurationError(f"--{name.replace('_', '-')} {value:g} is no positive number.")
