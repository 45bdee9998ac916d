"""`python -m worldmodel`: the command line."""

from worldmodel.cli import main

if __name__ == "__main__":
    main()
