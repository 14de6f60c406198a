"""The demonstration: public scans, a fake identity, a PACS beside the node, and the main job run in front of you."""
