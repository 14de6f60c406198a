"""The networks: MONAI's U-Nets of five levels, and with them the reference femur that their answers refer to.

[Saillard2024] names U-Nets [Ronneberger2015] and neither levels nor channels; five levels of two convolutions, doubling
channels, are the original's. Instance normalisation, for the batches are small [m] assumption.
"""

import contextlib
import io
from collections.abc import Mapping

import torch
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor, nn

from dicom_node.errors import ConfigurationError
from dicom_node.training.saillard.frame import Array, Frame, frame_from_tensors, normalised

WINDOWS_AT_ONCE = 4
OVERLAP = 0.5
"""Of the windows of the 3D network, as nnU-Net does it [m] assumption."""
AXES = ("axial", "coronal", "sagittal")
"""Slices across array axis 0, 1, 2."""


class FemurNet(nn.Module):
    """U-Net or U-Nets with the frame on which they answer.

    The frame is kept as buffers, so that weights and reference femur cannot be told apart by mistake.
    """

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        for name, tensor in frame.tensors().items():
            self.register_buffer(name, tensor)

    @property
    def frame(self) -> Frame:
        """The reference femur."""
        return frame_from_tensors(self.state_dict())

    def share(self, hu: Array) -> Array:
        """Say of every voxel how much it is femur.

        Parameters
        ----------
        hu : (slice, row, column) array
            Laid on the frame.

        Returns
        -------
        (slice, row, column) float32 array
            0 to 1; femur is from 0.5.
        """
        device = next(self.parameters()).device
        with torch.no_grad():
            answer = self._answer(torch.from_numpy(normalised(hu)).to(device))
        found: Array = answer.float().cpu().numpy()
        return found

    def _answer(self, image: Tensor) -> Tensor:
        raise NotImplementedError


class FemurNet3d(FemurNet):
    """One 3D U-Net, over overlapping patches."""

    def __init__(self, frame: Frame, width: int, patch: int) -> None:
        super().__init__(frame)
        self.unet = _unet(3, width)
        self.patch = patch

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of a batch of patches."""
        logits: Tensor = self.unet(images)
        return logits

    def _answer(self, image: Tensor) -> Tensor:
        logits = sliding_window_inference(
            image[None, None], (self.patch,) * 3, WINDOWS_AT_ONCE, self.unet, OVERLAP, mode="gaussian", cval=-1.0
        )
        assert isinstance(logits, Tensor)
        return torch.sigmoid(logits[0, 0])


class FemurNet2d(FemurNet):
    """Three 2D U-Nets, one for each axis, and their vote."""

    def __init__(self, frame: Frame, width: int) -> None:
        super().__init__(frame)
        self.unets = nn.ModuleList([_unet(2, width) for _ in AXES])

    def forward(self, images: Tensor, axis: int) -> Tensor:
        """Return logits of a batch of slices across an axis."""
        logits: Tensor = self.unets[axis](images)
        return logits

    def _answer(self, image: Tensor) -> Tensor:
        """Take the middle one of three answers: it is over a half where two of three networks say femur.

        Three networks with two answers never tie.
        """
        votes = []
        for axis in range(len(AXES)):
            slices = image.movedim(axis, 0)[:, None]
            answers = [torch.sigmoid(self(part, axis))[:, 0] for part in slices.split(WINDOWS_AT_ONCE)]
            votes.append(torch.cat(answers).movedim(0, axis))
        return torch.stack(votes).median(dim=0).values


def network_from(weights: Mapping[str, Tensor], task: str, width: int, patch: int) -> FemurNet:
    """Build a trained network.

    Parameters
    ----------
    weights
        State of the network.
    task
        ``femur-3d`` or ``femur-2d``.
    width, patch
        Of its configuration.

    Raises
    ------
    ConfigurationError
        When the weights are not of this network.
    """
    try:
        frame = frame_from_tensors(weights)
        network = FemurNet3d(frame, width, patch) if task == "femur-3d" else FemurNet2d(frame, width)
        network.load_state_dict(dict(weights))
    except (KeyError, RuntimeError, ValueError):
        raise ConfigurationError(f"The model does not hold the weights of {task}.") from None
    return network


def _unet(dimensions: int, width: int) -> nn.Module:
    with contextlib.redirect_stdout(io.StringIO()):  # MONAI prints its features
        return BasicUNet(
            spatial_dims=dimensions,
            in_channels=1,
            out_channels=1,
            features=(width, 2 * width, 4 * width, 8 * width, 16 * width, width),
        )
