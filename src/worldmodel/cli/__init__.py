"""The command `worldmodel`: each subcommand lives beside what it calls, and is imported when it is asked for."""

import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from worldmodel.core.errors import run
from worldmodel.numerics.pinning import pin, pinned_environment

COMMANDS = {  # name: where it lives, what --help says of it
    "run": ("worldmodel.cli.run_stages", "Run the pipeline, or a stage and what it needs, without DVC."),
    "check-logs": (
        "worldmodel.cli.check_logs",
        "Say what logs hold, and what in them is or looks wrong.",
    ),
    "convert": ("worldmodel.cli.convert", "Write logs of another format as the pipeline reads them."),
    "prepare": ("worldmodel.cli.prepare", "Mix logs and dreams into one data set, without DVC."),
    "train": ("worldmodel.cli.train", "Train on logs of yours, from logs to bundle, without DVC."),
    "control": ("worldmodel.cli.control", "Drive a simulator with a bundle's planner, and compare."),
    "serve": ("worldmodel.cli.serve", "Serve a bundle over HTTP and gRPC, to any client."),
    "export-triton": ("worldmodel.cli.export_triton", "Write a bundle as a model repository of Triton's."),
    "report": ("worldmodel.report.build", "Make one HTML page about the trained model."),
    "runs": ("worldmodel.cli.runs", "List what ran, when and where, and how it ended."),
    "sweep": ("worldmodel.sweeps.sweep", "Run all combinations of some params, or search in ranges."),
    "reproduce": ("worldmodel.ci.reproduce", "Run HEAD from nothing and compare all md5 with the committed."),
    "check-files": ("worldmodel.ci.check_files", "Fail where a file is one that DVC waits at for ever."),
    "fresh": ("worldmodel.ci.fresh", "Fail where dvc.lock does not belong to the files here."),
    "gate": ("worldmodel.ci.gates", "Fail where a metric is worse than gates.yaml lets it be."),
    "pr-report": ("worldmodel.ci.pr_report", "Say what changes against the merge base, as Markdown."),
    "merge-driver": ("worldmodel.ci.merge_lock", "Let git merge dvc.lock stage by stage."),
    "remote": ("worldmodel.cli.remote", "Make an S3 bucket the DVC remote, after a round trip to it."),
    "track": ("worldmodel.tracking.export_runs", "Bring runs and their results into MLflow or TensorBoard."),
}


class Commands(click.Group):
    """Subcommands by COMMANDS; a module is imported only where its command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="worldmodel")
def worldmodel() -> None:
    """World models from the logs of an execution system.

    The pipeline itself runs by `dvc repro`, or without DVC by `worldmodel run`; the others are for what surrounds it.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Raises SystemExit with the command's exit code. Results do not depend on what the process has loaded before."""
    if not pin():  # called from a program that has loaded NumPy its own way
        given = sys.argv[1:] if arguments is None else arguments
        command = [sys.executable, "-m", "worldmodel", *given]
        raise SystemExit(subprocess.run(command, env=pinned_environment(), check=False).returncode)
    run(worldmodel, arguments)
