"""The code of a front process: it loads the extension and nothing else.

    python -I -S …/run_front.py EXTENSION LISTENER CONTROL LIFELINE

EXTENSION is the file of `streamfn._core`; the others are descriptors. Without `site`, msgspec and
the rest of streamfn such a process needs a third of a runner's memory.
"""

import signal
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec

IGNORED = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGTSTP),
)
"""The supervisor ends the front by a message, or kills it."""


def main() -> None:
    """Run the front until it is drained."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    extension, *descriptors = sys.argv[1:]
    loader = ExtensionFileLoader("_core", extension)
    core = module_from_spec(ModuleSpec("_core", loader, origin=extension))
    loader.exec_module(core)
    core.run_front(*map(int, descriptors))


if __name__ == "__main__":
    main()
