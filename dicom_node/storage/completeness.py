"""When is a study complete? A pure verdict on what has arrived.

This module decides by quiet time alone: no new instance for the set time. (C-STORE has no other end of study:
an association's release says only that one association ended.)
"""

from datetime import datetime, timedelta

from dicom_node.db.studies import StudyArrivals


def is_due(study: StudyArrivals, now: datetime, quiet_s: float) -> bool:
    """Tell whether a study has news, and arrivals have been quiet long enough.

    A study no version covers is news, whatever it holds, so that one that cannot be analysed gets its sentence. Later
    CT instances are, and a segmentation of our bones that a person corrected; what others add besides changes nothing.

    Parameters
    ----------
    study
        The arrivals of one study.
    now
        Timezone-aware time.
    quiet_s
        Seconds without an arrival that make a study complete.
    """
    has_news = study.ct_count > study.covered_ct or study.last_version == 0 or study.is_corrected_anew
    return has_news and now - study.last_arrival >= timedelta(seconds=quiet_s)
