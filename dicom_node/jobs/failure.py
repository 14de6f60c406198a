"""How an unexpected error is described without quoting what it was about."""

import traceback
from pathlib import Path


def describe_failure(error: BaseException) -> str:
    """Return kind and place of an error, never its message: a message may quote a dataset's value."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
