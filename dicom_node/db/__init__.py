"""Tables of three databases, how they are opened, and one module of plain query functions per noun."""
