"""Training: one loop for every network, a table of tasks, and the data each task reads or makes."""
