"""Packages that only some segmenters need: imported when they are, with a sentence where they are missing."""

import importlib
import importlib.util
from types import ModuleType

from dicom_node.errors import SegmenterNotReady

NOT_INSTALLED = "not installed"


def require(package: str, extra: str) -> None:
    """Make sure that a package is there, without importing it.

    Raises
    ------
    SegmenterNotReady
        Naming the extra that brings it.
    """
    if importlib.util.find_spec(package) is None:
        raise SegmenterNotReady(
            f"The package {package} is not installed; pip install 'osteonode[{extra}]' brings it.", NOT_INSTALLED
        )


def imported(module: str, extra: str) -> ModuleType:
    """Import a module of an optional package.

    Raises
    ------
    SegmenterNotReady
        When the package is missing, or cannot be imported as it is installed.
    """
    require(module.partition(".")[0], extra)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SegmenterNotReady(
            f"The package {module.partition('.')[0]} is installed but cannot be imported ({type(error).__name__} in "
            f"{error.name or module}); pip install --force-reinstall 'osteonode[{extra}]' may mend it.",
            NOT_INSTALLED,
        ) from None
