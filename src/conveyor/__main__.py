"""`python -m conveyor`: the command line."""

from conveyor.cli.main import main

if __name__ == "__main__":
    main()
