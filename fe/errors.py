"""Everything that can go wrong in ``fe``, as one tree.

    FeError
        BadInput
            BadMask          shape, type or content of a mask cannot be used
                EmptyMask        no voxel, or no element after resampling
            BadDensity       density is not finite or not a density
            BadSpacing       spacing or element size is not a positive length
        LandmarkNotFound     the mask shows no such anatomy
            HeadNotFound     no femoral head
            TrochanterNotFound   no greater trochanter to lie on
        ModelTooLarge        the model would exceed the memory limit
        NotConverged         the linear solver stopped before its tolerance
        UnsupportedModel     nothing holds the model, or nothing loads it

None of these is cured by trying again with the same input.
"""


class FeError(Exception):
    """Any failure of the finite-element engine."""


class BadInput(FeError):  # noqa: N818 - named after what was found
    """An argument cannot describe a bone."""


class BadMask(BadInput):
    """The mask has a wrong shape or type."""


class EmptyMask(BadMask):
    """The mask holds no bone at the element size asked for."""


class BadDensity(BadInput):
    """The density holds NaN, infinity, or values no bone has."""


class BadSpacing(BadInput):
    """A spacing or element size is not a finite positive length."""


class LandmarkNotFound(FeError):  # noqa: N818 - named after what was found
    """The mask does not show a landmark that the model needs."""


class HeadNotFound(LandmarkNotFound):
    """No femoral head can be seen in the mask."""


class TrochanterNotFound(LandmarkNotFound):
    """No greater trochanter can be seen in the mask, so a sideways fall has nothing to land on."""


class ModelTooLarge(FeError):  # noqa: N818 - named after what was found
    """The model would need more memory than allowed.

    Attributes
    ----------
    elements
        Number of elements of the model.
    needed_bytes, limit_bytes
        Estimated need and the limit.
    """

    def __init__(self, elements: int, needed_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"A model of {elements} elements needs about {needed_bytes / 2**20:.0f} MiB, more than the limit of "
            f"{limit_bytes / 2**20:.0f} MiB: use larger elements or raise the limit."
        )
        self.elements = elements
        self.needed_bytes = needed_bytes
        self.limit_bytes = limit_bytes


class NotConverged(FeError):  # noqa: N818 - named after what was found
    """The linear solver did not reach its tolerance.

    Attributes
    ----------
    iterations
        Iterations done.
    residual
        Norm of the residual over the norm of the load when it stopped.
    tolerance
        What was asked for.
    """

    def __init__(self, iterations: int, residual: float, tolerance: float) -> None:
        super().__init__(
            f"The solver stopped after {iterations} iterations at a relative residual of {residual:.2e}; "
            f"{tolerance:.1e} was asked for."
        )
        self.iterations = iterations
        self.residual = residual
        self.tolerance = tolerance


class UnsupportedModel(FeError):  # noqa: N818 - named after what was found
    """The boundary conditions leave nothing to solve: no support, or no load."""
