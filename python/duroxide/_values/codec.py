"""Values as JSON text: the recorded form of values, and the conversion back."""

from __future__ import annotations

from duroxide._values.conversions import convert
from duroxide._values.encoding import decode, encode

__all__ = ["convert", "decode", "encode"]
