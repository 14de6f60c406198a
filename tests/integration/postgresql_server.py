"""A private PostgreSQL server in a temporary folder."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path


class PostgresqlServer:
    """A server that listens on a socket in its own folder. PostgreSQL refuses to run as root."""

    def __init__(self) -> None:
        self._tools = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self._folder = Path(tempfile.mkdtemp(prefix="osteonode-postgresql-"))
        self._user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._user:
            shutil.chown(self._folder, "postgres")
        self._run(str(self._tools / "initdb"), "-D", str(self._folder / "data"), "-U", "postgres", "-A", "trust")
        self._options = f"-k {self._folder} -c listen_addresses='' -c fsync=off"
        self._control("-w", "-o", self._options, "start")

    def fresh(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self._run("psql", "-h", str(self._folder), "-U", "postgres", "-c", f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@/{name}?host={self._folder}"

    def restart(self, down_s: float = 0.0) -> None:
        """Restart the server, after it was away for a while; every connection breaks."""
        self._control("-w", "-m", "fast", "stop")
        time.sleep(down_s)
        self._control("-w", "-o", self._options, "start")

    def stop(self) -> None:
        """Stop the server and delete its folder."""
        self._control("-m", "immediate", "stop")
        shutil.rmtree(self._folder)

    def _control(self, *words: str) -> None:
        log = self._folder / "log"
        self._run(str(self._tools / "pg_ctl"), "-D", str(self._folder / "data"), "-l", str(log), *words)

    def _run(self, *words: str) -> None:
        subprocess.run([*self._user, *words], check=True, capture_output=True, cwd=self._folder)
