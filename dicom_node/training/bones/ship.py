"""Put a trained bone network into the package: ``python -m dicom_node.training.bones.ship RUN``.

Weights are shipped in half precision (the network computes in it), the model card goes to docs/.
"""

import io
import json
import sys
from pathlib import Path

import torch

from dicom_node.errors import ConfigurationError
from dicom_node.storage.files import write_durably
from dicom_node.training.loop import FORMAT, read_model
from inference.networks.segmenter import WEIGHTS

ROOT = Path(__file__).parents[3]


def ship(run: Path, root: Path = ROOT) -> Path:
    """Write the weights of a finished training beside the network's code.

    Parameters
    ----------
    run
        Folder of ``osteonode train bones``.
    root
        Of the source tree.

    Returns
    -------
    Path
        Of the weights.

    Raises
    ------
    ConfigurationError
        When the folder holds no finished training, or one that left a scan out to be judged on it.
    """
    weights, about = read_model(run / "model.pt")
    if about["plan"]["settings"].get("leave_out"):
        raise ConfigurationError("This training left a scan out, for its figures; what is shipped learns from all.")
    small = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    content = io.BytesIO()
    torch.save({"format": FORMAT, "weights": small, "about": json.dumps(about)}, content)
    path = root / "inference" / "networks" / WEIGHTS
    write_durably(path, [content.getvalue()])
    write_durably(root / "docs" / "model-card-bones.md", [(run / "model_card.md").read_bytes()])
    return path


if __name__ == "__main__":
    ship(Path(sys.argv[1]))
