"""The tests; a package of its own name, for MONAI installs one called tests too."""
