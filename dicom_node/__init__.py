"""The node: the only package that acts on the world (network, disk, databases, clock)."""
