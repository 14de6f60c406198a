"""UIDs follow from the content of a whole series."""

from result_factory import make_report, make_source

from sr_export.context import finish, new_object
from sr_export.uids import stamp_uids

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def series_of(*comments):
    report = make_report()
    pages = []
    for number, comment in enumerate(comments, 1):
        page = new_object(SECONDARY_CAPTURE, "OT", number)
        page.ImageComments = comment
        pages.append(finish(page, make_source()[0], report, "sc"))
    stamp_uids(pages, report.job_reference, "sc")
    return pages


def test_the_same_content_again_has_the_same_uids():
    first, again = series_of("a", "b"), series_of("a", "b")
    assert [one.SOPInstanceUID for one in first] == [one.SOPInstanceUID for one in again]
    assert first[0].SeriesInstanceUID == again[1].SeriesInstanceUID


def test_a_page_that_stays_as_it_was_beside_a_changed_one_is_not_in_two_series_under_one_uid():
    first, changed = series_of("a", "b"), series_of("a", "c")
    assert first[0].SeriesInstanceUID != changed[0].SeriesInstanceUID
    assert first[0].SOPInstanceUID != changed[0].SOPInstanceUID
