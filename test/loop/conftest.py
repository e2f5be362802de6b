"""The fixtures of `fakes`."""

from __future__ import annotations

from fakes import manifest, manifest_factory, policy, policy_factory, recorder

__all__ = ["manifest", "manifest_factory", "policy", "policy_factory", "recorder"]
