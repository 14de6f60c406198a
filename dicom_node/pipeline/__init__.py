"""From a complete study to delivered results: the flow, and what each step of it does to the world."""
