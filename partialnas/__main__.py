"""Run the command line with `python -m partialnas`."""

from partialnas.cli import main

if __name__ == "__main__":
    main()
