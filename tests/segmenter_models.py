"""Small real networks made on the spot: nnU-Net folders and MONAI bundles whose weights do something known.

Every network labels bands of CT numbers. ``shift`` moves what it sees by one voxel along each axis of its own array, so
that a volume given to it the wrong way round ends up labelled in the wrong place.
"""

import importlib.util
import json
import zipfile
from collections.abc import Mapping
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.labels import BY_KEY
from inference.volume import Volume

needs_nnunet = pytest.mark.skipif(
    importlib.util.find_spec("nnunetv2") is None, reason="the extra osteonode[nnunet] is not installed"
)
needs_monai = pytest.mark.skipif(
    importlib.util.find_spec("monai") is None, reason="the extra osteonode[monai] is not installed"
)
SCALE_HU = 100.0
NEVER = -1000.0
"""Logit of a class without a band."""
SHAPE, SPACING_MM, ORIGIN_MM = (14, 18, 22), (3.0, 2.0, 1.5), (-20.0, -10.0, 100.0)
"""Of the phantom: no two axes alike. Axes run to head, back and left."""
SOFT_HU = -50.0
BOXES: Mapping[str, tuple[float, tuple[slice, slice, slice]]] = {
    "femur_right": (300.0, (slice(2, 6), slice(3, 7), slice(2, 6))),
    "femur_left": (600.0, (slice(3, 7), slice(4, 9), slice(14, 19))),
    "L1": (900.0, (slice(9, 12), slice(10, 15), slice(8, 13))),
}
"""Bones of the phantom: HU, and where."""
NAMES = {"background": 0, "femur_right": 1, "femur_left": 2, "L1_body": 3, "liver": 4}
BANDS_HU = {0: -1e4, 1: 150.0, 2: 450.0, 3: 750.0}
"""Label value to the HU at which its band begins."""


def phantom() -> tuple[Volume, NDArray[np.uint8]]:
    """Three boxes of different HU in soft tissue, with their true labels."""
    hu = np.full(SHAPE, SOFT_HU, dtype=np.float32)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for key, (value_hu, box) in BOXES.items():
        hu[box], labels[box] = value_hu, BY_KEY[key].value
    affine = np.zeros((4, 4))
    affine[:3, :3] = np.diag(SPACING_MM)[::-1]
    affine[:3, 3], affine[3, 3] = ORIGIN_MM, 1
    return Volume(hu, affine), labels


ORIENTATIONS = tuple(product(permutations(range(3)), product((False, True), repeat=3)))
"""Every axis order and flip: 48."""


