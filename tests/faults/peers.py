"""The peers of a node under test: an Orthanc that counts, an archive of any mood, a scanner that asks."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

import httpx
from pydicom import Dataset
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from dicom_node.demo.pacs import BINARY_PATH, Orthanc
from dicom_node.errors import ConfigurationError
from dicom_node.net.scu import Address
from tests.faults.studies import SENDER, Study

LUA = "function ReceivedInstanceFilter(dicom, origin, info) print('received ' .. dicom.SOPInstanceUID) return true end"


class CountingOrthanc(Orthanc):
    """An Orthanc whose log names every object that it is sent, also one that it had."""

    def __init__(self, folder: Path, node: Address) -> None:
        binary = shutil.which("Orthanc", path=BINARY_PATH)
        if binary is None:
            raise ConfigurationError("Orthanc is not installed; make system installs it.")
        self._folder, self._binary, self._node = folder, binary, node
        super().__init__(binary, folder, node)

    def _configuration(self, folder: Path, node: Address, plugins: Sequence[str]) -> dict[str, object]:
        script = folder / "count.lua"
        script.write_text(LUA)
        return {**super()._configuration(folder, node, plugins), "LuaScripts": [str(script)]}

    def reopen(self) -> None:
        """Start again on the same ports and the same folder.

        Raises
        ------
        ConfigurationError
            When it does not start.
        """
        with (self._folder / "orthanc.log").open("a") as log:
            command = [self._binary, str(self._folder / "orthanc.json")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        if not self.client.wait_started(timeout=60):
            raise ConfigurationError("Orthanc did not start again.")

    def arrivals(self) -> Counter[str]:
        """SOP Instance UID -> how often it was sent here."""
        return Counter(re.findall(r"received ([0-9.]+)", (self._folder / "orthanc.log").read_text(errors="replace")))

    def holds(self, study_instance_uid: str) -> set[str]:
        """SOP Instance UIDs of what is here of a study."""
        study = self.client.studies.lookup(study_instance_uid)
        if study is None:
            return set()
        instances = httpx.get(f"{self.url}/studies/{study}/instances", timeout=60).json()
        return {one["MainDicomTags"]["SOPInstanceUID"] for one in instances}


class MoodyArchive:
    """A PACS that answers what it is told to.

    Parameters
    ----------
    answer
        Status for a SOP class; an object is kept where that is success, a warning or 0x0111.
    """

    def __init__(self, answer: Callable[[str], int]) -> None:
        self.answer = answer
        self.counts: Counter[str] = Counter()
        """SOP Instance UID -> how often it was sent here."""
        self.kept: set[str] = set()
        self._lock = Lock()
        ae = AE("MOODY")
        ae.maximum_pdu_size = 0
        ae.add_supported_context(Verification)
        for context in StoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        self.port = int(self._server.socket.getsockname()[1])

    def _store(self, event: evt.Event) -> int:
        status = self.answer(str(event.request.AffectedSOPClassUID))
        uid = str(event.request.AffectedSOPInstanceUID)
        with self._lock:
            self.counts[uid] += 1
            if status in (0, 0x0111) or status >> 12 == 0xB:
                self.kept.add(uid)
        return status

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()


class Scanner:
    """A peer that sends, asks for storage commitment and takes the reports."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, int, int]] = []
        """Transaction, instances committed, instances not."""
        self._lock = Lock()
        ae = AE(SENDER)
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self._server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take)]
        )
        self.port = int(self._server.socket.getsockname()[1])

    def _take(self, event: evt.Event) -> tuple[int, None]:
        told = event.event_information
        counts = [len(told.get(name, ())) for name in ("ReferencedSOPSequence", "FailedSOPSequence")]
        with self._lock:
            self.reports.append((str(told.TransactionUID), *counts))
        return 0, None

    def ask(self, study: Study, port: int, transaction: str) -> bool:
        """Ask for commitment of a study; tell whether the request was acknowledged."""
        request = Dataset()
        request.TransactionUID = transaction
        request.ReferencedSOPSequence = []
        for uid in study.files:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
            request.ReferencedSOPSequence.append(item)
        ae = AE(SENDER)
        ae.add_requested_context(StorageCommitmentPushModel)
        ae.connection_timeout = 5
        assoc = ae.associate("127.0.0.1", port, ae_title="OSTEONODE")
        if not assoc.is_established:
            return False
        try:
            status, _ = assoc.send_n_action(request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        except RuntimeError:
            return False
        finally:
            if assoc.is_established:
                assoc.release()
        return "Status" in status and status.Status == 0

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
