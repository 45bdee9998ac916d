"""The stage dreams, as dvc.yaml calls it; what it does stands in worldmodel/stages/dreams.py."""

from worldmodel.numerics.pinning import pin

if __name__ == "__main__":
    pin()  # before NumPy is loaded
    from worldmodel.core.errors import outer_edge, run

    with outer_edge():
        from worldmodel.core.outdated import remove_outdated_metrics

        remove_outdated_metrics()
        from worldmodel.stages.dreams import command

        run(command)
