"""`python -m partialnas` is the command line."""

from partialnas.cli import main

if __name__ == "__main__":
    main()
