"""Small networks as YAML text."""

from __future__ import annotations

import textwrap

from lensnet.language.loading import load_network_spec
from lensnet.language.source import Source
from lensnet.network.build import build_network
from lensnet.network.graph import Network


def network(body: str, channels: int = 16, batch: int = 4, positions: str = "[]") -> Network:
    """A network of this body on a Gaussian input."""
    return network_on(f"{{source: gaussian, channels: {channels}, positions: {positions}, batch: {batch}}}", body)


def network_on(source: str, body: str) -> Network:
    """A network of this body on an input that is declared so."""
    text = f"network: tried\ninput: {source}\nbody:\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "  ") + "\n"
    spec, document = load_network_spec(Source("tried", text))
    return build_network(spec, document)
