"""What the console adds to the command line: `serve`, `up` and `console`.

Imported at every start of `conveyor`: nothing heavy before a command runs.
"""

from conveyor_console.cli.commands import console, serve, up

__all__ = ["console", "serve", "up"]
