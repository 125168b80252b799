"""`detok`, the command line: one file a verb, which reads the options, calls the library and prints what came out.

arguments -tyro-> a frozen request -> `run(request)` of the verb's file -> files on disk, a summary on stdout.
What the user can put right ends as one line on stderr and exit code 2; `--debug` or DETOK_DEBUG=1 shows the traceback.

Nothing but the standard library is imported before `main` runs, so that an interrupt in the first second is caught too.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

PACKAGE = "detokenizers"
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one `detok` command and return its exit code: 0 done, 2 a clear error, 130 interrupted."""
    try:
        return _exit_code(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        print("detok: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED


def _exit_code(arguments: list[str]) -> int:
    debug = "--debug" in arguments or os.environ.get("DETOK_DEBUG", "0") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--debug"]
    # Waiting threads sleep instead of spinning: 6 s instead of 19 s for one picture while other work has a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The arrows of a table, or a prompt, may be more than a redirected stdout can write; results are in files.
        with suppress(OSError):  # a stream that was opened for reading too cannot be changed
            sys.stdout.reconfigure(errors="replace")
    if not debug:
        _silence_libraries()
    try:
        _run(arguments)
    except SystemExit as end:  # tyro has printed the help
        return int(end.code or 0)
    except BrokenPipeError:  # `detok recipes | head`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  (its flush at exit must not fail as well)
        return 0
    except Exception as error:
        from ..failure import one_line

        line = one_line(error)
        if debug or line is None:
            raise
        print(f"detok: {line}", file=sys.stderr)
        return 2
    return 0


def _run(arguments: list[str]) -> None:
    """Read the verb's request and hand it to the verb's file; without a verb, print what there is."""
    from functools import partial
    from importlib import import_module

    from . import verbs
    from .command_line import choose, parse, require_readable

    require_readable(arguments)
    verb, *rest = arguments or ["--help"]
    if verb == "--version":
        print(f"{PACKAGE} {import_module(PACKAGE).__version__}")
    elif verb in verbs.VERBS:
        module = import_module(f".{verb}", __package__)
        # The options of `train` and `distill` are those of a recipe.
        parsed = getattr(module, "parsed", partial(parse, verbs.VERBS[verb], prog=f"detok {verb}"))
        request = parsed(rest)
        if verb in verbs.SHARED or import_module("..device", __package__).is_first():
            module.run(request)
    else:
        choose(verbs.VERBS, [verb], prog="detok", description=verbs.__doc__ or "")


def _silence_libraries() -> None:
    """Silence the warnings and progress bars of the libraries below; ours prints its own."""
    import logging
    import warnings

    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    warnings.filterwarnings("ignore")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("detok: %(message)s"))
    logging.getLogger(PACKAGE).handlers = [handler]
