"""The command line. Verbs are listed here and imported only when used, so that `striate --help` costs nothing."""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from striate.app.stopping import ERROR_FILE, StopRequests, end_with_parent, stop_requests
from striate.cluster.torchrun import speaks, started
from striate.errors import BadInput, Interrupted, StriateError

# verb -> (module under striate.app.commands, what it does)
VERBS = {
    "demo": ("demo", "learn filters from the photographs that ship with scikit-image, in about a minute"),
    "learn": ("learn", "a folder of pictures in, a report with learned features out"),
    "import": ("import_", "bring pictures of any format into a store"),
    "info": ("info", "what a store holds"),
    "clean": ("clean", "set empty pictures aside: mostly white, of a single colour, drawn"),
    "dedupe": ("dedupe", "find near-duplicates, and leakage between sets"),
    "label": ("label", "gather, label and verify classes on a local page"),
    "split": ("split", "balanced training and test sets, near-duplicates on one side"),
    "export": ("export", "publish a labelled set; or a model as ONNX, .pt2, safetensors, a Hub folder"),
    "train": ("train", "run a recipe"),
    "replicas": ("replicas", "who trains a run at this moment; more of them, or fewer"),
    "resume": ("resume", "go on with a run that was stopped, exactly"),
    "probe": ("probe", "are the features any good? logistic regression on pixels and on features"),
    "encode": ("encode", "features of a whole store, as Parquet, numpy or safetensors"),
    "search": ("search", "pictures like this one, like these, or what a unit answers to"),
    "classify": ("classify", "a classifier from few labels: learning curves, calibrated answers, predictions"),
    "serve": ("serve", "a local page: filters, a map of the pictures, search, confusions, labels"),
    "neurons": ("neurons", "does a unit know faces, or cats, or any concept of yours?"),
    "show": ("show", "filters, curves, reconstructions and the report of a run"),
    "reproduce": ("reproduce", "redraw a paper's figures beside its findings"),
    "bench": ("bench", "measure this machine against the bars, with peers in the same run"),
    "doctor": ("doctor", "what hardware, what is fast here, what is missing"),
    "completion": ("completion", "the tab key knows verbs, options, recipes and their keys, runs and stores"),
}
SYNONYMS = {
    "pretrain": "train",
    "fit": "learn",
    "evaluate": "probe",
    "benchmark": "bench",
    "continue": "resume",
    "deduplicate": "dedupe",
    "annotate": "label",
    "publish": "export",
    "embed": "encode",
    "predict": "classify",
    "find": "search",
    "explore": "serve",
}


def entry() -> NoReturn:
    """The program ``striate``."""
    if started():
        # The engine tells of lost processes at length, and so do we, in a line.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    if ERROR_FILE in os.environ:
        end_with_parent()
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = Interrupted.exit_code
    except BrokenPipeError:
        # The reader (`| head`) has had enough; the interpreter must not try to flush again on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    sys.exit(code)


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        from striate import __version__

        sys.stdout.write(f"striate {__version__}\n")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        sys.stderr.write(f"striate: {unknown_verb(verb)}\n")
        return 2
    return run_verb(verb, rest)


def overview() -> str:
    """The text of ``striate --help``."""
    lines = [f"  {verb:<10} {summary}" for verb, (_, summary) in VERBS.items()]
    return (
        "striate: learn layers of visual features from pictures, look at them, measure them, use them\n\n"
        "usage: striate VERB ... [--json] [--debug]\n\n" + "\n".join(lines) + "\n\n"
        "example: striate learn ~/Pictures\n"
        "help on one: striate VERB --help\n"
    )


def unknown_verb(verb: str) -> str:
    """The message for a verb there is not, naming the nearest one."""
    nearest = SYNONYMS.get(verb.lower()) or next(iter(difflib.get_close_matches(verb.lower(), VERBS, 1, 0.5)), None)
    hint = f"did you mean `striate {nearest}`?" if nearest else f"there are: {', '.join(VERBS)}"
    return f"no verb {verb!r}; {hint}"


def verb_module(verb: str) -> ModuleType:
    """The module of a verb's SUMMARY, EXAMPLE, add_arguments, run and show."""
    return importlib.import_module(f"striate.app.commands.{VERBS[verb][0]}")


def verb_parser(verb: str) -> argparse.ArgumentParser:
    """A verb's arguments, and those that all verbs have. (Completion and the documentation read them, too.)"""
    module = verb_module(verb)
    parser = argparse.ArgumentParser(
        prog=f"striate {verb}",
        description=module.SUMMARY,
        epilog=f"example: {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def run_verb(verb: str, arguments: Sequence[str]) -> int:
    """Parse one verb's arguments, run it, print its result; errors become one line and an exit code."""
    module, parser = verb_module(verb), verb_parser(verb)
    try:
        options = parser.parse_intermixed_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    # Replicas' own processes are started by Ray.
    if getattr(options, "processes", 1) > 1 and getattr(options, "replicas", None) is None and not started():
        from striate.app.launching import launch

        return launch(verb, arguments, options.processes, options.restarts)
    # A termination request is answered like Ctrl-C: save, say how to go on, exit 130.
    with stop_requests() as requests:
        return _run(module, options, requests)


def _run(module: ModuleType, options: argparse.Namespace, requests: StopRequests) -> int:
    from striate.app.screen import Screen

    screen = Screen(to_stderr=options.json, check=requests.check)
    try:
        result = module.run(options, screen)
        if not speaks():
            return 0
        if options.json:
            sys.stdout.write(json.dumps(result) + "\n")
        else:
            module.show(result, screen)
        # Of a verb whose finding may be a bad one: `doctor`.
        return int(result.get("exit_code", 0))
    except StriateError as error:
        _trace(options)
        _complain(str(error), getattr(error, "speaker", speaks()))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted; what was saved is safe: run the same command again", speaks())
        return Interrupted.exit_code
    except BrokenPipeError:
        raise
    # The last line of defence: users get one line, developers ask for --debug.
    except Exception as error:
        _trace(options)
        kind = "cannot read or write" if isinstance(error, OSError) else f"unexpected {type(error).__name__}"
        _complain(f"{kind}: {error} (run again with --debug for the details)", speaks=True)
        return BadInput.exit_code if isinstance(error, PermissionError) else StriateError.exit_code


def _complain(message: str, speaks: bool) -> None:
    """Say what went wrong: on stderr, or to whoever started this process among others and speaks for all."""
    if file := os.environ.get(ERROR_FILE):
        Path(file).write_text(message)
    elif speaks:
        sys.stderr.write(f"striate: {message}\n")


def _trace(options: argparse.Namespace) -> None:
    if options.debug:
        import traceback

        traceback.print_exc()
