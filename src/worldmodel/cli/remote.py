"""Make an S3 bucket, Amazon's or another server's, the DVC remote of this project, once it has stood a round trip.

Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, .dvc/config.local or ~/.aws; none ever reaches .dvc/config.
"""

import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import click
from botocore.config import Config as Transport
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, NoCredentialsError
from dvc.config import Config

from worldmodel.core.options import PATH
from worldmodel.core.project import project_folder

REMOTE = "storage"
KEYS = {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY"}
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
        raise ValueError(f"URL={url}: expected s3://bucket/path, such as s3://models/worldmodel")
    if endpoint and not re.fullmatch(r"https?://[^/?#\s]+/?", endpoint):
        raise ValueError(f"ENDPOINT={endpoint}: expected http://host:port or https://host, and nothing after it")
    return Place(found[1], found[2] or "", endpoint.rstrip("/") if endpoint else None)


def environment_keys() -> dict[str, str]:
    """Raises ValueError where they are not both set."""
    missing = [variable for variable in KEYS.values() if not os.environ.get(variable)]
    if missing:
        raise ValueError(f"KEYS=keep: {' and '.join(missing)} not set; set both for this one call")
    return {name: os.environ[variable] for name, variable in KEYS.items()}


def round_trip(place: Place, settings: dict[str, Any], folder: Path) -> None:
    """Write, read and delete one small object; raises ValueError that says in one line what stands in the way."""
    key, content = "/".join(filter(None, [place.prefix, f"round-trip-{uuid.uuid4().hex}"])), os.urandom(64)
    try:
        client = _client(place, settings, folder)
        client.put_object(Bucket=place.bucket, Key=key, Body=content)
        answer = client.get_object(Bucket=place.bucket, Key=key)["Body"].read()
        client.delete_object(Bucket=place.bucket, Key=key)
    except NoCredentialsError:
        raise ValueError(f"{place.server}: no keys found; set {' and '.join(KEYS.values())}") from None
    except ClientError as error:
        raise ValueError(_refusal(place, settings, error)) from None
    except (ConnectionError, HTTPClientError) as error:
        raise ValueError(f"{place.server}: no answer ({error}); is it running, and is ENDPOINT right?") from None
    except BotoCoreError as error:
        raise ValueError(f"{place}: {error}") from None
    if answer != content:
        raise ValueError(f"{place}: {place.server} gave back other bytes than it was given; do not trust it with data")


def _client(place: Place, settings: dict[str, Any], folder: Path) -> Any:
    session = botocore.session.Session(profile=settings.get("profile"))
    if place.endpoint and "AWS_CONFIG_FILE" not in os.environ:
        session.set_config_variable("config_file", str(folder / NO_CHECKSUMS))
    if "credentialpath" in settings:
        session.set_config_variable("credentials_file", settings["credentialpath"])
    return session.create_client(
        "s3",
        endpoint_url=place.endpoint,
        region_name=settings.get("region"),
        verify=settings.get("ssl_verify"),
        aws_access_key_id=settings.get("access_key_id"),
        aws_secret_access_key=settings.get("secret_access_key"),
        aws_session_token=settings.get("session_token"),
        config=Transport(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2}),
    )


def _refusal(place: Place, settings: dict[str, Any], error: ClientError) -> str:
    code, message = (error.response["Error"].get(name, "") for name in ("Code", "Message"))
    if code == "NoSuchBucket":
        return f"{place}: {place.server} has no bucket {place.bucket}; make it first, or correct URL"
    if code in DENIED:
        origin = ".dvc/config.local" if "access_key_id" in settings else "AWS_* or ~/.aws"
        return f"{place}: {place.server} refuses the keys of {origin} ({code}: {message}); set the right ones"
    return f"{place}: {place.server} answers {code}: {message}"


def configure(folder: Path, place: Place, keys: dict[str, str]) -> Path:
    """Check the place with what is configured already and these keys, then write it; returns the file written."""
    config = Config(str(folder / ".dvc"))
    round_trip(place, config.get("remote", {}).get(REMOTE, {}) | keys, folder)
    with config.edit("repo") as shared:
        shared.setdefault("core", {})["remote"] = REMOTE
        remote = shared.setdefault("remote", {}).setdefault(REMOTE, {})
        for stale in ("endpointurl", "configpath", "version_aware"):
            remote.pop(stale, None)
        remote |= {"url": str(place), "verify": True}
        if place.endpoint:
            here = os.path.relpath(folder / NO_CHECKSUMS)  # DVC writes relative paths so that they hold in every clone
            remote |= {"endpointurl": place.endpoint, "configpath": here}
    if keys:
        _keep(config, folder / ".dvc" / "config.local", keys)
    return folder / ".dvc" / "config"


def _keep(config: Config, path: Path, keys: dict[str, str]) -> None:
    path.touch()
    path.chmod(0o600)
    with config.edit("local") as own:
        own.setdefault("remote", {}).setdefault(REMOTE, {}).update(keys)


@click.command()
@click.argument("url")
@click.option("--endpoint", help="http://host:port of a server other than Amazon's.")
@click.option("--keep-keys", is_flag=True, help="Store the keys of AWS_* in .dvc/config.local.")
@click.option("--folder", type=PATH, help="Another DVC project than the one that this is called in.")
def command(url: str, endpoint: str | None, keep_keys: bool, folder: Path | None) -> None:
    """Make URL (s3://bucket/path) the DVC remote, once an object was written, read and deleted there."""
    place = parse_place(url, endpoint or None)
    written = configure(folder or project_folder(), place, environment_keys() if keep_keys else {})
    print(f"{place} at {place.server}: wrote, read and deleted an object; it is the default remote in {written}")
