"""The subcommands of `topos-rt`, one module each, listed in `topos_rt.cli.main.COMMANDS`.

A command's module offers `add_options(parser)` and `run(arguments, console) -> int`, the exit code.
"""