def reordered(
    volume: Volume, labels: NDArray[np.uint8], axes: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[Volume, NDArray[np.uint8]]:
    """The same volume and labels, in the same place, with array axes permuted and flipped."""
    step = volume.affine_lps[:3, :3][:, list(axes)].copy()
    origin = volume.affine_lps[:3, 3].copy()
    shape = [volume.hu.shape[axis] for axis in axes]
    for axis, flip in enumerate(flips):
        if flip:
            origin += step[:, axis] * (shape[axis] - 1)
            step[:, axis] *= -1
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = step, origin
    cut = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    turn = [np.ascontiguousarray(array.transpose(axes)[cut]) for array in (volume.hu, labels)]
    return Volume(turn[0], affine), turn[1]


def middle_lps_mm(volume: Volume, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Centre of a mask in the patient."""
    return volume.affine_lps[:3, :3] @ np.argwhere(mask).mean(axis=0) + volume.affine_lps[:3, 3]


def lines(bands_hu: Mapping[int, float], classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Slope and intercept of every class's logit over HU / 100, so that the largest is that of the band."""
    slope, intercept = np.zeros(classes, dtype=np.float32), np.full(classes, NEVER, dtype=np.float32)
    total = 0.0
    for number, (value, start_hu) in enumerate(sorted(bands_hu.items(), key=lambda item: item[1])):
        total += start_hu / SCALE_HU if number else 0.0
        slope[value], intercept[value] = number, -total
    return slope, intercept


def nnunet_plans(spacing_mm: tuple[float, ...] = SPACING_MM, **changes: Any) -> dict[str, Any]:
    """Plans of a small 3d_fullres network of nnU-Net's own class, without norms."""
    stages = {"n_stages": 2, "features_per_stage": [2, 2], "kernel_sizes": [[3, 3, 3]] * 2}
    resample = {
        f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")
    } | {
        f"resampling_fn_{what}_kwargs": {
            "is_seg": what == "seg",
            "order": order,
            "order_z": 0,
            "force_separate_z": None,
        }
        for what, order in (("data", 3), ("seg", 1), ("probabilities", 1))
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8, 8, 8],
        "median_image_size_in_voxels": [14, 18, 22],
        "spacing": list(spacing_mm),
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        **resample,
        "batch_dice": False,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                **stages,
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "strides": [[1, 1, 1], [2, 2, 2]],
                "n_conv_per_stage": [1, 1],
                "n_conv_per_stage_decoder": [1],
                "conv_bias": True,
                "norm_op": None,
                "norm_op_kwargs": {},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    properties = {"mean": 0.0, "std": SCALE_HU, "percentile_00_5": -1024.0, "percentile_99_5": 3000.0}
    plans = {
        "dataset_name": "Dataset900_Boxes",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIOWithReorient",
        "foreground_intensity_properties_per_channel": {"0": properties},
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": configuration},
    }
    return plans | changes


def nnunet_weights(
    plans: dict[str, Any], classes: int, bands_hu: Mapping[int, float], shift: tuple[int, int, int]
) -> dict[str, Any]:
    """State of the plan's network with weights that label bands, ``shift`` voxels away along its array's axes."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    made = plans["configurations"]["3d_fullres"]["architecture"]
    network = get_network_from_plans(
        made["network_class_name"], made["arch_kwargs"], made["_kw_requires_import"], 1, classes, deep_supervision=False
    )
    slope, intercept = lines(bands_hu, classes)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.zero_()
        first = network.encoder.stages[0][0].convs[0].conv
        at = tuple(1 + one for one in shift)
        first.weight[(0, 0, *at)], first.weight[(1, 0, *at)] = 1.0, -1.0
        joined = network.decoder.stages[0].convs[0].conv  # its channels: two from below, then the two above
        joined.weight[0, 2, 1, 1, 1], joined.weight[1, 3, 1, 1, 1] = 1.0, 1.0
        last = network.decoder.seg_layers[-1]
        # a leaky unit on x and one on -x, twice over: their difference is x (1 + 0.01 ** 2)
        scale = 1 / (1 + 0.01**2)
        last.weight[:, 0, 0, 0, 0], last.weight[:, 1, 0, 0, 0] = (
            torch.from_numpy(slope) * scale,
            -torch.from_numpy(slope) * scale,
        )
        last.bias[:] = torch.from_numpy(intercept)
    return dict(network.state_dict())


def make_nnunet(
    folder: Path,
    *,
    names: Mapping[str, Any] = NAMES,
    bands_hu: Mapping[int, float] = BANDS_HU,
    shift: tuple[int, int, int] = (0, 0, 0),
    plans: dict[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    folds: tuple[int | str, ...] = (0,),
    card: Mapping[str, Any] | None = None,
    mirroring: tuple[int, ...] | None = None,
) -> Path:
    """Write a folder as nnU-Net leaves it, with checkpoints of the same keys as its trainer's."""
    import torch

    plans = nnunet_plans() if plans is None else plans
    folder.mkdir(parents=True)
    described = {"channel_names": {"0": "CT"}, "labels": dict(names), "file_ending": ".nii.gz"} | dict(dataset or {})
    (folder / "dataset.json").write_text(json.dumps(described))
    (folder / "plans.json").write_text(json.dumps(plans))
    if card is not None:
        (folder / "osteonode.json").write_text(json.dumps(card))
    for fold in folds:
        checkpoint = {
            "network_weights": nnunet_weights(plans, len(names), bands_hu, shift),
            "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float32(0.5), np.float64(0.7)]},
            "_best_ema": np.float64(0.7),
            "current_epoch": 2,
            "init_args": {
                "plans": plans,
                "configuration": "3d_fullres",
                "fold": fold,
                "dataset_json": described,
                "device": torch.device("cpu"),
            },
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": mirroring,
        }
        (folder / f"fold_{fold}").mkdir()
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


BUNDLE: dict[str, Any] = {
    "imports": ["$import glob", "$import os"],
    "bundle_root": ".",
    "image": "$monai.utils.CommonKeys.IMAGE",
    "datalist": "$list(sorted(glob.glob(@bundle_root + '/*.nii.gz')))",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "fine": True,
    "classes": 5,
    "network_def": {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": "@classes",
        "channels": [5, 5],
        "strides": [1],
        "num_res_units": 0,
        "norm": None,
        "act": None,
    },
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {
                "_target_": "Spacingd",
                "keys": "image",
                "pixdim": "$[1.5, 2.0, 3.0] if @fine else [3.0, 3.0, 3.0]",
                "mode": "bilinear",
            },
            {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 100, "b_min": 0, "b_max": 1},
            {"_target_": "EnsureTyped", "keys": "image", "device": "@device", "dtype": "$torch.float32"},
        ],
    },
    "inferer": {
        "_target_": "SlidingWindowInferer",
        "roi_size": [24, 24, 24],
        "sw_batch_size": 1,
        "overlap": 0.25,
        "progress": True,
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "./out"},
        ],
    },
    "evaluator": {"_target_": "SupervisedEvaluator", "device": "@device"},
}
"""As bundles of the model zoo are written, with what only their own programs need."""


