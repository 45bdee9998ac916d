"""Who may ask: a token, certificates of clients, or whoever is on this machine."""

import hmac
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from worldmodel.serve.tensors import Refused

VARIABLE = "WORLDMODEL_TOKEN"


@dataclass(frozen=True)
class Access:
    token: str = ""
    certificate: Path | None = None  # PEM, of the server
    key: Path | None = None
    clients: Path | None = None  # PEM, of whoever signs the certificates of clients

    def require(self, authorization: str) -> None:
        """Raises Refused where the header is not that of the token."""
        expected = f"Bearer {self.token}"
        if self.token and not hmac.compare_digest(authorization.encode(), expected.encode()):
            raise Refused("no valid token, expected the header `Authorization: Bearer TOKEN`", 401)

    def require_for(self, host: str, insecure: bool) -> None:
        """Raises ValueError where anybody on the network could ask."""
        if bool(self.certificate) != bool(self.key) or (self.clients and not self.key):
            raise ValueError("--tls-cert and --tls-key go together, and --tls-client-ca needs both")
        if not (insecure or self.token or self.clients or _local(host)):
            raise ValueError(
                f"{host} is open to others: set {VARIABLE}, or --tls-client-ca, or say --insecure if anybody may ask"
            )


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
