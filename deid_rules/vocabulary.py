"""The words a description may keep under Clean Descriptors: anatomy, protocol and reconstruction.

Everything else is dropped, names above all. Numbers are kept up to three digits, for thickness and kernels.
"""

import re

_TOKEN = re.compile(r"[A-Za-z]+|\d+")

_LIST = """
ABDOMEN ABDOMINAL ANGIO ARM ARTERIAL AX AXIAL BECKEN BEIN BODY BONE BRUST CERVICAL CHEST COR CORONAL
CONTRAST CT CTA DELAYED DOSE FEMUR FOOT FOREARM HAND HEAD HELICAL HIP HIPS HUEFTE KERNEL KNEE KNOCHEN
KONTRAST LEG LOW LUMBAR LUNG LWS MM MPR NATIV NATIVE NECK NONCONTRAST PELVIS PHANTOM PHASE PORTAL
PORTALVENOUS PROXIMAL QCT RADIUS RECON ROUTINE SACRUM SAG SAGITTAL SCAN SERIES SHARP SHOULDER SLICE SOFT
SPINE STANDARD STUDY THICK THIN THORACIC THORAX TIBIA TISSUE TRUNK UNENHANCED VENOUS VERTEBRA VERTEBRAE WITH
WITHOUT WO
"""
WORDS = frozenset(_LIST.split())
"""[m] assumption: the project's own list of words in CT protocol names, English and German."""


def known_words(text: str) -> str:
    """Return the words of a description that are in the list, and its short numbers, joined by spaces."""
    tokens = _TOKEN.findall(text)
    kept = [token for token in tokens if token.upper() in WORDS or (token[0].isdecimal() and len(token) <= 3)]
    return " ".join(kept)
