"""Result objects: plain values and source headers in, DICOM SR, SEG, SC and PDF out. Pure."""
