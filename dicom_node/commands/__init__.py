"""The subcommands of ``osteonode``, one module a noun; each function takes settings, options and a console."""
