"""`python -m topos_rt` is the `topos-rt` command."""

from topos_rt.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
