"""Everything that can go wrong in ``fe``, as one tree.

    FeError
        BadInput
            BadMask          shape, type or content of a mask cannot be used
                EmptyMask        no voxel, or no element after resampling
                TooThin          thinner than the elements, or than the voxels can show
            BadDensity       density is not finite or not a density
            BadSpacing       spacing or element size is not a positive length
            OutsideVolume    a mesh reaches out of its scan, or lies beside its mask
            BadMaterial      a label has no material
            BadLoad          a load or limit is zero, not finite, or out of range
            NotSpanning      no connected piece of bone reaches from one end face to the other
            BadModulus       a Young's modulus is not a finite positive number
        LandmarkNotFound     the mask shows no such anatomy
            HeadNotFound     no femoral head
            TrochanterNotFound   no greater trochanter to lie on
            EndplatesNotFound    no two endplates of one vertebral body
        ModelTooLarge        the model would exceed the memory limit
        NotConverged         the linear solver stopped before its tolerance
            NotInBalance         the forces of a solution do not add up to nothing
        NoFailure            the load still rose at the end of the loading
        UnsupportedModel     nothing holds the model, or nothing loads it
        BadMesh              wrong node order, flat or inverted elements, or not closed
        MissingTool          an optional library is not installed
        FactorisationFailed  a direct solver could not factorise the stiffness
        ContactNotFound      no set of contact points keeps the body in balance

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


class BadMesh(FeError):  # noqa: N818 - named after what was found
    """A mesh cannot carry a model: wrong node order, flat or inverted elements, or not closed."""


class MissingTool(FeError):  # noqa: N818 - named after what was found
    """An optional program library that the model needs is not installed; the message says how to install it."""


class FactorisationFailed(FeError):  # noqa: N818 - named after what was found
    """A direct solver could not factorise the stiffness: singular, not finite, or too large for the memory."""


class BadModulus(BadInput):
    """A Young's modulus is not a finite positive number."""


class BadMaterial(BadInput):
    """A label has no material."""


class BadLoad(BadInput):
    """A load, strain or failure limit is zero, not finite, or outside of its range."""


class NotSpanning(BadInput):
    """No connected piece of bone reaches from one end face of the specimen to the other, so it carries no load."""


class NoFailure(FeError):  # noqa: N818 - named after what was found
    """The load still rose at the end of the loading: the model did not fail, so there is no strength."""


class EndplatesNotFound(LandmarkNotFound):
    """The mask does not show the two endplates of one vertebral body."""


class TooThin(BadMask):
    """The bone is thinner than the elements asked for, or than the voxels can show."""


class ContactNotFound(FeError):  # noqa: N818 - named after what was found
    """No set of contact points keeps the body in balance on the ground."""


class OutsideVolume(BadInput):
    """A mesh reaches out of the scan that its moduli come from, or lies beside the bone's mask."""


class NotInBalance(NotConverged):
    """The forces of a solution do not add up to nothing; ``residual`` is the norm of their sum over the load."""

    def __init__(self, balance: float, limit: float) -> None:
        FeError.__init__(
            self,
            f"The forces of the solution add up to {balance:.1e} of the load instead of nothing; {limit:.1e} is "
            "allowed.",
        )
        self.iterations = 0
        self.residual = balance
        self.tolerance = limit
