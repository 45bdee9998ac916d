"""dvc.yaml against the code: a stage lists all code and params that it can read, and nothing else."""

import ast
import importlib
from pathlib import Path

import yaml

from copies import ROOT
from factories import STAGES
from worldmodel.core import params

SRC = ROOT / "src"
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ALL = list(STAGES)
LEAVES = list(params.leaves(params.Params))

# leaf, or the section of it -> the stages that must rerun; the longest match counts
RERUNS = {
    "dreams": ALL,
    "prepare": ALL,
    "prepare.format": ALL[1:],
    "normalize": ALL,  # dreams are made in standardized units
    "train": ALL[3:],
    "train.history": ALL,
    "train.threads": ALL,
    "train.numerics": ALL,
    "train.device": ALL,
    "export": ALL[4:],
    "validate": ALL[5:],
}
REACHED_BY_NONE = ("report", "control", "serve", "cli", "ci", "sweeps", "tracking", "wire.py", "latent.py")


def modules(path):
    """Dotted names that a file imports; those that are no modules (functions, classes) among them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(module):
    """Of a module and the packages that it lies in, as far as they are here."""
    parts = module.split(".")
    for path in (SRC.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)):
        yield from (file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file())


def closure(stage):
    """Every file of the project that `python src/STAGE.py` imports, now or later."""
    reached, waiting = set(), {SRC / f"{stage}.py"}
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting |= {file for module in modules(path) for file in files(module)} - reached
    return {path.relative_to(ROOT) for path in reached}


def listed(stage):
    """Deps of a stage that are code."""
    return [Path(dep) for dep in PIPELINE[stage]["deps"] if dep.startswith("src/")]


def own_params(stage):
    """Leaves of params.yaml that a stage lists, by themselves or by a section."""
    names = [each for each in PIPELINE[stage]["params"] if isinstance(each, str)]
    return [leaf for leaf in LEAVES if any(leaf == name or leaf.startswith(f"{name}.") for name in names)]


def test_the_stages_are_the_six_in_their_order():
    assert list(PIPELINE) == ALL


def test_a_stage_lists_the_code_that_it_imports_and_nothing_of_which_it_imports_nothing():
    for stage in ALL:
        needed, deps = closure(stage), listed(stage)
        holders = {path: [dep for dep in deps if path.is_relative_to(dep)] for path in needed}
        assert {path: found for path, found in holders.items() if len(found) != 1} == {}, stage
        used = {dep for path, (dep,) in holders.items() if path == dep or path.name != "__init__.py"}
        assert set(deps) - used == set(), stage


def test_what_surrounds_the_pipeline_reruns_nothing():
    for name in REACHED_BY_NONE:
        place = Path("src/worldmodel", name)
        assert (ROOT / place).exists()
        assert not [stage for stage in ALL if any(place.is_relative_to(dep) for dep in listed(stage))], name


def test_dreams_depends_on_the_simulator_that_params_names():
    simulator = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["dreams"]["simulator"]
    entry = Path(*simulator.split(":")[0].split(".")).with_suffix(".py")
    assert {entry.as_posix(), *_neighbours(ROOT / entry)} <= set(PIPELINE["dreams"]["deps"])


def _neighbours(path):
    """Modules of the same folder that a file imports."""
    names = {name.split(".")[0] for name in modules(path)}
    return {f"{path.parent.name}/{name}.py" for name in names if path.with_name(f"{name}.py").exists()}


def test_a_stage_lists_the_params_and_library_versions_that_it_can_read():
    for stage, declared in STAGES.items():
        assert own_params(stage) == list(params.leaves(declared)), stage
        libraries = importlib.import_module(f"worldmodel.stages.{stage}").LIBRARIES
        assert PIPELINE[stage]["params"][-1] == {"versions.yaml": list(libraries)}, stage


def after(stage):
    """The stages that use what this one makes, and those that use what they make."""
    made = set(PIPELINE[stage].get("outs", []))
    users = [name for name, other in PIPELINE.items() if made & set(other["deps"])]
    return set(users).union(*(after(user) for user in users))


def test_a_param_reruns_the_stages_that_it_must():
    for leaf in LEAVES:
        key = max((key for key in RERUNS if f"{leaf}.".startswith(f"{key}.")), key=len)
        first = {stage for stage in ALL if leaf in own_params(stage)}
        assert [stage for stage in ALL if stage in first.union(*map(after, first))] == RERUNS[key], leaf


def test_a_stage_runs_its_own_door_says_what_it_does_and_keeps_its_run_cache():
    for stage, entry in PIPELINE.items():
        assert entry["cmd"].startswith(f"python src/{stage}.py ")
        assert not set(entry["cmd"]) & set("|&;<>$`")
        assert entry["desc"]
        assert all(isinstance(out, str) for out in entry.get("outs", [])), stage
