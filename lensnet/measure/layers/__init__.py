"""Torch implementations of the components, one file per family.

`build(node)` makes the module of a node; `@implementation("name")` adds one. A component names its implementation in
its YAML file (the default is its own name); a component with a `function:` needs none. Every file of this folder is
imported here, so a new family needs no list to be edited.
"""

from importlib import import_module
from pkgutil import iter_modules

from lensnet.measure.layers.registry import (
    NoiseLayer,
    RandomLayer,
    build,
    implementation,
    implementations,
    parameter,
)

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")

__all__ = ["NoiseLayer", "RandomLayer", "build", "implementation", "implementations", "parameter"]
