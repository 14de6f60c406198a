"""PyVista and VTK, loaded when they are needed: importing them takes a second, and they are an extra."""

import importlib.util
from typing import Any

from dicom_node.errors import ConfigurationError

INSTALL = "pip install 'osteonode[fe]'"


def has_graphics() -> bool:
    """Whether the extra ``fe`` is installed."""
    return importlib.util.find_spec("pyvista") is not None


def pyvista() -> Any:
    """Return the module ``pyvista``, set up to draw off screen and to keep quiet.

    Raises
    ------
    ConfigurationError
        When the extra is not installed.
    """
    if not has_graphics():
        raise ConfigurationError(f"Meshes and pictures need PyVista; install it with: {INSTALL}")
    import pyvista as pv
    import vtk

    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)  # a machine without a screen is no news
    vtk.vtkObject.GlobalWarningDisplayOff()
    pv.OFF_SCREEN = True
    return pv
