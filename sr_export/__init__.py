"""Result objects: plain values and source headers in, DICOM SR, SEG, SC and PDF out. Pure."""

from sr_export.build import ResultSet, build_results
from sr_export.check import check_results

__all__ = ["ResultSet", "build_results", "check_results"]
