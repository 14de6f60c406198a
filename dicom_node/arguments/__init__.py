"""The arguments of every subcommand of ``osteonode``; they run in ``dicom_node.commands``."""
