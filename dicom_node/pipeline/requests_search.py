"""Asking the peers for a request's study, and what follows from their answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.db.models import Peer
from dicom_node.db.request_tables import Request, RequestMatch
from dicom_node.errors import ConfigurationError, NodeError, RetrievalRefused, Unavailable, WrongPatient
from dicom_node.net.sources import Source, StudyMatch, StudyQuery

MOST_INSTANCES = 1_000_000
"""A peer that counts more in one study counts wrongly [m assumption]."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the peers answered: matches by peer, and why some of them gave no answer."""

    matches: tuple[tuple[int, StudyMatch], ...]
    asked: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def nothing_sentence(self) -> str:
        """Say that there was nothing, and who did not answer."""
        silent = " ".join(self.problems)
        having = f"{' and '.join(self.asked)} hold{'s' if len(self.asked) == 1 else ''} no such study."
        return " ".join(part for part in (having if self.asked else "", silent) if part)


def query_of(request: Request) -> StudyQuery:
    """Return what a request looks for."""
    return StudyQuery(
        patient_id=request.patient_id,
        accession_number=request.accession_number,
        date_from=request.study_date_from,
        date_to=request.study_date_to,
        modality=request.modality,
    )


def search(request: Request, sources: Sequence[tuple[Peer, Source]]) -> Found:
    """Ask every peer; one that is away or refuses keeps the others from nothing.

    A study that several peers hold is taken from the first of them.

    Raises
    ------
    WrongPatient
        When the accession number's study belongs to another patient than the request names.
    """
    query = query_of(request)
    found: dict[str, tuple[int, StudyMatch]] = {}
    asked, problems = [], []
    for peer, source in sources:
        try:
            for match in source.find(query):
                found.setdefault(match.study_instance_uid, (peer.id, match))
            asked.append(peer.name)
        except (Unavailable, RetrievalRefused, ConfigurationError) as error:
            problems.append(str(error))
        except NodeError as error:
            problems.append(f"{peer.name} could not be asked ({type(error).__name__}).")
    right = tuple(one for one in found.values() if _is_of(request, one[1]))
    if found and not right:
        raise WrongPatient(
            "The study with this accession number belongs to another patient id than the one in the request; nothing "
            "was retrieved. Correct the request."
        )
    return Found(right, tuple(asked), tuple(problems))


def matches_from(request_id: str, found: Found) -> list[RequestMatch]:
    """Return the rows of what was found."""
    return [
        RequestMatch(
            request_id=request_id,
            peer_id=peer_id,
            study_instance_uid=match.study_instance_uid,
            patient_id=match.patient_id[:64],
            study_date=match.study_date[:8],
            description=match.description[:64],
            modalities=" ".join(match.modalities)[:64],
            instance_count=match.instance_count if (match.instance_count or 0) <= MOST_INSTANCES else None,
        )
        for peer_id, match in found.matches
    ]


def _is_of(request: Request, match: StudyMatch) -> bool:
    return not request.patient_id or match.patient_id in ("", request.patient_id)
