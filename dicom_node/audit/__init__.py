"""The audit of the node: messages by PS3.15 A.5 in a chain of hashes, sent on by syslog over TLS (A.6).

`dicom_node.audit.events` says what can happen; `dicom_node.audit.recorder.record` writes it. docs/audit.md explains it.
"""
