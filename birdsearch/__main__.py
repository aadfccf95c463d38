"""Run the command line with `python -m birdsearch`."""

from birdsearch.cli import main

if __name__ == "__main__":
    main()
