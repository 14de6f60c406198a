"""Arguments of measuring without the network: analysis, strength, calibration, evaluation."""

import argparse
from pathlib import Path

from dicom_node.arguments.table import count, row


def add_fe(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: bone strength from files."""
    fe = row(commands, "fe", "compute the strength of one bone from an image and a mask", "fe:fe")
    fe.add_argument("image", type=Path, metavar="FOLDER_OR_FILE", help="folder of a CT series; .nii(.gz), .mha, .nrrd")
    fe.add_argument("--mask", type=Path, required=True, help="label map on the image's grid, or DICOM Segmentation")
    fe.add_argument("--label", type=int, help="label of the bone in the map, or number of the segment")
    fe.add_argument("--model", required=True, choices=("ct2s", "sas", "vertebra", "microfe"))
    fe.add_argument("--out", type=Path, required=True, help="new or empty folder for the results")
    fe.add_argument("--overwrite", action="store_true", help="replace the model's earlier results in the folder")
    fe.add_argument("--side", choices=("R", "L"), help="side of a femur")
    fe.add_argument("--level", choices=("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5"), help="level of a vertebra")
    fe.add_argument("--calibration", type=Path, help="JSON file with calibration records (default: the setting's)")
    fe.add_argument("--record", metavar="ID", help="the calibration record to use, where the image names no scanner")
    fe.add_argument(
        "--density-mg-per-cm3",
        choices=("HA", "K2HPO4"),
        help="the image already holds densities, mg/cm3 of hydroxyapatite or K2HPO4",
    )
    fe.add_argument("--element-mm", type=float, metavar="MM", help="edge of the elements (default: the model's own)")
    fe.add_argument("--discretisation", choices=("voxel", "tetra"), help="bricks (default) or tetrahedra; ct2s only")
    fe.add_argument(
        "--sensitivity",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether to repeat it with the mask eroded and dilated by one and two voxels (default: yes; not microfe)",
    )
    fe.add_argument("--tissue-modulus-mpa", type=float, metavar="MPA", help="modulus of all tissue; microfe only")
    fe.add_argument(
        "--threshold-mg-per-cm3", type=float, metavar="RHO", help="density of bone inside the mask; microfe only"
    )
    fe.add_argument("--threads", type=int, metavar="N", help="cores to use (default: all)")
    fe.add_argument("--memory-limit-gb", type=float, default=4.0, metavar="GB", help="refuse larger models (default 4)")
    fe.add_argument(
        "--despite-flags", action="store_true", help="compute where a flag forbids a strength; the result says so"
    )


def add_calibrate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: calibration of a scanner."""
    add = row(
        commands, "calibrate", "make a scanner's calibration record from a scan of a phantom", "calibrate:calibrate"
    )
    add.add_argument("folder", type=Path, help="folder with the CT of the phantom, with or without a patient")
    add.add_argument("--phantom", type=Path, metavar="FILE", help="JSON file of certificates (default: the setting's)")
    add.add_argument("--records", type=Path, metavar="FILE", help="JSON file to add to (default: the setting's)")
    add.add_argument("--valid-days", type=count, default=365, metavar="N", help="days it holds (default 365)")
    add.add_argument("--picture", type=Path, metavar="PNG", help="new file: where the phantom was found, and its line")
    add.add_argument("--dry-run", action="store_true", help="measure and print, write no record")


def add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: evaluation against references."""
    evaluate = commands.add_parser("evaluate", help="how good masks or values are against a reference")
    actions = evaluate.add_subparsers(required=True, metavar="ACTION")
    masks = row(actions, "masks", "compare masks with reference masks of the same names", "evaluate:masks")
    kinds = "label maps (.nii(.gz), .mha, .nrrd) or DICOM Segmentations"
    masks.add_argument("masks", type=Path, metavar="MASKS", help=f"folder (or file) of {kinds}")
    masks.add_argument("references", type=Path, metavar="REFERENCES", help="folder (or file) of the same for reference")
    _add_vocabularies(masks)
    values = row(actions, "values", "compare measured with reference values: densities, loads", "evaluate:values")
    values.add_argument(
        "file", type=Path, metavar="CSV", help="columns case, measured, reference and, if wanted, group"
    )
    values.add_argument(
        "--references", type=Path, metavar="CSV", help="reference values in a second file; both have case, value, group"
    )
    values.add_argument("--quantity", default="value", help="what was measured, for the figures")
    values.add_argument("--unit", default="-", help="unit, for tables and figures")
    values.add_argument("--below", type=float, action="append", metavar="X", help="below is positive; may be repeated")
    values.add_argument("--above", type=float, action="append", metavar="X", help="above is positive; may be repeated")
    for action in (masks, values):
        action.add_argument("--out", type=Path, required=True, help="new or empty folder for tables and figures")
    _add_strength(actions)


def _add_vocabularies(action: argparse.ArgumentParser) -> None:
    """Add: whose label values label maps have."""
    for whose in ("mask", "reference"):
        action.add_argument(
            f"--{whose}-labels",
            choices=("osteonode", "totalsegmentator"),
            default="osteonode",
            help=f"whose label values the label maps of the {whose}s have (default: ours)",
        )


def _add_strength(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: evaluation of masks by the failure loads they give."""
    words = "compare failure loads from automatic masks with those from reference masks of the same names"
    add = row(actions, "strength", words, "evaluate:strength")
    add.add_argument("--images", type=Path, required=True, help="folder (or file) of scans: .nii(.gz), .mha, .nrrd")
    add.add_argument("--masks", type=Path, required=True, help="folder (or file) of automatic masks")
    add.add_argument("--references", type=Path, required=True, help="folder (or file) of reference masks")
    add.add_argument(
        "--model",
        action="append",
        required=True,
        choices=("sas", "vertebra", "ct2s"),
        help="sas and ct2s take femurs, vertebra takes vertebrae; may be repeated",
    )
    add.add_argument("--structures", nargs="+", metavar="KEY", help="bones, for example femur_right L1 (default: all)")
    _add_vocabularies(add)
    add.add_argument("--calibration", type=Path, help="JSON file with calibration records (default: none)")
    add.add_argument("--record", metavar="ID", help="the calibration record to use")
    add.add_argument("--density-mg-per-cm3", choices=("HA", "K2HPO4"), help="the images already hold densities, mg/cm3")
    add.add_argument("--element-mm", type=float, metavar="MM", help="edge of the elements (default: the model's own)")
    add.add_argument("--threads", type=int, metavar="N", help="cores to use (default: all)")
    add.add_argument("--memory-limit-gb", type=float, default=4.0, metavar="GB", help="larger models are refused (4)")
    add.add_argument("--out", type=Path, required=True, help="new or empty folder, or one that this command began")


def add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: training of networks."""
    train = row(commands, "train", "train a network on a site's data, or go on training", "train:train")
    train.add_argument("task", nargs="?", metavar="TASK", help="what to train; without it, the tasks are listed")
    train.add_argument("--data", type=Path, metavar="DIR", help="images with labels, as the task says")
    train.add_argument("--out", type=Path, metavar="DIR", help="folder of the training; the same one goes on with it")
    train.add_argument("--steps", type=count, metavar="N", help="optimiser steps (default: as published)")
    train.add_argument("--seed", type=int, metavar="N", help="of weights and batches (default 0)")
    train.add_argument("--learning-rate", type=float, metavar="X", help="(default: as published)")
    train.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the task; may be repeated"
    )
    train.add_argument("--minutes", type=float, default=float("inf"), metavar="M", help="stop after this time")
    train.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: a GPU if there is one)"
    )
