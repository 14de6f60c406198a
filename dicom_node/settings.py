"""The node's settings: one frozen class, read once in ``cli`` and passed down.

Every field can be set by environment (``OSTEONODE_`` and the field's name in capitals) or in a TOML file named
by ``OSTEONODE_CONFIG`` or ``--config``; the environment wins. docs/settings.md lists them all (tested).
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_VARIABLE = "OSTEONODE_CONFIG"
SegmenterName = Literal[
    "classical", "network", "checked", "totalsegmentator", "nnunet", "monai", "femur-3d", "femur-2d"
]
"""The rows of ``dicom_node.segmenters.table``."""
HOURS = "([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]"
"""One span of off-peak hours, as ``dicom_node.jobs.offpeak`` reads it."""


class Settings(BaseSettings):
    """Everything an administrator can set."""

    model_config = SettingsConfigDict(env_prefix="OSTEONODE_", frozen=True, extra="forbid")

    data_dir: Path = Field(Path("osteonode-data"), description="Folder for everything the node keeps.")
    ae_title: str = Field("OSTEONODE", description="The node's own application entity title (1 to 16 characters).")
    dicom_host: str = Field("0.0.0.0", description="Address the DICOM service listens on.")  # noqa: S104 - a PACS has to reach it; unknown callers are rejected
    dicom_port: int = Field(11112, ge=0, le=65535, description="TCP port of the DICOM service; 0 picks a free one.")
    dicom_plain: bool = Field(True, description="Listen on `dicom_port` without encryption.")
    dicom_tls_port: int | None = Field(
        None, ge=0, le=65535, description="TCP port of the DICOM service over TLS (2762 is usual); none: no TLS."
    )
    tls_certificate_file: Path | None = Field(None, description="PEM file of the node's certificate chain, for TLS.")
    tls_key_file: Path | None = Field(None, description="PEM file of its private key.")
    tls_authority_file: Path | None = Field(
        None, description="PEM file of the authority that signs the certificates of peers."
    )
    web_host: str = Field("127.0.0.1", description="Address the web service listens on.")
    web_port: int = Field(8080, ge=0, le=65535, description="TCP port of the web service.")
    web_names: tuple[str, ...] = Field(
        (), description="Host names the page is reached by, beside localhost; a JSON list."
    )
    dicomweb: bool = Field(True, description="Answer DICOMweb (QIDO-RS, WADO-RS, STOW-RS) under `/dicom-web`.")
    dicomweb_clients: tuple[str, ...] = Field(
        (),
        description="IP addresses and networks that may use DICOMweb, beside the node's own machine; a JSON list.",
    )
    web_origins: tuple[str, ...] = Field(
        (),
        description="Origins of viewers in browsers that may use DICOMweb (`https://viewer.example`); a JSON list.",
    )
    instance_limit_bytes: int = Field(
        1_000_000_000, ge=1, description="Largest instance taken by STOW-RS or import; one at a time is held in memory."
    )
    upload_limit_bytes: int = Field(
        50_000_000_000, ge=1, description="Largest upload of the import page, all its files together."
    )
    accept_unknown_peers: bool = Field(
        False, description="Accept associations from AE titles that are not configured as peers."
    )
    max_associations: int = Field(25, ge=1, description="Associations served at the same time.")
    max_connections: int = Field(
        100, ge=1, description="Connections without an association; one more closes the one that has waited longest."
    )
    request_timeout_s: float = Field(
        15.0, gt=0, description="A connection that has not asked for an association after so many seconds is closed."
    )
    idle_timeout_s: float = Field(60.0, gt=0, description="An association silent for so many seconds is aborted.")
    slowest_bytes_per_s: float = Field(
        1000.0, gt=0, description="An association that sends a message more slowly counts as silent."
    )
    message_limit_bytes: int = Field(
        8_000_000_000, ge=1, description="A C-STORE longer than this is taken for one that never ends, and aborted."
    )
    receiving_processes: int = Field(
        1, ge=1, le=32, description="Processes that receive over DICOM; 1: the node's own, more: so many beside it."
    )
    refused_sop_classes: tuple[str, ...] = Field(
        (), description="UIDs of SOP classes refused with 0x0122; `private`: all private ones; a JSON list."
    )
    quiet_s: float = Field(
        30.0, gt=0, description="A study is complete when no instance has arrived for this many seconds."
    )
    released_quiet_s: float | None = Field(
        None,
        gt=0,
        description="Quiet time once every association that brought the study was released; none: `quiet_s`.",
    )
    completeness_wait_s: float = Field(
        600.0,
        ge=0,
        description="A study that lacks images the PACS or its rule names is waited for this long; 0: it is not.",
    )
    completeness_policy: Literal["proceed", "hold"] = Field(
        "proceed",
        description="A study that still lacks images then: analyse it with a flag, or hold it for an operator.",
    )
    reserve_bytes: int = Field(
        2_000_000_000, ge=0, description="Free disk space below which instances are refused (0xA700)."
    )
    watermark_percent: float = Field(
        95.0, gt=0, le=100, description="Part of the disk in use above which instances are refused (0xA700); 100: none."
    )
    parallel_jobs: int = Field(
        1, ge=0, description="Steps of jobs run at the same time by this process; 0: it runs none, workers do."
    )
    gpu_jobs: int = Field(
        0, ge=0, description="Steps run at the same time on this process's GPU, beside the others; 0: no GPU is used."
    )
    offpeak_hours: str = Field(
        "20:00-06:00",
        pattern=f"^({HOURS}(,{HOURS})*)?$",
        description="When off-peak work may begin: local times, several with commas between them; empty: always.",
    )
    hold_without_numbers: bool = Field(
        False, description="A job whose flags forbid every number waits for an operator before its results are sent."
    )
    heartbeat_s: float = Field(
        5.0, gt=0, description="Pause between two signs of life of a process that runs jobs (PostgreSQL)."
    )
    stale_s: float = Field(
        30.0, gt=0, description="A process without a sign of life for so long is dead; others take its jobs over."
    )
    job_time_limit_s: float = Field(3600.0, gt=0, description="Time limit of one heavy step.")
    job_memory_limit_bytes: int = Field(
        16_000_000_000, ge=0, description="Address-space limit of one heavy step; 0 sets none."
    )
    delivery_attempts: int = Field(30, ge=1, description="Attempts to deliver to a peer before giving up.")
    delivery_backoff_s: float = Field(
        5.0, gt=0, description="Pause after the first failed delivery; doubled each time, one hour at most."
    )
    commitment_wait_s: float = Field(
        600.0,
        gt=0,
        description="Time a peer has to report on storage commitment before it is asked again; doubled each time, "
        "12 hours at most.",
    )
    verify_identity: bool = Field(
        True, description="Ask a peer that answers C-FIND who the study's patient is now; a difference stops delivery."
    )
    parallel_requests: int = Field(2, ge=1, le=32, description="Requests searched or retrieved at the same time.")
    request_wait_s: float = Field(
        86_400.0,
        ge=0,
        description="A study that is not in the PACS yet, or does not come whole, is tried for this long.",
    )
    request_backoff_s: float = Field(
        30.0, gt=0, description="Pause before a request is tried again; doubled each time, thirty times it at most."
    )
    project: str = Field("default", description="Pseudonym space: the same patient differs between projects.")
    key_dir: Path | None = Field(
        None, description="Folder of the key files; default: hospital/keys in the data folder."
    )
    recipe_file: Path | None = Field(
        None, description="The site's de-identification rules, in the syntax of deid; none: the profile alone."
    )
    calibration_file: Path | None = Field(
        None, description="JSON file of scanner calibration records; none: results are flagged uncalibrated."
    )
    phantom_file: Path | None = Field(
        None, description="JSON file of certificates of phantoms that lie in scans; none: no phantom is looked for."
    )
    internal_calibration: bool = Field(
        False, description="Calibrate by the patient's own tissues where there is neither phantom nor record."
    )
    contrast_correction: bool = Field(
        False,
        description="Show beside the spine's densities of an enhanced scan values less the mean rise by agent.",
    )
    segmenter: SegmenterName = Field(
        "checked", description="What finds the bones where a routing rule names nothing else; see docs/segmenters.md."
    )
    segmenter_folder: Path | None = Field(
        None, description="Folder with a folder of weights for each segmenter; default: segmenters in the data folder."
    )
    element_mm: float = Field(1.5, gt=0, description="Edge of the finite elements of a femur, mm.")
    strength_interval: bool = Field(
        True, description="Compute strengths also for the femur's outline moved by one and two voxels in and out."
    )
    reject_superseded: bool = Field(
        False, description="Send a rejection note (IHE IOCM) for the results that a new run of a study replaces."
    )
    audit_site: str = Field("", description="Site named in audit messages (AuditEnterpriseSiteID).")
    audit_syslog_host: str | None = Field(
        None, description="Audit record repository that audit messages are sent to by syslog; none: they stay here."
    )
    audit_syslog_port: int = Field(6514, ge=1, le=65535, description="Its TCP port (6514 is usual for TLS).")
    audit_syslog_tls: bool = Field(
        True, description="Send them over TLS (PS3.15 A.6); off: over plain TCP, for a collector on this machine."
    )
    audit_syslog_authority_file: Path | None = Field(
        None, description="PEM file of the authority that signs its certificate; none: `tls_authority_file`."
    )
    audit_syslog_certificate_file: Path | None = Field(
        None, description="PEM file of the certificate the node shows it; none: `tls_certificate_file`."
    )
    audit_syslog_key_file: Path | None = Field(None, description="PEM file of its key; none: `tls_key_file`.")
    ledger_days: int = Field(
        365, ge=0, description="Days that rows of the association ledger are kept; 0: always, as the audit is."
    )
    hospital_database_url: str | None = Field(None, description="SQLAlchemy URL; default: SQLite in the data folder.")
    identity_database_url: str | None = Field(None, description="SQLAlchemy URL of the identity map.")
    research_database_url: str | None = Field(None, description="SQLAlchemy URL of jobs and results.")
    engine_database_url: str | None = Field(None, description="Database URL of the durable job engine.")
    log_format: Literal["json", "console"] = Field("json", description="How log lines are rendered.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level logged.")

    @field_validator("ae_title")
    @classmethod
    def _is_ae_title(cls, value: str) -> str:
        if not 1 <= len(value.strip()) <= 16 or "\\" in value or not value.isascii() or not value.isprintable():
            raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash (PS3.5 6.2)")
        return value.strip()

    @model_validator(mode="after")
    def _listens_and_has_what_tls_needs(self) -> "Settings":
        files = (self.tls_certificate_file, self.tls_key_file, self.tls_authority_file)
        if any(files) and not all(files):
            raise ValueError("tls_certificate_file, tls_key_file and tls_authority_file are given together")
        if self.dicom_tls_port is not None and not all(files):
            raise ValueError("dicom_tls_port needs tls_certificate_file, tls_key_file and tls_authority_file")
        if self.dicom_tls_port is None and not self.dicom_plain:
            raise ValueError("without dicom_plain a dicom_tls_port is needed: nobody could reach the node")
        if self.stale_s < 3 * self.heartbeat_s:
            raise ValueError("stale_s is at least three times heartbeat_s: one sign of life may come late")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of precedence: arguments, environment, TOML file."""
        del dotenv_settings, file_secret_settings
        file = os.environ.get(CONFIG_VARIABLE)
        toml = TomlConfigSettingsSource(settings_cls, Path(file)) if file else None
        return (init_settings, env_settings, *((toml,) if toml else ()))

    @property
    def hospital_dir(self) -> Path:
        """Everything that knows patients."""
        return self.data_dir / "hospital"

    @property
    def research_dir(self) -> Path:
        """Everything that must never know patients."""
        return self.data_dir / "research"

    @property
    def keys(self) -> Path:
        """Folder of the key files."""
        return self.key_dir or self.hospital_dir / "keys"

    @property
    def segmenters_dir(self) -> Path:
        """Folder that holds one folder of weights for each segmenter."""
        return self.segmenter_folder or self.data_dir / "segmenters"

    @property
    def hospital_url(self) -> str:
        """URL of the hospital-side state."""
        return self.hospital_database_url or _sqlite(self.hospital_dir / "node.db")

    @property
    def identity_url(self) -> str:
        """URL of the identity map."""
        return self.identity_database_url or _sqlite(self.hospital_dir / "identity.db")

    @property
    def research_url(self) -> str:
        """URL of jobs and results."""
        return self.research_database_url or _sqlite(self.research_dir / "research.db")

    @property
    def engine_url(self) -> str:
        """URL of the durable engine's own tables."""
        return self.engine_database_url or _sqlite(self.research_dir / "engine.db")


def _sqlite(path: Path) -> str:
    return f"sqlite:///{path.resolve()}"
