"""new component, new network: the beginning of a file, ready to be edited."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from lensnet.cli.ending import UsageError

COMPONENT = """\
# yaml-language-server: $schema=./lensnet-component.schema.json
component: {name}
title: {title}
optics: what a lens designer would call it
intuition: >-
  One paragraph: what it does to a signal and to the gradient that comes back, with the optical counterpart.
function: x*Phi(a*x)            # pointwise: this line is all; every effect is derived from it
parameters:
  a: {{type: real, min: 0, default: 1, about: steepness}}
trials:                         # what its predictions are tested on
  - {{channels: 128}}
  - {{channels: 128, mean: 0.5, second_moment: 2, a: 3}}
"""

MIXING = """\
# yaml-language-server: $schema=./lensnet-component.schema.json
component: {name}
title: {title}
optics: what a lens designer would call it
intuition: >-
  One paragraph: what it does to a signal and to the gradient that comes back, with the optical counterpart.
ports: {{in: [left, right], out: [y]}}
forward: left + share*right     # an expression of the ports and parameters
parameters:
  share: {{type: real, default: 0.5, about: weight of the right input}}
effects:
  moments:
    mean: {{formula: m_left + share*m_right}}
    second_moment: {{formula: q_left + share**2*q_right + 2*share*k_left_right, error: 0}}
    backward_second_moment:
      left: {{formula: p}}
      right: {{formula: share**2*p}}
coherence: {{linear: {{left: "1", right: share}}}}
assumes:
  - none beyond the cross moment k_left_right of the two inputs
trials:
  - {{channels: 128}}
"""

NETWORK = """\
# yaml-language-server: $schema=./lensnet-spec.schema.json
network: {name}
about: What this network teaches, in a sentence or two.
constants: {{depth: 8, width: 256}}
input: {{source: digits, batch: 128}}    # also gaussian, photos, tokens, file
body:
  - repeat: depth
    name: block
    body:
      - {{name: fc, component: linear, units: width, gain: sqrt(2)}}
      - {{name: act, component: relu}}
  - {{name: head, component: linear, units: 10}}
expect:                                # gates: lensnet run fails when they do not hold
  - {{at: block.0.fc, quantity: second_moment, between: [0.5, 4]}}
"""

MATCHES = """\
matches:                        # modules of an imported model that are this component
  module: MODULE
"""

Name = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits and _, as swish2.")]
Write = Annotated[bool, typer.Option("--write", help="Write NAME.yaml here instead of printing it.")]
Mixing = Annotated[bool, typer.Option("--mixing", help="Several inputs and formulas of its own, not pointwise.")]
Module = Annotated[str | None, typer.Option("--module", help="The class of a torch module that this component is.")]


def component(name: Name, write: Write = False, mixing: Mixing = False, module: Module = None) -> int:
    """The beginning of a component: a function of one number, or with --mixing of several signals."""
    text = MIXING if mixing else COMPONENT
    if module is not None:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", module):
            raise UsageError(f"--module {module}: write package.Class, as torch.nn.Softsign")
        text += MATCHES.replace("MODULE", module)
    return _emit(name, text, write)


def network(name: Name, write: Write = False) -> int:
    """The beginning of a network: a stack of dense layers on handwritten digits."""
    return _emit(name, NETWORK, write)


def _emit(name: str, template: str, write: bool) -> int:
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]{0,60}", name):
        raise UsageError(f"{name!r} cannot be a name: use letters, digits and _, beginning with a letter")
    text = template.format(name=name, title=name.replace("_", " ").capitalize())
    if not write:
        sys.stdout.write(text)
        return 0
    path = Path(f"{name}.yaml")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already; nothing was written") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    print(f"{path}: edit it, then: lensnet lint {path}")
    if "matches:" in text:
        print(f"and: lensnet import PACKAGE.MODULE:FACTORY --input SIZE --component {path}")
    return 0
