"""De-identification by rules: DICOM dataset in, clean dataset and report out.

Pure: no files, clock or randomness of its own. DICOM PS3.15 Annex E.
"""

from deid_rules.describe import describe
from deid_rules.engine import deidentify
from deid_rules.errors import DeidError, RecipeError, RefusedDataset
from deid_rules.pixels import GateVerdict, gate
from deid_rules.profile import Option, Profile
from deid_rules.pseudonyms import is_valid, pseudonym_from_bytes
from deid_rules.recipe import default_recipe, parse_recipe
from deid_rules.report import DeidReport, Subject, UidPair
from deid_rules.residual import KnownIdentifiers, find_residual, identifiers_of
from deid_rules.site import SiteRules
from deid_rules.uids import UidMapper
from deid_rules.whatif import PlannedAction, what_would_happen

__all__ = [
    "DeidError",
    "DeidReport",
    "GateVerdict",
    "KnownIdentifiers",
    "Option",
    "PlannedAction",
    "Profile",
    "RecipeError",
    "RefusedDataset",
    "SiteRules",
    "Subject",
    "UidMapper",
    "UidPair",
    "default_recipe",
    "deidentify",
    "describe",
    "find_residual",
    "gate",
    "identifiers_of",
    "is_valid",
    "parse_recipe",
    "pseudonym_from_bytes",
    "what_would_happen",
]