def make_bundle(
    folder: Path,
    *,
    changes: Mapping[str, Any] | None = None,
    names: Mapping[str, int] = NAMES,
    bands_hu: Mapping[int, float] = BANDS_HU,
    shift: tuple[int, int, int] = (0, 0, 0),
    card: Mapping[str, Any] | None = None,
    as_zip: bool = False,
) -> Path:
    """Write a MONAI bundle; ``changes`` replace sections of its configuration, None removes one."""
    import torch
    from monai.networks.nets import UNet

    config = {key: one for key, one in (BUNDLE | dict(changes or {})).items() if one is not None}
    network = UNet(3, 1, 5, channels=(5, 5), strides=(1,), num_res_units=0, norm=None, act=None)
    slope, intercept = lines(bands_hu, 5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        down, up = _convolutions(network)
        at = tuple(1 + one for one in shift)
        down.weight[(0, 0, *at)] = 1.0
        # the last layer joins what is above (its first five channels) with what is below, by a transposed convolution
        up.weight[0, :, 1, 1, 1] = torch.from_numpy(slope)
        up.bias[:] = torch.from_numpy(intercept)
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    channels = {str(value): name for name, value in names.items()}
    metadata = {
        "version": "0.1.0",
        "name": "Boxes",
        "network_data_format": {"outputs": {"pred": {"channel_def": channels}}},
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    if card is not None:
        (folder / "osteonode.json").write_text(json.dumps(card))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return _zipped(folder) if as_zip else folder


def _convolutions(network: Any) -> tuple[Any, Any]:
    """First and last layer of MONAI's UNet of two levels."""
    import torch

    layers = [one for one in network.modules() if isinstance(one, (torch.nn.Conv3d, torch.nn.ConvTranspose3d))]
    return layers[0], layers[-1]


def _zipped(folder: Path) -> Path:
    archive = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(archive, "w") as made:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                made.write(path, f"inner/{path.relative_to(folder)}")
    folder.rename(folder.with_name("unpacked"))
    return archive
