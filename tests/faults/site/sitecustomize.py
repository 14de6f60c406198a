"""Breaks a node at a named instant. Python loads this file by itself where its folder is on ``PYTHONPATH``.

The node is the real one: nothing in it knows of faults. This file wraps what every program stands on (files,
commits of SQLAlchemy, messages of pynetdicom) and a few named functions of the node, in the node and in its child
processes. Where the folder named by ``NODE_FAULTS`` holds ``armed.json``, each wrapped call is compared with it, and
the n-th that fits does what it says, once: the file is renamed first, so that the instant is known to be reached.

Nothing is imported from the node or from the tests: modules are wrapped when the node imports them.
"""

import builtins
import errno
import importlib.abc
import io
import json
import os
import re
import signal
import socket
import struct
import sys
from functools import wraps
from pathlib import Path

FOLDER = os.environ.get("NODE_FAULTS", "")
FUNCTIONS = tuple(filter(None, os.environ.get("NODE_FAULTS_FUNCTIONS", "").split(",")))
"""``module:name`` of functions and methods of the node."""
WITHOUT = tuple(filter(None, os.environ.get("NODE_FAULTS_WITHOUT", "").split(",")))
"""Functions of the node that return None at once: parts that only cost time here."""
TRACE = os.environ.get("NODE_FAULTS_TRACE", "")
MAX_PARAMETERS = 400
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "terminate": signal.SIGTERM}
os.environ.setdefault("NODE_FAULTS_GROUP", str(os.getpgrp()))  # the node's; its children may have groups of their own


class Armed:
    """The fault that waits, as the harness wrote it."""

    def __init__(self, folder: str) -> None:
        self._file = f"{folder}/armed.json"
        self._stamp = 0
        self._fault: dict[str, object] = {}
        self._seen = 0
        self._stat = os.stat
        self._rename = os.rename
        self.open_unseen = io.open

    def observe(self, point: str, when: str, detail: str) -> None:
        """Compare one call with the fault, and do what it says when this is the one."""
        if TRACE:
            with self.open_unseen(TRACE, "a") as trace:
                trace.write(f"{os.getpid()} {point} {when} {detail}\n")
        try:
            stamp = self._stat(self._file).st_mtime_ns
        except OSError:
            return
        if stamp != self._stamp:
            with self.open_unseen(self._file) as file:
                self._fault, self._stamp, self._seen = json.load(file), stamp, 0
        fault = self._fault
        if fault["point"] != point or fault["when"] != when or not re.search(str(fault["match"]), detail):
            return
        self._seen += 1
        if self._seen == fault["number"]:
            self._fire(str(fault["action"]))

    def _fire(self, action: str) -> None:
        try:
            self._rename(self._file, f"{self._file}.fired")
        except OSError:
            return  # another thread or process was first
        if action in SIGNALS:
            for group in dict.fromkeys((int(os.environ["NODE_FAULTS_GROUP"]), os.getpgrp())):
                os.killpg(group, SIGNALS[action])
        elif action == "kill process":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            raise OSError(errno.ENOSPC, "No space left on device")


def observed(function, point, detail):
    """Wrap a function so that it is observed before and after."""

    @wraps(function)
    def call(*arguments, **keywords):
        said = detail(*arguments, **keywords)
        if said is None:
            return function(*arguments, **keywords)
        ARMED.observe(point, "before", said)
        result = function(*arguments, **keywords)
        ARMED.observe(point, "after", said)
        return result

    return call


def _descriptor(descriptor):
    try:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        return os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115 - a path object for each fsync would cost more
    except OSError:
        return None


def _opened(path, mode="r", *rest, **keywords):
    return str(path) if set(mode) & set("wxa") and not isinstance(path, int) else None


def _opened_low(path, flags, *rest, **keywords):
    return str(path) if flags & os.O_CREAT else None


def wrap_files():
    """Observe creation, fsync, renaming and deletion of files."""
    io.open = builtins.open = observed(io.open, "create", _opened)
    os.open = observed(os.open, "create", _opened_low)
    os.fsync = observed(os.fsync, "fsync", _descriptor)
    os.fdatasync = observed(os.fdatasync, "fsync", _descriptor)
    for name in ("rename", "replace", "link"):
        setattr(os, name, observed(getattr(os, name), "rename", lambda a, b, *_, **__: f"{a} -> {b}"))
    for name in ("unlink", "remove"):
        setattr(os, name, observed(getattr(os, name), "unlink", lambda path, *_, **__: str(path)))


