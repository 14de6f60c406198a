"""What a well-behaved sender never does: half an image and then nothing."""

import socket
import struct
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF

from tests.faults.studies import connect


def drop_within_image(path: Path, port: int, *, reset: bool) -> bool:
    """Send one C-STORE up to the middle of a P-DATA and cut the connection; tell whether it got so far.

    Parameters
    ----------
    path
        The object.
    port
        The node's.
    reset
        Whether TCP is reset (as by a firewall) or closed.
    """
    assoc = connect(port)
    if assoc is None:
        return False
    dataset = dcmread(path)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    request.DataSet = BytesIO(encode(dataset, False, True) or b"")
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    context = assoc.accepted_contexts[0].context_id or 1
    encoded = b"".join(_pdu(part) for part in message.encode_msg(context, 4096))
    connection = assoc.dul.socket.socket
    connection.sendall(encoded[: len(encoded) * 2 // 3 + 1])
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    else:
        connection.shutdown(socket.SHUT_RDWR)
    assoc.kill()
    return True


def _pdu(part: object) -> bytes:
    pdu = P_DATA_TF()
    pdu.from_primitive(part)
    return bytes(pdu.encode())
