"""The table of everything that can be trained. A row is imported when asked for: some need the extra ``training``."""

from importlib import import_module

from dicom_node.errors import ConfigurationError
from dicom_node.training.task import Task

TASKS: dict[str, tuple[str, str]] = {
    "bones": ("dicom_node.training.bones.task", "the network that finds bones, from public scans and made-up scenes"),
    "femur-2d": ("dicom_node.training.saillard.task_2d", "femur by three 2D U-Nets and a majority vote [Saillard2024]"),
    "femur-3d": ("dicom_node.training.saillard.task_3d", "femur by a 3D U-Net [Saillard2024]"),
    "vertebra-localisation": ("dicom_node.training.niu.localisation", "T12 to L2 on a coronal projection [Niu2023]"),
    "vertebra-core": ("dicom_node.training.niu.core", "cancellous bone of T12 to L2 by AnatomyNet [Niu2023]"),
    "vertebra-density": ("dicom_node.training.niu.density", "density by a 3D DenseNet-121 [Niu2023]"),
}
"""Name: module with ``TASK``, and help."""


def load_task(name: str) -> Task:
    """Return a task.

    Raises
    ------
    ConfigurationError
        When there is no such task, or the packages it needs are not installed.
    """
    if name not in TASKS:
        raise ConfigurationError(f"There is no task {name}; known are {', '.join(TASKS)}.")
    try:
        task: Task = import_module(TASKS[name][0]).TASK
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "monai":
            raise
        raise ConfigurationError("Training needs MONAI: pip install 'osteonode[training]'.") from None
    return task
