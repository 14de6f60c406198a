"""The site's recipe: what it says is done, and what it does not say clearly is refused with its line."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import keyword_dict
from pydicom.dataset import Dataset

from deid_rules.describe import describe
from deid_rules.engine import deidentify
from deid_rules.errors import InvalidProfile, RecipeError
from deid_rules.header_lines import Verb
from deid_rules.markers import markers
from deid_rules.options import Option
from deid_rules.profile import Profile, compile_rules
from deid_rules.recipe import default_recipe, parse_recipe
from deid_rules.residual import find_residual, identifiers_of
from deid_rules.rules import Action
from deid_rules.selectors import PROTECTED

HEAD = "FORMAT dicom\n%header\n"


def _site(lines, **options):
    return Profile(site_rules=parse_recipe(HEAD + lines), **options)


@pytest.fixture
def cleaned(make_ct, through_file, subject, uids):
    """De-identify a CT with a recipe's header lines; keyword arguments replace attributes of the CT."""

    def clean(lines, **attributes):
        return deidentify(through_file(make_ct(**attributes)), subject, _site(lines), uids)[0]

    return clean


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("REMOVE PatientNam", "did you mean PatientName"),
        ("REMOVE (0010,0013", "no such field"),
        ("REMOVE (0010,9999)", "knows no such tag"),
        ("REMOVE (0019,1001)", "named with its creator"),
        ('REMOVE (0018,"MAKER",01)', "odd group"),
        ('REMOVE (0019,"MAKER",1)', "no such field"),
        ("REMOVE (0002,0016)", "file meta"),
        ("REMOVE contains:NoFieldIsCalledLikeThis", "matches no field"),
        ("REMOVE contains:(", "no regular expression"),
        ("REMOVE contains:", "takes an expression"),
        ("REMOVE values:names", "no such selector"),
        ("REMOVE select:VR:QQ", "matches no field"),
        ("REMOVE select:GROUP:zzzz", "hexadecimal"),
        ("REMOVE select:SIZE:1", "no such selector"),
        ("DELETE PatientWeight", "no such action"),
        ("remove PatientWeight", "in capitals"),
        ("REMOVEPatientWeight", "no such action"),
        ("REMOVE", "takes a field"),
        ("REMOVE PatientWeight func:is_heavy", "no value"),
        ("BLANK PatientWeight 5", "no value"),
        ("KEEP Rows 5", "no value"),
        ("REPLACE Manufacturer", "a value"),
        ("REPLACE Manufacturer var:maker", "nothing of this name is bound"),
        ("REPLACE Manufacturer func:maker", "nothing of this name is bound"),
        ("REPLACE Manufacturer VAR:pseudonym", "nothing of this name is bound"),
        ("REPLACE Manufacturer deid_func:jitter", "nothing of this name is bound"),
        ("ADD Manufacturer func:dummy", "nothing of this name is bound"),
        ("REPLACE Manufacturer maker#1", "without #"),
        ("REMOVE PatientWeight # heavy", "no value"),
        ("REPLACE Manufacturer a\\b", "without #"),
        ("REPLACE Manufacturer O'Brien", "quotes"),
        ("REPLACE Manufacturer two  blanks", "double blanks"),
        ("REPLACE Manufacturer Müller", "plain ASCII"),
        ("REPLACE StudyDate yesterday", "none of (0008,0020)"),
        ("REPLACE PatientSex female", "none of (0010,0040)"),
        ("REPLACE Rows 5", "no value of this kind"),
        ("REPLACE StudyInstanceUID 1.2.3", "cannot be changed"),
        ("REPLACE FrameOfReferenceUID 1.2.3", "no value of this kind"),
        ("REPLACE PatientID ANON", "cannot be changed"),
        ("REPLACE Manufacturer func:mapped_uid", "cannot be written"),
        ("REPLACE AccessionNumber var:pseudonym", "cannot be written"),
        ("REPLACE ReferencedImageSequence func:dummy", "cannot be written"),
        ("REMOVE SOPInstanceUID", "cannot be changed"),
        ("BLANK PatientID", "cannot be changed"),
        ("REMOVE PatientIdentityRemoved", None),
        ("REPLACE PatientIdentityRemoved NO", "cannot be changed"),
        ("ADD contains:Comments none", "names one field"),
        ('ADD (0019,"MAKER",01) x', "names one field"),
        ('BLANK (0019,"MAKER",01)', "kept or removed"),
        ('KEEP (0019,"MAKER",01)', "Retain Safe Private"),
        ("JITTER StudyDate", "a value"),
        ("# option: Retain Modified Dates\nJITTER StudyDate soon", "whole number of days"),
        ("# option: Retain Modified Dates\nJITTER StudyDate 1.5", "whole number of days"),
        ("# option: Retain Modified Dates\nJITTER StudyTime 7", "moves dates"),
        ("# option: Retain Modified Dates\nJITTER DateOfLastCalibration 7", "does not speak about"),
        ("JITTER StudyDate 7", "name the option"),
        ("KEEP PatientName", "does not keep (0010,0010)"),
        ("# option: Retain Patient Characteristics\nKEEP PatientName", "does not speak about (0010,0010)"),
        ("KEEP StudyInstanceUID", "does not keep"),
        ("KEEP DeviceSerialNumber", "does not keep"),
        ("# option: Retain Device Identity\nKEEP PatientAge", "does not speak about"),
        ("# option: Retain Modified Dates\nKEEP DateOfLastCalibration", "does not speak about"),
        ("KEEP contains:Patient", "does not keep"),
        ("# option: Retain Everything\nKEEP PatientAge", "no option of PS3.15"),
        ("# option: Retain Device Identity\nREMOVE PatientAge", "takes no option"),
        ("# option: Retain Device Identity\n", "right above"),
        ("# option: Retain Device Identity\n%header", "right above"),
        ("REMOVE PatientWeight\nBLANK PatientWeight", "line 3 already decides"),
        ("REMOVE PatientWeight\nREMOVE (0010,1030)", "line 3 already decides"),
        ("%labels", "no such section"),
        ("%header again", "%header takes none"),
        ("%filter", "%filter takes one name"),
        ("LABEL", "has a name"),
        ("%filter x\ncontains Modality CT", "below a LABEL"),
        ("%filter x\nLABEL a", "at least one criterion"),
        ("%filter x\nLABEL a\n  contians Modality CT", "no such test"),
        ("%filter x\nLABEL a\n  contains Modaliti CT", "no such field"),
        ("%filter x\nLABEL a\n  contains Modality", "and a value"),
        ("%filter x\nLABEL a\n  missing Modality CT", "and no value"),
        ("%filter x\nLABEL a\n  contains Modality (", "no regular expression"),
        ("%filter x\nLABEL a\n  contains Modality CT\n  coordinates 0,0,512", "four whole numbers"),
        ("%filter x\nLABEL a\n  contains Modality CT\n  coordinates from:Regions", "four whole numbers"),
        ("%filter x\nLABEL a\n  contains Modality CT\n  coordinates 9,0,9,5", "empty rectangle"),
        ("%filter image-types\nLABEL a\n  contains ImageType DERIVED", "is one line"),
        ("%filter image-types\nLABEL a\n  equals ImageType DERIVED\\PRIMARY", "first three"),
        ("%filter image-types\nLABEL a\n  equals ImageType ORIGINAL\\PRIMARY\\LOCALIZER", "no rule can let"),
    ],
)
def test_an_unclear_line_is_an_error_with_its_number(line, sentence):
    if sentence is None:
        parse_recipe(HEAD + line)
        return
    with pytest.raises(RecipeError, match=re.escape(sentence)) as caught:
        parse_recipe(HEAD + line)
    assert 1 <= caught.value.line_number <= HEAD.count("\n") + line.count("\n") + 1
    assert str(caught.value).startswith(f"line {caught.value.line_number}: ")


