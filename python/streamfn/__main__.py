"""`python -m streamfn`."""

from streamfn.cli.main import main

if __name__ == "__main__":
    main()
