"""PARDISO, the sparse direct solver of Intel's MKL, called through ctypes.

The extra ``fe`` brings the library (package ``mkl``, proprietary but free to use and redistribute). Only what
symmetric positive definite matrices need is here. Iterative refinement is off: it triples the time of a solution and
gains nothing where residuals of 1e-12 are checked anyway (``fe.tetra.model``).
"""

import ctypes
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fe.errors import FactorisationFailed

Doubles = NDArray[np.float64]

DEFINITE = 2
"""Matrix type: real, symmetric, positive definite (MKL reference, parameter mtype)."""

ANALYSE_AND_FACTORISE, SOLVE, RELEASE = 12, 33, -1
"""Phases (MKL reference, parameter phase)."""

SETTINGS = {1: 1, 2: 2, 8: 0, 18: -1, 24: 1, 35: 1}
"""Places (from 1) of MKL's iparm: own values; nested dissection; no refinement; report the factor's entries; two-level
factorisation (a fifth less work with two threads [measured]); indices from 0. The others are 0, the default."""

FACTOR_ENTRIES = 18
"""Place (from 1) where the number of entries of the factor is reported."""

REASONS = {
    -2: "there is not enough memory",
    -4: "the matrix is singular or not positive definite: a part of the model can move freely",
    -8: "the factor has more entries than 32-bit numbers count",
}
"""Values of the parameter error that a model can cause (MKL reference)."""


@cache
def library() -> Any:
    """Return MKL, or None where it is not installed."""
    try:
        paths = [path for path in files("mkl") or [] if "mkl_rt" in path.name and ".lib" not in path.name]
        return ctypes.CDLL(str(paths[0].locate())) if paths else None
    except (PackageNotFoundError, OSError):
        return None


class Pardiso:
    """A factorised matrix inside MKL.

    Attributes
    ----------
    stored_bytes
        Memory of the factor.
    """

    __slots__ = (
        "_first",
        "_handle",
        "_indices",
        "_library",
        "_settings",
        "_threads",
        "_values",
        "stored_bytes",
    )

    def __init__(self, upper: sparse.csr_array, threads: int | None) -> None:
        """Factorise; parameters as in ``fe.tetra.factor.factorise``.

        Raises
        ------
        FactorisationFailed
            The matrix is singular, not positive definite, or too large.
        """
        self._library = library()
        self._threads = 0 if threads is None else threads
        self._handle = np.zeros(64, dtype=np.int64)
        self._settings = np.zeros(64, dtype=np.int32)
        for place, value in SETTINGS.items():
            self._settings[place - 1] = value
        self._values = np.ascontiguousarray(upper.data, dtype=np.float64)
        self._first = np.ascontiguousarray(upper.indptr, dtype=np.int32)
        self._indices = np.ascontiguousarray(upper.indices, dtype=np.int32)
        nothing = np.zeros(1)
        self._call(ANALYSE_AND_FACTORISE, 1, nothing, nothing)
        self.stored_bytes = 8 * int(self._settings[FACTOR_ENTRIES - 1])

    def solve(self, rhs: Doubles) -> Doubles:
        """Return the solution for right-hand sides (n,) or (n, k) in Fortran order."""
        out = np.empty_like(rhs, order="F")
        self._call(SOLVE, 1 if rhs.ndim == 1 else rhs.shape[1], rhs, out)
        return out

    def release(self) -> None:
        """Give the memory back."""
        nothing = np.zeros(1)
        self._call(RELEASE, 1, nothing, nothing)

    def _call(self, phase: int, columns: int, rhs: Doubles, out: Doubles) -> None:
        error = ctypes.c_int32(0)
        size = len(self._first) - 1
        before = self._library.MKL_Set_Num_Threads_Local(self._threads)
        try:
            self._library.pardiso(
                _at(self._handle), _int(1), _int(1), _int(DEFINITE), _int(phase), _int(size),
                _at(self._values), _at(self._first), _at(self._indices), None, _int(columns),
                _at(self._settings), _int(0), _at(rhs), _at(out), ctypes.byref(error),
            )  # fmt: skip
        finally:
            self._library.MKL_Set_Num_Threads_Local(before)
        if error.value:
            reason = REASONS.get(error.value, f"error {error.value}, see the MKL reference")
            raise FactorisationFailed(f"PARDISO cannot factorise {size} equations: {reason}.")


def _int(value: int) -> Any:
    return ctypes.byref(ctypes.c_int32(value))


def _at(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
