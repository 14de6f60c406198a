"""Coded values of audit messages (PS3.16 CID 400 to 405, annex D; PS3.15 A.5.1.2)."""

from typing import NamedTuple


class Code(NamedTuple):
    """A coded value: code, coding scheme and meaning."""

    code: str
    scheme: str
    meaning: str


def _dcm(code: int, meaning: str) -> Code:
    return Code(str(code), "DCM", meaning)


APPLICATION_ACTIVITY = _dcm(110100, "Application Activity")
AUDIT_LOG_USED = _dcm(110101, "Audit Log Used")
BEGIN_TRANSFERRING = _dcm(110102, "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED = _dcm(110103, "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = _dcm(110104, "DICOM Instances Transferred")
EXPORT = _dcm(110106, "Export")
IMPORT = _dcm(110107, "Import")
PATIENT_RECORD = _dcm(110110, "Patient Record")
QUERY = _dcm(110112, "Query")
SECURITY_ALERT = _dcm(110113, "Security Alert")

APPLICATION_START = _dcm(110120, "Application Start")
APPLICATION_STOP = _dcm(110121, "Application Stop")
NODE_AUTHENTICATION = _dcm(110126, "Node Authentication")
NETWORK_CONFIGURATION = _dcm(110128, "Network Configuration")
SECURITY_CONFIGURATION = _dcm(110129, "Security Configuration")
SOFTWARE_CONFIGURATION = _dcm(110131, "Software Configuration")
RESTRICTED_FUNCTION = _dcm(110132, "Use of Restricted Function")
RECORDING_STOPPED = _dcm(110133, "Audit Recording Stopped")
RECORDING_STARTED = _dcm(110134, "Audit Recording Started")

APPLICATION = _dcm(110150, "Application")
APPLICATION_LAUNCHER = _dcm(110151, "Application Launcher")
DESTINATION = _dcm(110152, "Destination Role ID")
SOURCE = _dcm(110153, "Source Role ID")
DESTINATION_MEDIA = _dcm(110154, "Destination Media")
SOURCE_MEDIA = _dcm(110155, "Source Media")

MEDIA_URI = _dcm(110037, "URI")
STUDY_UID = _dcm(110180, "Study Instance UID")
SOP_CLASS_UID = _dcm(110181, "SOP Class UID")
NODE_ID = _dcm(110182, "Node ID")
PATIENT_NUMBER = Code("2", "RFC-3881", "Patient Number")
SEARCH_CRITERIA = Code("10", "RFC-3881", "Search Criteria")
URI = Code("12", "RFC-3881", "URI")

SUCCESS, MINOR_FAILURE, SERIOUS_FAILURE, MAJOR_FAILURE = 0, 4, 8, 12
"""EventOutcomeIndicator (PS3.15 A.5.1.1)."""
OUTCOMES = {
    SUCCESS: "success",
    MINOR_FAILURE: "minor failure",
    SERIOUS_FAILURE: "serious failure",
    MAJOR_FAILURE: "major failure",
}
APPLICATION_SERVER = "4"
"""AuditSourceTypeCode (A.5.1.2.1)."""
PERSON, SYSTEM_OBJECT = 1, 2
"""ParticipantObjectTypeCode (A.5.2)."""
PATIENT_ROLE, REPORT_ROLE, MASTER_FILE_ROLE, SECURITY_RESOURCE_ROLE = 1, 3, 5, 13
"""ParticipantObjectTypeCodeRole (A.5.1.2.2)."""
MACHINE_NAME, IP_ADDRESS = 1, 2
"""NetworkAccessPointTypeCode (A.5.1.1)."""
