"""A syslog receiver on a free port: TLS with client certificates or plain TCP, RFC 5425 framing."""

import socket
import ssl
import threading
from contextlib import suppress

from dicom_node.net.tls import TlsFiles


class SyslogServer:
    """Keeps the messages it got, in the order it got them.

    Parameters
    ----------
    files
        Its certificate, and the authority it trusts; None: plain TCP.
    port
        0 picks a free one.
    hang_up_after
        Messages of one connection after which it closes it without reading on; None: never.
    """

    def __init__(self, files: TlsFiles | None = None, port: int = 0, hang_up_after: int | None = None) -> None:
        self.messages: list[bytes] = []
        self.connections = 0
        self.is_deaf = False
        self._hang_up_after = hang_up_after
        self._tls = None
        if files is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.verify_mode = ssl.CERT_REQUIRED
            self._tls.load_cert_chain(files.certificate, files.key)
            self._tls.load_verify_locations(files.authority)
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listening.accept()
                self.connections += 1
                self._open.append(plain)
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError, ValueError):
            connection = self._tls.wrap_socket(plain, server_side=True) if self._tls else plain
            self._open.append(connection)
            with connection, connection.makefile("rb") as stream:
                count = 0
                while self._hang_up_after is None or count < self._hang_up_after:
                    length = b""
                    while (one := stream.read(1)) not in (b" ", b""):
                        length += one
                    if not length:
                        return
                    message = stream.read(int(length))
                    if len(message) == int(length) and not self.is_deaf:
                        self.messages.append(message)
                    count += 1

    def close(self) -> None:
        """Stop listening and break every connection off."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
