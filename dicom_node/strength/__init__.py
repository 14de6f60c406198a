"""Bone strength from files: what ``osteonode fe`` reads, computes and writes, without network or database."""
