"""Code sequence items (PS3.3 8.8) and the declaration of the private scheme (PS3.3 C.12.1.1.1)."""

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from sr_export.codes import SCHEME, SCHEME_NAME, SCHEME_VERSION
from sr_export.text import long_string


def code_item(code: Code) -> Dataset:
    """Return a code as an item of a code sequence."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def scheme_item(manufacturer: str) -> Dataset:
    """Return the item of the Coding Scheme Identification Sequence that says whose the private codes are."""
    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeName = SCHEME_NAME
    item.CodingSchemeVersion = SCHEME_VERSION
    item.CodingSchemeResponsibleOrganization = long_string(manufacturer)
    return item
