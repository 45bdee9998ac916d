"""onnxruntime-web, which runs the bundle's graphs in a browser: one version, through npm, in a folder of the user's."""

import base64
import hashlib
import os
import tarfile
from pathlib import Path
from typing import NamedTuple

from worldmodel.core.atomic import replacing
from worldmodel.core.processes import output
from worldmodel.core.temporary import temporary_folder

PACKAGE = "onnxruntime-web@1.30.0"
FILE = PACKAGE.replace("@", "-") + ".tgz"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
SCRIPT, WASM = (f"package/dist/{name}" for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"))


class Runtime(NamedTuple):
    script: bytes
    wasm: bytes


def runtime() -> Runtime:
    """From the cache, or through npm into it. Raises ValueError where that fails, or where it is another file."""
    path = cached()
    if not path.is_file():
        _fetch(path)
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if digest != SHA512:
        raise ValueError(f"{path}: its sha512 is {digest}, expected {SHA512}; remove it, it is fetched again")
    with tarfile.open(path) as archive:
        return Runtime(*(_member(archive, name) for name in (SCRIPT, WASM)))


def cached() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "worldmodel" / FILE


def _fetch(path: Path) -> None:
    with temporary_folder() as folder:
        try:
            output("npm", "pack", PACKAGE, "--ignore-scripts", "--silent", folder=folder)
        except ValueError as error:
            raise ValueError(
                f"{error}\nThe explorer needs {FILE}: call `npm pack {PACKAGE}` where npm reaches its registry, and "
                f"move the file to {path}"
            ) from None
        with replacing(path) as temporary:
            temporary.write_bytes((folder / FILE).read_bytes())


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    with file:
        return file.read()
