"""De-identification by rules: DICOM dataset in, clean dataset and report out. Pure: no files, clock or randomness of its own."""
