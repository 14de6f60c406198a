"""A stand-in PACS: a storage SCP that keeps every object as a file. For the demonstration and for tests."""

from pathlib import Path
from threading import Lock

from dicom_node.net.scp import Listener, Receiver
from dicom_node.storage.files import write_durably
from dicom_node.storage.intake import Arrival
from dicom_node.storage.part10 import file_head


class FolderArchive:
    """A running stand-in PACS.

    Parameters
    ----------
    ae_title
        Its AE title.
    folder
        Where the files go, one per SOP Instance UID, in order of arrival.
    port
        0 picks a free one.
    """

    def __init__(self, ae_title: str, folder: Path, port: int = 0) -> None:
        self.ae_title = ae_title
        self._folder = folder
        self._files: dict[str, Path] = {}
        self._lock = Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._receiver = Receiver(ae_title, [Listener("127.0.0.1", port)], self._keep)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._receiver.port

    @property
    def files(self) -> list[Path]:
        """Everything it holds, in order of arrival."""
        with self._lock:
            return list(self._files.values())

    def close(self) -> None:
        """Stop listening; the files stay."""
        self._receiver.close()

    def _keep(self, arrival: Arrival) -> None:
        """Keep an object; one that is there already stays as it is."""
        with self._lock:
            if arrival.sop_instance_uid in self._files:
                return
            path = self._folder / f"{len(self._files):05d}.dcm"
            self._files[arrival.sop_instance_uid] = path
        head = file_head(arrival.sop_class_uid, arrival.sop_instance_uid, arrival.transfer_syntax_uid)
        write_durably(path, [head, arrival.dataset])
