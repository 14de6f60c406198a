"""Benchmarks: each runs its peers beside ours in one run and states ratios. They never gate on seconds."""
