"""Where things are on this machine: the layout of the home folder and of the run folder with its sockets.

Supervisor, server, gateway and CLI all find each other through it. Creating a path is the business of whoever owns it;
only the two folders that must be private are made here.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator_runtime.contract.errors import Forbidden

HOME_VARIABLE = "ORCHESTRATOR_HOME"
UNIX_PATH_BYTES = 107  # what sun_path holds, less the final zero
SOCKET_NAME_BYTES = 60  # room for the longest name below the run folder, instances/UUID.sock


@dataclass(frozen=True, slots=True)
class Home:
    """One installation's data, all below `root`, except for a run folder whose socket paths would be too long."""

    root: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Home:
        """ORCHESTRATOR_HOME; else `.orchestrator` in the checkout that this program runs from; else in ~."""
        given = environ.get(HOME_VARIABLE)
        if given:
            return cls(Path(given).expanduser().absolute())
        checkout = Path(__file__).resolve().parent.parent
        base = checkout if (checkout / "pyproject.toml").exists() else Path.home()
        return cls(base / ".orchestrator")

    @property
    def database(self) -> Path:
        return self.root / "orchestrator.db"

    @property
    def master_key(self) -> Path:
        return self.root / "master.key"

    @property
    def owner_token(self) -> Path:
        return self.root / "owner-token"

    @property
    def address(self) -> Path:
        """A file with the URL that the gateway serves at."""
        return self.root / "address"

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    def organization(self, organization: str) -> Path:
        return self.root / "organizations" / organization

    def sources(self, organization: str) -> Path:
        """Unpacked versions, one folder per content digest."""
        return self.organization(organization) / "sources"

    def environments(self, organization: str) -> Path:
        """Built environments, one folder per lock digest."""
        return self.organization(organization) / "environments"

    def cache(self, organization: str) -> Path:
        return self.organization(organization) / "cache"

    def log(self, organization: str, revision: str) -> Path:
        """JSON lines of all instances of one revision."""
        return self.root / "logs" / organization / f"{revision}.log"

    @property
    def run(self) -> Path:
        """The run folder: HOME/run, or a short one below the temporary folder where that is too long for a socket."""
        path = self.root / "run"
        if len(os.fsencode(path)) + SOCKET_NAME_BYTES <= UNIX_PATH_BYTES:
            return path
        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"orchestrator-{os.geteuid()}-{name}"

    @property
    def api_socket(self) -> Path:
        return self.run / "api.sock"

    @property
    def journal_socket(self) -> Path:
        return self.run / "journal.sock"

    @property
    def control_socket(self) -> Path:
        return self.run / "control.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def instance_sockets(self) -> Path:
        return self.run / "instances"

    @property
    def networks(self) -> Path:
        """A folder for each user-mode network that is being started, with its socket."""
        return self.run / "networks"

    @property
    def supervisor_pid(self) -> Path:
        return self.run / "supervisor.pid"

    def make(self) -> None:
        """Create the home and the run folder, readable for nobody else.

        Raises `Forbidden` (`folder_not_ours`) if one of them belongs to another user: it could have been put there to
        listen on our sockets.
        """
        for folder in (self.root, self.run):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = folder.lstat()
            if found.st_uid != os.geteuid() or folder.is_symlink():
                raise Forbidden(
                    f"{folder} belongs to another user or is a link",
                    code="folder_not_ours",
                    hint=f"Remove it, or set {HOME_VARIABLE} to a folder of your own.",
                )
            folder.chmod(0o700)
