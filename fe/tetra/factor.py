"""Direct solution of symmetric sparse systems: PARDISO where it is installed, SciPy's SuperLU otherwise.

Both give the same answer; PARDISO (Intel MKL, proprietary but free to redistribute; ``pip install 'osteonode[fe]'``)
needs a sixth of the memory and a tenth of the time at 26 000 equations [measured]. Why: docs/adr/0004.
"""

import weakref
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from fe.errors import FactorisationFailed
from fe.tetra.pardiso import Pardiso, library

Doubles = NDArray[np.float64]
FactorName = Literal["PARDISO", "SuperLU"]


class Factor:
    """A factorised matrix. Its memory is given back by ``release``, at the end of a ``with``, or with the object.

    Attributes
    ----------
    name
        The program that factorised.
    size
        Rows of the matrix.
    stored_bytes
        Memory of the factor.
    """

    __slots__ = ("__weakref__", "_finalizer", "_solve", "name", "size", "stored_bytes")

    def __init__(
        self,
        name: FactorName,
        size: int,
        stored_bytes: int,
        solve: Callable[[Doubles], Doubles],
        release: Callable[[], None],
    ) -> None:
        self.name = name
        self.size = size
        self.stored_bytes = stored_bytes
        self._solve: Callable[[Doubles], Doubles] | None = solve
        self._finalizer = weakref.finalize(self, release)

    def solve(self, rhs: Doubles) -> Doubles:
        """Return the solution of A x = rhs.

        Parameters
        ----------
        rhs : (n,) or (n, k) array
            Right-hand sides in columns.

        Returns
        -------
        array of the same shape

        Raises
        ------
        ValueError
            The shape does not fit, or the factor has been released.
        """
        if self._solve is None:
            raise ValueError("This factor has been released.")
        if rhs.shape[0] != self.size or rhs.ndim > 2:
            raise ValueError(f"A right-hand side of shape {rhs.shape} does not fit {self.size} equations.")
        return self._solve(np.asfortranarray(rhs, dtype=np.float64)) if rhs.size else np.zeros(rhs.shape)

    def release(self) -> None:
        """Give the memory of the factor back; it cannot solve any more."""
        self._solve = None
        self._finalizer()

    def __enter__(self) -> "Factor":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def factorise(
    upper: sparse.csr_array,
    *,
    threads: int | None = None,
    backend: FactorName | None = None,
) -> Factor:
    """Factorise a symmetric positive definite matrix.

    Parameters
    ----------
    upper : (n, n) sparse array
        Upper triangle with the whole diagonal, CSR.
    threads
        Threads of PARDISO; MKL's own choice (one per core) when left out. SuperLU has one.
    backend
        ``PARDISO`` or ``SuperLU``; the first that is installed when left out.

    Raises
    ------
    FactorisationFailed
        The matrix is singular, not positive definite, or too large for the memory; or the backend is not installed.
    """
    upper = sparse.csr_array(upper)
    upper.sort_indices()
    _check(upper)
    if backend == "SuperLU" or (backend is None and not has_pardiso()):
        return _superlu(upper)
    return _pardiso(upper, threads)


def has_pardiso() -> bool:
    """Return whether PARDISO can be used."""
    return library() is not None


def _check(upper: sparse.csr_array) -> None:
    if upper.shape[0] != upper.shape[1] or upper.shape[0] == 0:
        raise FactorisationFailed(f"A matrix of shape {upper.shape} cannot be factorised.")
    rows = np.flatnonzero(np.diff(upper.indptr))
    has_diagonal = len(rows) == upper.shape[0] and np.array_equal(upper.indices[upper.indptr[:-1]], rows)
    if not has_diagonal:
        raise FactorisationFailed(
            "The upper triangle with its whole diagonal is expected; an entry is missing or below."
        )
    if not np.isfinite(upper.data).all():
        raise FactorisationFailed("The matrix holds values that are not finite.")


def _pardiso(upper: sparse.csr_array, threads: int | None) -> Factor:
    if not has_pardiso():
        raise FactorisationFailed("PARDISO is not installed: pip install 'osteonode[fe]'.")
    solver = Pardiso(upper, threads)
    return Factor("PARDISO", upper.shape[0], solver.stored_bytes, solver.solve, solver.release)


def _superlu(upper: sparse.csr_array) -> Factor:
    """Factorise the whole matrix; a definite one needs no pivoting."""
    whole = sparse.csc_matrix(upper + sparse.triu(upper, 1).T)
    try:
        factor = splu(
            whole,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
    except RuntimeError as error:
        raise FactorisationFailed(f"SuperLU cannot factorise {upper.shape[0]} equations: {error}.") from error
    except MemoryError as error:
        raise FactorisationFailed(
            f"SuperLU has not enough memory for {upper.shape[0]} equations; PARDISO needs half: "
            "pip install 'osteonode[fe]'."
        ) from error
    return Factor("SuperLU", upper.shape[0], 12 * int(factor.nnz), factor.solve, lambda: None)