@pytest.mark.parametrize(("text", "number"), [("", 0), ("# nothing\n", 0), ("%header\n", 1), ("FORMAT nifti\n", 1)])
def test_a_recipe_begins_with_its_format(text, number):
    with pytest.raises(RecipeError, match="FORMAT dicom") as caught:
        parse_recipe(text)
    assert caught.value.line_number == number


def test_a_rule_outside_of_a_section_is_an_error():
    with pytest.raises(RecipeError, match="below %header"):
        parse_recipe("FORMAT dicom\nREMOVE PatientWeight\n")


def test_the_number_counts_comments_and_empty_lines():
    with pytest.raises(RecipeError) as caught:
        parse_recipe("# a\n\nFORMAT dicom\n\n# b\n%header\n\nREMOVE Nothing\n")
    assert caught.value.line_number == 8


WORDS = (
    *(
        "KEEP",
        "ADD",
        "REPLACE",
        "JITTER",
        "REMOVE",
        "BLANK",
        "LABEL",
        "%header",
        "%filter x",
        "# option: 113109",
        "+",
        "||",
    ),
    *(
        "PatientAge",
        "Rows",
        "ALL",
        "contains:a",
        "contains:(",
        "select:VR:PN",
        '(0019,"A",01)',
        "(0010,0010)",
        '"',
        ":",
    ),
    *("var:pseudonym", "func:dummy", "7", "#", "equals", "missing", "coordinates 1,2,3", "\\", "é", "image-types"),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=4).map(" ".join), max_size=6))
def test_any_text_is_read_or_refused_with_a_line(lines):
    text = HEAD + "\n".join(lines)
    refused = None
    try:
        parse_recipe(text)
    except RecipeError as error:
        refused = error
    assert refused is None or 0 <= refused.line_number <= len(text.splitlines())


