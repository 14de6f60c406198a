"""The preview says what the engine does, and nothing of what is in the file."""

from collections import Counter

import pytest
from pydicom.dataset import Dataset

from deid_rules import errors
from deid_rules.engine import deidentify
from deid_rules.profile import Option, Profile
from deid_rules.recipe import parse_recipe
from deid_rules.whatif import what_would_happen

RECIPE = "FORMAT dicom\n%header\nREMOVE PatientWeight\nADD ImageComments ours\nBLANK contains:Kernel\n"


def _rich_ct(make_ct):
    inner = Dataset()
    inner.PatientName, inner.ReferencedSOPInstanceUID = "Vandermolen^Zephyrine", "1.2.3"
    ds = make_ct(ReferencedImageSequence=[inner, inner])
    ds.private_block(0x0019, "MAKER A", create=True).add_new(0x01, "LO", "Vandermolen")
    ds.private_block(0x0021, "MAKER B", create=True).add_new(0x01, "LO", "Vandermolen")
    ds.add_new(0x60003000, "OW", b"\1\0")
    return ds


@pytest.mark.parametrize(
    "chosen",
    [
        Profile(),
        Profile(frozenset()),
        Profile(site_rules=parse_recipe(RECIPE)),
        Profile(frozenset({Option.RETAIN_SAFE_PRIVATE}), frozenset({(0x19, "MAKER A", 1)})),
    ],
)
def test_the_preview_is_what_the_engine_then_reports(make_ct, through_file, subject, uids, chosen):
    ds = through_file(_rich_ct(make_ct))
    planned = what_would_happen(ds, chosen)
    _, report = deidentify(ds, subject, chosen, uids)
    foreseen = Counter(action.rule for action in planned)
    added = {key for key in foreseen if key.startswith("added")}
    assert {key: foreseen[key] for key in foreseen if key not in added} == {
        key: count
        for key, count in report.counts.items()
        if "malformed" not in key and "replaced by the site's value" not in key
    }
    assert len(added) == len(chosen.site_rules.additions)


def test_it_says_where_and_never_what(make_ct, through_file, profile):
    planned = what_would_happen(through_file(_rich_ct(make_ct)), profile)
    by_path = {action.path: action.rule for action in planned}
    assert by_path["(0010,0010)"] == "replaced by the pseudonym (E.1-1 Z)"
    assert by_path["(0008,1140)[2](0010,0010)"].startswith("emptied")
    assert by_path["(0019,1001)"] == "removed (private)"
    assert "andermolen" not in repr(planned)
    assert "MAKER" not in repr(planned)


def test_what_the_engine_refuses_the_preview_refuses(make_ct, profile):
    with pytest.raises(errors.MissingPatientId):
        what_would_happen(make_ct(PatientID=""), profile)
