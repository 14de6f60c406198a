"""The trained network that finds bones: its classes, its layers, its weights, and the segmenter around it."""