def test_the_default_recipe_adds_nothing():
    site = default_recipe()
    assert (site.rules, site.additions, site.options, site.labels, site.image_types) == (
        (),
        (),
        frozenset(),
        (),
        frozenset(),
    )


def test_equal_texts_are_equal_profiles_so_that_compiling_is_cached():
    first, second = _site("REMOVE PatientWeight"), _site("REMOVE PatientWeight")
    assert first == second
    assert hash(first) == hash(second)
    assert compile_rules(first, "1.2") is compile_rules(second, "1.2")
    assert first != _site("REMOVE PatientSize")


def test_every_action_does_what_it_says(cleaned):
    clean = cleaned(
        "REMOVE PatientWeight\nBLANK PatientSize\nREPLACE Manufacturer Scanner\nADD ImageComments by our rules\n"
        "REPLACE ConvolutionKernel func:dummy\nADD ClinicalTrialSubjectID var:pseudonym\n"
        "ADD ClinicalTrialTimePointID var:study_code\nREPLACE FrameOfReferenceUID func:mapped_uid\n"
        "# option: Retain Device Identity\nKEEP DeviceSerialNumber\n"
    )
    assert "PatientWeight" not in clean
    assert clean.PatientSize is None
    assert clean.Manufacturer == "Scanner"
    assert clean.ImageComments == "by our rules"
    assert clean.ConvolutionKernel == "ANONYMIZED"
    assert clean.ClinicalTrialSubjectID == "ON-ABCDEFGH"
    assert clean.ClinicalTrialTimePointID == clean.StudyID
    assert clean.FrameOfReferenceUID.startswith("2.25.")
    assert clean.DeviceSerialNumber == "SN998877"


def test_rules_reach_into_sequences_and_additions_do_not(cleaned):
    item = Dataset()
    item.Manufacturer, item.KVP = "SIEMENS", "120"
    clean = cleaned("REPLACE Manufacturer Scanner\nADD KVP 99", DerivationImageSequence=[item])
    inner = clean.DerivationImageSequence[0]
    assert (inner.Manufacturer, inner.KVP) == ("Scanner", 120)
    assert clean.KVP == 99


def test_replace_writes_nothing_where_nothing_was(cleaned):
    assert "FilterType" not in cleaned("REPLACE FilterType none")


@pytest.mark.parametrize(
    ("selector", "gone", "stays"),
    [
        ("contains:Weight", "PatientWeight", "PatientSize"),
        ("startswith:PatientS", "PatientSize", "PatientWeight"),
        ("endswith:Kernel", "ConvolutionKernel", "KVP"),
        ("select:VR:DS", "PixelSpacing", "ConvolutionKernel"),
        ("select:GROUP:0018", "KVP", "PatientWeight"),
        ("(0018,0060)", "KVP", "SliceThickness"),
        ("00180060", "KVP", "SliceThickness"),
        ("except:Kernel|Patient", "KVP", "ConvolutionKernel"),
        ("contains:^\\(0018", "KVP", "PatientWeight"),
    ],
)
def test_selectors_choose_by_keyword_name_tag_and_vr(cleaned, selector, gone, stays):
    clean = cleaned(f"REMOVE {selector}")
    assert gone not in clean
    assert stays in clean


def test_all_reaches_everything_but_what_an_object_needs_to_be_one(cleaned):
    clean = cleaned("REMOVE ALL\nKEEP Rows\nKEEP Columns\nKEEP contains:^Bits")
    left = {element.tag for element in clean}
    kept = {keyword_dict[name] for name in ("Rows", "Columns", "BitsAllocated", "BitsStored")}
    assert left <= PROTECTED | kept
    assert kept <= left


def test_the_order_of_actions_is_deids(cleaned):
    lines = ["REPLACE contains:^Manufacturer(ModelName)?$ Maker", "REMOVE ALL", "BLANK contains:Kernel", "KEEP KVP"]
    for chosen in (lines, lines[::-1]):
        clean = cleaned("\n".join(chosen))
        assert clean.Manufacturer == "Maker"
        assert clean.KVP == 120
        assert "ConvolutionKernel" not in clean


def test_a_field_named_wins_over_an_expander(cleaned):
    for lines in (
        "REPLACE Manufacturer A\nREPLACE contains:^Manufacturer(ModelName)?$ B",
        "REPLACE contains:^Manufacturer(ModelName)?$ B\nREPLACE Manufacturer A",
    ):
        clean = cleaned(lines)
        assert (clean.Manufacturer, clean.ManufacturerModelName) == ("A", "B")


