"""FastAPI service and pages for administrators: it shows state and writes intentions; it runs no jobs."""
