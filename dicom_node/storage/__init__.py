"""What the node keeps on disk: write-once files, and the verdict on whether a study is complete."""
