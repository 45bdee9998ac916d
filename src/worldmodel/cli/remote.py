"""Make an S3 bucket, Amazon's or another server's, the DVC remote of this project, once it has stood a round trip.

Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, .dvc/config.local or ~/.aws; none ever reaches .dvc/config.
"""

import os
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ConnectionError, HTTPClientError, NoCredentialsError
from dvc.config import Config
from dvc.exceptions import DvcException
from dvc.fs import get_cloud_fs

from worldmodel.core.addresses import public
from worldmodel.core.options import PATH
from worldmodel.core.project import project_folder

REMOTE = "storage"
KEYS = {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY"}
TOKEN = ("session_token", "AWS_SESSION_TOKEN")  # of keys that expire
IMPATIENT = {"connect_timeout": 5, "read_timeout": 20}  # seconds
OURS = ("url", "endpointurl", "configpath", "version_aware", "verify")
NO_CHECKSUMS = Path(".dvc/aws.ini")  # for servers that do not know the newer ones
DENIED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "InvalidToken", "ExpiredToken", "403"}


@dataclass(frozen=True)
class Place:
    bucket: str
    prefix: str
    endpoint: str | None  # None: Amazon's

    def __str__(self) -> str:
        return "/".join(filter(None, [f"s3://{self.bucket}", self.prefix]))

    @property
    def server(self) -> str:
        return self.endpoint or "Amazon S3"


def parse_place(url: str, endpoint: str | None) -> Place:
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/+(.*?))?/*", url)
    if not found:
        raise ValueError(f"URL={public(url)}: expected s3://bucket/path, such as s3://models/worldmodel")
    if endpoint and not re.fullmatch(r"https?://[^/?#@\s]+/?", endpoint):
        raise ValueError(
            f"ENDPOINT={public(endpoint)}: expected http://host:port or https://host, and nothing after it, nor keys "
            "before the host"
        )
    return Place(found[1], found[2] or "", endpoint.rstrip("/") if endpoint else None)


def environment_keys() -> dict[str, str]:
    """With the token of keys that expire. Raises ValueError where the two keys are not both set."""
    missing = [variable for variable in KEYS.values() if not os.environ.get(variable)]
    if missing:
        raise ValueError(f"KEYS=keep: {' and '.join(missing)} not set; set both for this one call")
    return {name: os.environ[variable] for name, variable in (*KEYS.items(), TOKEN) if os.environ.get(variable)}


def round_trip(place: Place, settings: dict[str, Any]) -> None:
    """Write, read and delete one small object, as DVC does with these settings of a remote.

    Raises ValueError that says in one line what stands in the way.
    """
    path = "/".join(filter(None, [place.bucket, place.prefix, f"round-trip-{uuid.uuid4().hex}"]))
    content = os.urandom(64)
    try:
        kind, options, _ = get_cloud_fs(None, **settings | IMPATIENT)
        system = kind(**options)
        system.fs_args["config_kwargs"]["retries"] = {"total_max_attempts": 2}
        system.fs.pipe_file(path, content)
        answer = system.fs.cat_file(path)
        system.fs.rm_file(path)
    except NoCredentialsError:
        raise ValueError(f"{place.server}: no keys found; set {' and '.join(KEYS.values())}") from None
    except (ConnectionError, HTTPClientError) as error:
        raise ValueError(f"{place.server}: no answer ({error}); is it running, and is ENDPOINT right?") from None
    except BotoCoreError as error:
        raise ValueError(f"{place}: {error}") from None
    except OSError as error:
        raise ValueError(_refusal(place, settings, error)) from None
    if answer != content:
        raise ValueError(f"{place}: {place.server} gave back other bytes than it was given; do not trust it with data")


def _refusal(place: Place, settings: dict[str, Any], error: OSError) -> str:
    answer = getattr(error.__cause__, "response", {}).get("Error", {})
    code, message = answer.get("Code", type(error).__name__), answer.get("Message", error)
    if code == "NoSuchBucket":
        return f"{place}: {place.server} has no bucket {place.bucket}; make it first, or correct URL"
    if code in DENIED:
        origin = ".dvc/config.local" if "access_key_id" in settings else "AWS_* or ~/.aws"
        return f"{place}: {place.server} refuses the keys of {origin} ({code}: {message}); set the right ones"
    return f"{place}: {place.server} answers {code}: {message}"


def configure(folder: Path, place: Place, keys: dict[str, str]) -> Path:
    """Check the place with what is configured already and these keys, then write it; returns the file written."""
    config, switch = Config(str(folder / ".dvc")), folder / NO_CHECKSUMS
    settings = {"url": str(place), "verify": True}
    if place.endpoint:
        settings |= {"endpointurl": place.endpoint, "configpath": str(switch)}
    dropped = (*OURS, TOKEN[0]) if keys else OURS
    known = {name: value for name, value in config.get("remote", {}).get(REMOTE, {}).items() if name not in dropped}
    round_trip(place, known | keys | settings)
    with config.edit("repo") as shared:
        shared.setdefault("core", {})["remote"] = REMOTE
        remote = shared.setdefault("remote", {}).setdefault(REMOTE, {})
        _replace(remote, OURS, settings)
        if place.endpoint:
            remote["configpath"] = os.path.relpath(switch)  # DVC writes relative paths so that they hold in every clone
    if keys:
        local = folder / ".dvc" / "config.local"
        local.touch()
        local.chmod(0o600)
        with config.edit("local") as own:
            _replace(own.setdefault("remote", {}).setdefault(REMOTE, {}), (*KEYS, TOKEN[0]), keys)
    return folder / ".dvc" / "config"


def _replace(settings: dict[str, Any], names: Iterable[str], values: dict[str, Any]) -> None:
    for name in names:
        settings.pop(name, None)
    settings |= values


@click.command()
@click.argument("url")
@click.option("--endpoint", help="http://host:port of a server other than Amazon's.")
@click.option("--keep-keys", is_flag=True, help="Store the keys of AWS_* in .dvc/config.local.")
@click.option("--folder", type=PATH, help="Another DVC project than the one that this is called in.")
def command(url: str, endpoint: str | None, keep_keys: bool, folder: Path | None) -> None:
    """Make URL (s3://bucket/path) the DVC remote, once an object was written, read and deleted there."""
    place, keys = parse_place(url, endpoint or None), environment_keys() if keep_keys else {}
    try:
        written = configure(folder or project_folder(), place, keys)
    except DvcException as error:  # such as a mistake in .dvc/config
        raise ValueError(" ".join(str(error).split())) from None
    print(f"{place} at {place.server}: wrote, read and deleted an object; it is the default remote in {written}")
    if TOKEN[0] in keys:
        print(f"the keys that were kept are temporary: when {TOKEN[1]} has expired, call this again with new ones")
