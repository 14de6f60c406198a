"""One logging set-up: structlog rendered through the standard library, and no patient data.

Event names are static and in the past tense; values are fields. Third-party loggers that quote DICOM values
(pynetdicom's handlers, pydicom's warnings) are silenced here, at the one place every process passes through.
"""

import logging
import sys
import warnings

import structlog

SILENCED = {
    "pynetdicom": logging.CRITICAL,
    "pydicom": logging.CRITICAL,
    "highdicom": logging.ERROR,
    "uvicorn.access": logging.WARNING,
    "fontTools": logging.ERROR,
    "matplotlib": logging.ERROR,
    "pyacvd": logging.ERROR,
    "pyvista": logging.ERROR,
    "numba": logging.ERROR,
    "numexpr": logging.WARNING,
    "deid": logging.CRITICAL,
    "dbos": logging.WARNING,
    "httpx": logging.WARNING,
    "httpx2": logging.WARNING,
    "httpcore": logging.WARNING,
    "orthanc_api_client": logging.WARNING,
    "dicomweb_client": logging.ERROR,
    "urllib3": logging.ERROR,
    "alembic": logging.WARNING,
}
"""Libraries whose messages may quote a dataset, or that nobody reads; level from which they are heard."""


def configure_logging(level: str = "INFO", log_format: str = "json") -> None:
    """Send every logger to standard error as JSON lines or as coloured console lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_is_heard)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, floor in SILENCED.items():
        logging.getLogger(name).setLevel(floor)
    logging.raiseExceptions = False  # a line that cannot be written must not print its values in a traceback
    silence_value_warnings()


def _is_heard(record: logging.LogRecord) -> bool:
    """Drop what a silenced library says, whatever level the library gave itself when it was imported."""
    floors = (floor for name, floor in SILENCED.items() if f"{record.name}.".startswith(f"{name}."))
    return record.levelno >= max(floors, default=logging.NOTSET)


def silence_value_warnings() -> None:
    """Keep pydicom's and highdicom's warnings, which quote the offending value, out of every stream."""
    for module in (r"pydicom.*", r"highdicom.*"):
        warnings.filterwarnings("ignore", module=module)


def log(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
