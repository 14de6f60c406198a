"""What every DICOMweb service works on: the hospital database, the files, the catalogue and the intake."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from fastapi import HTTPException

from dicom_node.db.dicomweb import Held, held
from dicom_node.db.session import transaction
from dicom_node.dicomweb.catalogue import Catalogue
from dicom_node.dicomweb.place import Place
from dicom_node.storage.intake import Intake


@dataclass(frozen=True, slots=True)
class Archive:
    """The parts; ``folder`` is the hospital-side one, to which the paths of instances are relative."""

    engine: sa.Engine
    folder: Path
    catalogue: Catalogue
    intake: Intake
    instance_limit_bytes: int
    idle_timeout_s: float
    tell: Callable[..., None] = lambda *events: None  # noqa: ARG005 - an archive without an audit
    """Takes events of the audit."""

    def find(self, place: Place) -> list[Held]:
        """Return every instance of a place that there is a file of.

        Raises
        ------
        HTTPException
            404 when there is none.
        """
        found = self._held(place)
        if not found or not place.instance:
            self.catalogue.bring_up_to_date()  # results the node made are found by the catalogue
            found = self._held(place)
        if not found:
            raise HTTPException(404, "The node holds nothing of that address.")
        return found

    def path(self, instance: Held) -> Path:
        """Return an instance's file."""
        return self.folder / instance.path

    def _held(self, place: Place) -> list[Held]:
        with transaction(self.engine) as session:
            return held(session, place.study, place.series or None, place.instance or None)
