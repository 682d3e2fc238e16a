"""`python -m docqa`: the same program as the `docqa` command."""

from docqa.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
