"""The fault harness: what is acknowledged is kept, and is processed once, whenever the node is killed.

``python -m tests.faults`` runs it; docs/faults.md says what it tries and what it found.
"""
