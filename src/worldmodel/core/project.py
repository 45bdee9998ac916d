"""Where a command finds the project that it is called in, and params where there is none."""

from pathlib import Path

PARAMS = "params.yaml"


def project_folder() -> Path:
    """The nearest folder, here or above, with a dvc.yaml. Raises ValueError where there is none."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise ValueError(f"{here}: no dvc.yaml here or above; call this in the folder of the pipeline")


def default_params() -> Path:
    """params.yaml of the folder that this is called in, else the one that the package brings."""
    own = Path.cwd() / PARAMS
    beside = Path(__file__).parents[1] / PARAMS  # of an installed package; in a checkout it lies above src/
    return next((path for path in (own, beside) if path.is_file()), Path(__file__).parents[3] / PARAMS)
