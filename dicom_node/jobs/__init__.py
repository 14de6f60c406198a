"""The durable engine behind one small port, and the child processes that carry the heavy steps."""
