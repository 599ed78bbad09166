"""``striate completion``: what a shell needs so that its tab key knows Striate."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.app.screen import Screen

SUMMARY = (
    "Print the script with which a shell completes verbs, options, recipes, their keys and values, runs and stores.\n"
    'bash, in ~/.bashrc: eval "$(striate completion bash)"\n'
    'zsh, in ~/.zshrc after compinit: eval "$(striate completion zsh)"\n'
    "fish, in ~/.config/fish/config.fish: striate completion fish | source"
)
EXAMPLE = "striate completion bash"

# -P: modules that lie in the folder where somebody presses tab are not imported.
_BASH = """\
_striate() {
    COMPREPLY=()
    local candidate
    while IFS= read -r candidate; do COMPREPLY+=("$candidate"); done < <(
        %(python)s -P -m striate.app.completion bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null
    )
    # A key is followed by its value, without a space.
    if [[ "${COMPREPLY[0]}" == *= ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o bashdefault -o default -F _striate striate"""

_ZSH = """\
_striate() {
    local -a found
    found=("${(@f)$(%(python)s -P -m striate.app.completion zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -z "$found[1]" ]]; then
        _files
    elif [[ "$found[1]" == *= ]]; then
        compadd -S '' -a found
    else
        compadd -a found
    fi
}
compdef _striate striate"""

_FISH = """\
function __striate_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found (%(python)s -P -m striate.app.completion fish $words[2..-1] "$current" 2>/dev/null)
    if test (count $found) -gt 0
        printf '%%s\\n' $found
    else
        __fish_complete_path "$current"
    end
end
complete -c striate -f -a '(__striate_complete)'"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("shell", metavar="SHELL", choices=list(SCRIPTS), help="bash, zsh or fish")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Make the script; it names the interpreter that runs this."""
    return {"shell": args.shell, "script": SCRIPTS[args.shell] % {"python": shlex.quote(sys.executable)}}


def show(result: dict[str, Any], screen: Screen) -> None:
    """The script alone: it is for `eval`."""
    screen.say(result["script"])