def test_jitter_adds_days_to_the_patients_own_shift(cleaned):
    option = "# option: Retain Modified Dates\n"
    clean = cleaned(f"{option}JITTER ContentDate 3\n{option}JITTER AcquisitionDateTime var:date_offset_days")
    assert clean.StudyDate == "20220331"
    assert clean.ContentDate == "20220403"
    assert clean.AcquisitionDateTime.startswith("20220331")


def test_an_option_a_line_names_is_claimed_in_the_file(make_ct, through_file, subject, uids):
    chosen = _site("# option: 113109\nKEEP DeviceSerialNumber")
    clean, _ = deidentify(through_file(make_ct()), subject, chosen, uids)
    codes = [item.CodeValue for item in clean.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107", "113108", "113109"]
    assert len(markers(chosen, False, True)) == 4


def test_an_option_that_contradicts_the_profile_is_refused():
    with pytest.raises(InvalidProfile):
        _site("# option: Retain Full Dates\nKEEP StudyDate")
    kept = _site("# option: Retain Full Dates\nKEEP StudyDate", options=frozenset())
    rule = compile_rules(kept, "1.2")[0][keyword_dict["StudyDate"]]
    assert (rule.action, rule.shift_days) == (Action.SHIFT_DATE, None)


def test_text_the_standard_does_not_list_is_kept_only_cleaned(cleaned):
    clean = cleaned(
        "# option: Clean Descriptors\nKEEP AcquisitionFieldOfViewLabel", AcquisitionFieldOfViewLabel="HIP Vandermolen"
    )
    assert clean.AcquisitionFieldOfViewLabel == "HIP"


def test_private_elements_are_kept_by_creator_under_their_option(make_ct, through_file, subject, uids):
    ds = make_ct()
    ds.private_block(0x0019, "MAKER A 1.0", create=True).add_new(0x01, "LO", "kept")
    lines = '# option: Retain Safe Private\nKEEP (0019,"MAKER A 1.0",01)'
    clean, _ = deidentify(through_file(ds), subject, _site(lines), uids)
    assert clean[0x00191001].value == "kept"
    removed = Profile(
        frozenset({Option.RETAIN_SAFE_PRIVATE}),
        frozenset({(0x19, "MAKER A 1.0", 1)}),
        site_rules=parse_recipe(HEAD + 'REMOVE (0019,"MAKER A 1.0",01)'),
    )
    assert 0x00191001 not in deidentify(through_file(ds), subject, removed, uids)[0]


def test_the_report_names_line_and_label_but_no_value(make_ct, through_file, subject, uids):
    chosen = _site("LABEL our rule\nREMOVE PatientWeight\nREPLACE Manufacturer Scanner")
    _, report = deidentify(through_file(make_ct()), subject, chosen, uids)
    assert report.counts["removed (site's line 4: our rule)"] == 1
    assert not any("Scanner" in key for key in report.counts)


def test_a_site_may_let_more_image_types_pass(make_ct):
    from deid_rules.pixels import gate

    site = parse_recipe(HEAD + "%filter image-types\nLABEL thin\n  equals ImageType DERIVED\\PRIMARY\\AXIAL\n")
    ct = make_ct(ImageType=["DERIVED", "PRIMARY", "AXIAL"])
    assert not gate(ct).allowed
    assert gate(ct, site.image_types).allowed


def test_the_description_counts_what_the_recipe_decides():
    words = describe(_site("REMOVE PatientWeight\nADD ImageComments ours\nREPLACE Manufacturer Scanner"))
    assert "- attributes it decides about: 2" in words
    assert "- attributes it adds at the top level: 1" in words
    assert "Manufacturer | replaced by the site's value |" in words
    assert "Scanner" not in words


FIELDS = ("PatientName", "StudyDescription", "ALL", "contains:Patient", "select:VR:LO", "select:VR:PN", "except:Date")
HARMLESS = st.builds(
    "{} {}{}".format,
    st.sampled_from([verb.value for verb in Verb]),
    st.sampled_from([*FIELDS, "DeviceSerialNumber", "select:VR:UI", "ReferencedImageSequence", "endswith:ID"]),
    st.sampled_from(["", " ours", " var:pseudonym", " func:dummy", " func:mapped_uid", " 7"]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(HARMLESS, min_size=1, max_size=4))
def test_no_recipe_without_an_option_lets_a_name_through(make_ct, through_file, encode, subject, uids, lines):
    inner = Dataset()
    inner.PatientName = inner.PatientComments = inner.PatientID = "Vandermolen"
    ds = make_ct(ReferencedImageSequence=[inner], PatientComments="Vandermolen", ImageComments="Vandermolen")
    try:
        chosen = _site("\n".join(lines))
    except RecipeError:
        return
    original = through_file(ds)
    clean, _ = deidentify(original, subject, chosen, uids)
    assert find_residual(encode(clean), identifiers_of(original)) == ()
    assert b"SN998877" not in encode(clean)
    assert original.StudyInstanceUID.encode() not in encode(clean)
