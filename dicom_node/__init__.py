"""The node: the only package that acts on the world (network, disk, databases, clock)."""

from importlib.metadata import version

__version__ = version("osteonode")
