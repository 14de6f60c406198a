"""The report as an Encapsulated PDF (PS3.3 A.45.1): the same pages as the Secondary Capture, as vectors."""

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from sr_export.coded import code_item
from sr_export.codes import REPORT_TITLE
from sr_export.context import finish, new_object
from sr_export.inputs import Report
from sr_export.uids import stamp_uids


def build_pdf(source: Sequence[Dataset], pdf_bytes: bytes, derived_from: Sequence[Dataset], report: Report) -> Dataset:
    """Return the Encapsulated PDF.

    Parameters
    ----------
    source
        Original headers.
    pdf_bytes
        The document.
    derived_from
        Result objects of the same job that the document shows.
    """
    pdf = new_object(EncapsulatedPDFStorage, "DOC", 1)
    pdf.ConversionType = "WSD"
    pdf.AcquisitionDateTime = ""
    pdf.BurnedInAnnotation = "YES"
    pdf.DocumentTitle = "CT bone density and strength report"
    pdf.VerificationFlag = "UNVERIFIED"
    pdf.ConceptNameCodeSequence = [code_item(REPORT_TITLE)]
    pdf.SourceInstanceSequence = [_reference(instance) for instance in derived_from]
    pdf.MIMETypeOfEncapsulatedDocument = "application/pdf"
    pdf.EncapsulatedDocumentLength = len(pdf_bytes)
    pdf.EncapsulatedDocument = pdf_bytes + b"\0" * (len(pdf_bytes) % 2)
    finish(pdf, source[0], report, "pdf")
    stamp_uids([pdf], report.job_reference, "pdf")
    return pdf


def _reference(instance: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    return item
