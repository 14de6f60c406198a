"""Result objects: plain values and source headers in, DICOM SR, SEG, SC and PDF out. Pure.

The public names are loaded when they are first used: the values of ``sr_export.inputs`` are shared with
processes that never build an object and need neither highdicom nor matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sr_export.build import ResultSet, build_results
    from sr_export.check import check_results

__all__ = ["ResultSet", "build_results", "check_results"]

_HOMES = {
    "ResultSet": "sr_export.build",
    "build_results": "sr_export.build",
    "check_results": "sr_export.check",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sr_export' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
