"""The constraints in annotations: what pydantic applies, what msgspec applies, and what neither does.

Some metadata of ``Annotated`` is a remark, such as a text. Metadata of pydantic or ``annotated_types`` is a constraint, and
so is a class or object that tells pydantic how it is validated.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, cast, get_origin

import msgspec

from duroxide.exceptions import CodecError

_LIBRARIES = frozenset(("pydantic", "pydantic_core", "annotated_types"))
_HOOK = "__get_pydantic_core_schema__"
_GROUP = "__is_annotated_types_grouped_metadata__"

# The classes of annotated_types that pydantic applies. It passes over any other one, and subclasses of these.
_APPLIED = frozenset(("Gt", "Ge", "Lt", "Le", "MultipleOf", "MinLen", "MaxLen", "Predicate", "Not"))
_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz")


def load_pydantic() -> Any:
    """Return the module pydantic, which constraints need even if the program has not imported it.

    Raises:
        CodecError: It is not installed.
    """
    try:
        return sys.modules.get("pydantic") or importlib.import_module("pydantic")
    except ImportError as error:
        raise CodecError(f"pydantic, which applies them, cannot be imported: {error}") from None


def metadata_for_pydantic(annotation: Any) -> list[Any]:
    """List the metadata of an ``Annotated`` that pydantic applies; empty for every other annotation."""
    if get_origin(annotation) is not Annotated:
        return []
    return [each for each in annotation.__metadata__ if _is_for_pydantic(each)]


def metadata_for_msgspec(annotation: Any) -> list[msgspec.Meta]:
    """List the metadata of an ``Annotated`` that msgspec applies; empty for every other annotation."""
    if get_origin(annotation) is not Annotated:
        return []
    metadata: tuple[object, ...] = annotation.__metadata__
    return [each for each in metadata if isinstance(each, msgspec.Meta) and _is_bound(each)]


def check_metadata(metadata: Iterable[Any]) -> None:
    """Refuse metadata that pydantic would pass over.

    Raises:
        CodecError: There is such metadata.
    """
    for each in _members(metadata):
        kind: type = each if isinstance(each, type) else type(each)
        is_foreign = not any(_library_of(base) == "annotated_types" for base in kind.__mro__)
        if is_foreign or hasattr(each, _HOOK) or _library_of(kind) == "pydantic":
            continue
        if isinstance(each, type) or kind.__module__ != "annotated_types" or kind.__name__ not in _APPLIED:
            raise CodecError(f"pydantic does not apply {each!r}")


def may_look_at_type(metadata: Iterable[Any]) -> bool:
    """Tell whether metadata for pydantic has a schema of the user, which may depend on the annotated type."""
    kinds = (each if isinstance(each, type) else type(each) for each in metadata if hasattr(each, _HOOK))
    return any(_library_of(kind) not in _LIBRARIES for kind in kinds)


def reads_encoded_bytes(metadata: Iterable[Any]) -> bool:
    """Tell whether metadata is that of ``Base64Bytes`` and its kin, which decode the recorded text themselves."""
    return any(base.__name__ == "EncodedBytes" for each in metadata for base in type(each).__mro__)


def is_for_pydantic(kind: Any) -> bool:
    """Tell whether a class that is neither a model nor a dataclass of pydantic says how pydantic validates it."""
    if not isinstance(kind, type) or hasattr(kind, "__pydantic_validator__"):
        return False
    # The URLs of pydantic before 2.10 are classes of pydantic_core.
    if hasattr(kind, _HOOK) or "__pydantic_config__" in vars(kind) or _library_of(kind) == "pydantic_core":
        return True
    if "pydantic" not in sys.modules or not hasattr(kind, "__dataclass_fields__"):
        return False
    # Fields of a dataclass of the standard library with pydantic's Field as the default, and validators in its body.
    fields: dict[str, Any] = getattr(kind, "__dataclass_fields__", {})
    if any(is_field_of_pydantic(each.default) for each in fields.values()):
        return True
    members: list[Any] = [each for base in kind.__mro__ if base is not object for each in vars(base).values()]
    return any(_library_of(each.__class__) == "pydantic" for each in members)


def is_field_of_pydantic(value: object) -> bool:
    """Tell whether a value is what pydantic's ``Field`` returns."""
    return any(base.__name__ == "FieldInfo" and _library_of(base) == "pydantic" for base in type(value).__mro__)


def _is_for_pydantic(metadata: Any) -> bool:
    if hasattr(metadata, _HOOK) or hasattr(metadata, _GROUP):
        return True
    kind: type[Any] = metadata if isinstance(metadata, type) else type(metadata)
    return any(_library_of(base) in _LIBRARIES for base in kind.__mro__)


def _members(metadata: Iterable[Any]) -> Iterator[Any]:
    """Look into groups of metadata, such as ``Len``, and into pydantic's ``Field``."""
    for each in metadata:
        if is_field_of_pydantic(each):
            yield from _members(each.metadata)
        elif hasattr(each, _GROUP) and not isinstance(each, type):
            yield from _members(each)
        else:
            yield each


def _is_bound(meta: msgspec.Meta) -> bool:
    return any(getattr(meta, name) is not None for name in _BOUNDS)


def _library_of(kind: type) -> str:
    return cast("str", getattr(kind, "__module__", None) or "").partition(".")[0]
