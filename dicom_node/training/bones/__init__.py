"""Training of the network that finds bones: labelled subjects, how they are changed, and how they are shown."""
