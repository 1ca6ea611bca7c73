"""Build hook: a standard build carries the component and network files; an editable install reads the checkout.

Plain `force-include` would copy the folders into site-packages for an editable install as well, once: stale at the
next edit, and a second package folder that shadows nothing and confuses everybody.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShipData(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            for folder in ("components", "specs"):
                build_data["force_include"][folder] = f"lensnet/_data/{folder}"
