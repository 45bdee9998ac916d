"""People who work on one project: clones of it, and an S3 server between them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from copies import ENVIRONMENT, Copy

KEYS = {"AWS_ACCESS_KEY_ID": "worker", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests"}
RCLONE = Path(sys.executable).with_name("rclone")
FOREIGN = ("AWS_", "DVC_", "RCLONE_")  # variables of whoever runs the tests


class Server:
    """`rclone serve s3` on a free loopback port: real signatures, and a folder that outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "buckets"
        (self.folder / "team").mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / "rclone.log"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [RCLONE, "serve", "s3", self.folder, "--addr", f"127.0.0.1:{self.port}", "--config", os.devnull]
        keys = ",".join(KEYS.values())
        with self.log.open("a") as log:
            self.process = subprocess.Popen([*command, "--auth-key", keys], stdout=log, stderr=log)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise TimeoutError(f"{RCLONE} does not listen on {self.endpoint}: {self.log.read_text()}")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=60)

    def restart(self) -> None:
        """So that it sees what a test has changed in its folder."""
        self.kill()
        self.start()

    def objects(self) -> list[Path]:
        """Under the path that the members push to; without what rclone has not yet renamed to its object."""
        files = (path for path in (self.folder / "team" / "worldmodel").rglob("*") if path.is_file())
        return sorted(path for path in files if not path.name.startswith(".rclone_temp_put_"))


class Member(Copy):
    """Someone's clone, with keys and DVC state of their own."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        own = {"DVC_SITE_CACHE_DIR": f"{folder}.site", "AWS_EC2_METADATA_DISABLED": "true", "DVC_NO_ANALYTICS": "1"}
        own["HOME"] = str(folder.parent)  # no ~/.aws
        own |= {
            f"GIT_{who}_{what}": f"test@{folder.name}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        clean = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(FOREIGN)}
        self.environment = clean | own | variables

    @classmethod
    def copied(cls, other: Copy, folder: Path, **variables: str) -> "Member":
        """With cache and run cache."""
        shutil.copytree(other.folder, folder, symlinks=True)
        return cls(folder, **variables)

    @classmethod
    def cloned(cls, other: Copy, folder: Path, **variables: str) -> "Member":
        """With what git has and nothing else."""
        member = cls(folder.parent, **variables)
        member.run("git", "clone", "--quiet", str(other.folder), str(folder))
        return cls(folder, **variables)
