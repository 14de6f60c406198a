"""DICOMweb (PS3.18): STOW-RS, QIDO-RS and WADO-RS for what the node holds and what it has made."""