def wrap_sqlalchemy(module):
    """Observe commits, each with the statements that changed something since the last one."""
    from sqlalchemy import event

    connection = module.Connection

    def remember(conn, cursor, statement, parameters, context, executemany):
        words = " ".join(statement.split())
        if not words.upper().startswith(("SELECT", "PRAGMA")):
            said = f"{words[:80]} {str(parameters)[:MAX_PARAMETERS]}"
            conn.info.setdefault("statements", []).append(said)
            ARMED.observe("execute", "before", said)

    event.listen(module.Engine, "before_cursor_execute", remember)
    commit, rollback = connection._commit_impl, connection._rollback_impl

    def commit_impl(self):
        said = "; ".join(self.info.pop("statements", []))
        if said:
            ARMED.observe("commit", "before", said)
        commit(self)
        if said:
            ARMED.observe("commit", "after", said)

    def rollback_impl(self):
        self.info.pop("statements", None)
        rollback(self)

    connection._commit_impl, connection._rollback_impl = commit_impl, rollback_impl


def wrap_pynetdicom(module):
    """Observe DIMSE requests that are sent."""

    def said(self, primitive, context_id):
        is_request = primitive.MessageIDBeingRespondedTo is None
        return f"{type(primitive).__name__} request" if is_request else None

    provider = module.DIMSEServiceProvider
    provider.send_msg = observed(provider.send_msg, "send", said)


RESPONSES = {0x8001: "C_STORE", 0x8100: "N_EVENT_REPORT", 0x8130: "N_ACTION"}
"""Command fields of responses (PS3.7 E.1)."""


def _response(connection, content, *rest):
    """Read which response a P-DATA-TF PDU (PS3.8 9.3.5) on its way out holds; None for anything else."""
    encoded = bytes(content[:1024])
    if len(encoded) < 12 or encoded[0] != 4 or not encoded[11] & 1:
        return None
    offset, found = 12, {}
    while offset + 8 <= len(encoded):
        group, element, length = struct.unpack_from("<HHL", encoded, offset)
        if group:
            break
        found[element] = encoded[offset + 8 : offset + 8 + length]
        offset += 8 + length
    field, status = found.get(0x0100, b""), found.get(0x0900, b"")
    name = RESPONSES.get(int.from_bytes(field, "little"))
    return name and f"{name} response 0x{int.from_bytes(status, 'little'):04X}"


def wrap_sockets():
    """Observe DIMSE responses that are sent, whoever encodes them."""
    for name in ("send", "sendall"):
        setattr(socket.socket, name, observed(getattr(socket.socket, name), "send", _response))


def wrap_functions(module):
    """Observe the functions of a module that the harness named."""
    for full in (*FUNCTIONS, *WITHOUT):
        place, name = full.split(":")
        if place != module.__name__:
            continue
        *owners, attribute = name.split(".")
        owner = module
        for one in owners:
            owner = getattr(owner, one, None)
        if owner is None or not hasattr(owner, attribute):
            _refuse(f"The fault harness observes {full}, which is not there any more: mend tests/faults/instants.py.")
        whole = getattr(owner, attribute)
        if full in WITHOUT:
            setattr(owner, attribute, lambda *_, **__: None)
        else:
            setattr(owner, attribute, observed(whole, "call", lambda *_, _name=full, **__: _name))


def wrap_clock(module):
    """Let the node's clock differ by the seconds that ``clock`` in the folder holds."""
    from datetime import timedelta

    now, file = module.now, f"{FOLDER}/clock"

    def shifted():
        try:
            with ARMED.open_unseen(file) as stream:
                return now() + timedelta(seconds=float(stream.read() or 0))
        except OSError:
            return now()

    module.now = shifted


def _refuse(sentence):
    Path(FOLDER, "broken").write_text(sentence)
    print(sentence, file=sys.stderr, flush=True)
    os._exit(3)


WRAPPERS = {
    "sqlalchemy.engine": wrap_sqlalchemy,
    "pynetdicom.dimse": wrap_pynetdicom,
    "dicom_node.clock": wrap_clock,
} | {full.split(":")[0]: wrap_functions for full in (*FUNCTIONS, *WITHOUT)}


class Finder(importlib.abc.MetaPathFinder):
    """Lets every other finder find a module, and wraps what is in it once it has run."""

    def find_spec(self, name, path, target=None):
        """Return the spec of a module that is to be wrapped; None for any other."""
        wrapper = WRAPPERS.pop(name, None)
        if wrapper is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            wrapper(module)

        spec.loader.exec_module = exec_module
        return spec


if FOLDER:
    ARMED = Armed(FOLDER)
    wrap_files()
    wrap_sockets()
    sys.meta_path.insert(0, Finder())
