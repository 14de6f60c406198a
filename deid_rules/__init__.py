"""De-identification by rules: DICOM dataset in, clean dataset and report out.

Pure: no files, clock or randomness of its own. DICOM PS3.15 Annex E.
"""

from deid_rules.describe import describe
from deid_rules.engine import deidentify
from deid_rules.errors import DeidError, RefusedDataset
from deid_rules.pixels import GateVerdict, gate
from deid_rules.profile import Option, Profile
from deid_rules.pseudonyms import is_valid, pseudonym_from_bytes
from deid_rules.report import DeidReport, Subject, UidPair
from deid_rules.residual import KnownIdentifiers, find_residual, identifiers_of
from deid_rules.uids import UidMapper

__all__ = [
    "DeidError",
    "DeidReport",
    "GateVerdict",
    "KnownIdentifiers",
    "Option",
    "Profile",
    "RefusedDataset",
    "Subject",
    "UidMapper",
    "UidPair",
    "deidentify",
    "describe",
    "find_residual",
    "gate",
    "identifiers_of",
    "is_valid",
    "pseudonym_from_bytes",
]
