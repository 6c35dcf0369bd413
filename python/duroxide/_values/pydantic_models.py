"""The recorded form of pydantic models. The text is the same in every process, and has every field.

This module uses pydantic only if the program has imported it. Otherwise no value can be a model.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import enum
import inspect
import json
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin
from uuid import UUID

from duroxide._values.constraints import load_pydantic
from duroxide.exceptions import CodecError

_SETS = (set, frozenset)
_UNIONS = (Union, UnionType)
_SIMPLE = frozenset((str, int, float, bool, NoneType, date, datetime, time, timedelta, UUID, Decimal, bytes))
_PLAIN_FACTORIES = (list, dict, set, frozenset, tuple, str, int, float, bool)


class _OrderedSet(set[Any]):
    """A set that is iterated in a given order."""

    order: list[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.order)


class _OrderedFrozenSet(frozenset[Any]):
    order: list[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.order)


def is_model(value: object) -> bool:
    """Tell whether a value is a model of pydantic."""
    model = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    return model is not None and isinstance(value, model)


def is_pydantic_class(annotation: object) -> bool:
    """Tell whether pydantic builds a class: its models and its own dataclasses."""
    return isinstance(annotation, type) and hasattr(annotation, "__pydantic_validator__")


def dump(value: Any, encode: Callable[[object], str]) -> Any:
    """Write a model as values that ``json`` can write.

    Args:
        value: The model.
        encode: The function that writes an item of a set as text. Sets are ordered by these texts.

    Raises:
        CodecError: A field is not in what pydantic writes, or a secret is written as asterisks.
    """
    by_alias = _refuses_names(_class_of(value))
    if _is_simple_model(value):
        return value.model_dump(mode="json", by_alias=by_alias)
    dumped = _with_ordered_sets(value, encode).model_dump(mode="json", by_alias=by_alias)
    return _checked(value, dumped, encode)


def dump_other(value: Any) -> Any:
    """Write a value of another class that says how pydantic writes it, such as ``HttpUrl``.

    Raises:
        CodecError: The value is a secret, which pydantic writes as asterisks.
    """
    dumped = _adapter_of(_class_of(value)).dump_python(value, mode="json")
    if hasattr(value, "get_secret_value"):
        _check_secret(value, dumped)
    return dumped


@lru_cache(maxsize=1024)
def _adapter_of(kind: Any) -> Any:
    return load_pydantic().TypeAdapter(kind)


def builder_of(annotation: Any) -> Callable[[Any], Any]:
    """Make the function that builds values of an annotation with pydantic.

    Raises:
        CodecError: pydantic is not installed.
    """
    try:
        hash(annotation)
    except TypeError:  # its metadata may be a dict
        return _builder(annotation)
    return _cached_builder(annotation)


def _builder(annotation: Any) -> Callable[[Any], Any]:
    pydantic = load_pydantic()
    adapter = pydantic.TypeAdapter(annotation)

    # A model is recorded under the names of its fields, but pydantic wants aliases unless it is told otherwise; fields that
    # it does not find would get their defaults.
    knows_names = "by_name" in inspect.signature(adapter.validate_python).parameters
    refuses_names = is_pydantic_class(annotation) and _refuses_names(annotation)
    recorded = {"by_alias": True, "by_name": True} if knows_names and not refuses_names else {}
    aliases = frozenset(_aliases_of(annotation))

    def build(value: Any) -> Any:
        is_foreign = aliases and isinstance(value, dict) and not aliases.isdisjoint(cast("dict[str, object]", value))
        options = {} if is_foreign else recorded
        try:
            return adapter.validate_python(value, **options)
        except pydantic.ValidationError:
            # A strict model takes a date from JSON text alone. A value with bytes is not JSON.
            with contextlib.suppress(pydantic.ValidationError, TypeError):
                return adapter.validate_json(json.dumps(value), **options)
            raise

    return build


_cached_builder = lru_cache(maxsize=1024)(_builder)


@lru_cache(maxsize=1024)
def _refuses_names(kind: Any) -> bool:
    """Tell whether the configuration of a model says that its fields are found under their aliases alone.

    Raises:
        CodecError: A field is written under another name than it is read.
    """
    config: dict[str, Any] = getattr(kind, "model_config", {})
    if config.get("validate_by_name", config.get("populate_by_name")) is not False:
        return False
    for each in {kind, *_models_in(kind)}:
        for name, field in each.model_fields.items():
            if field.validation_alias != field.serialization_alias:
                raise CodecError(
                    f"{kind.__qualname__} refuses names of fields, and reads '{name}' of {each.__qualname__} under another alias "
                    "than it writes; give the field one alias, or allow its name with validate_by_name"
                )
    return True


def _models_in(kind: Any) -> set[Any]:
    """Collect the models in the fields of a model, at any depth."""
    found: set[Any] = set()
    pending = [kind]
    while pending:
        annotations = [field.annotation for field in pending.pop().model_fields.values()]
        models = {each for part in annotations for each in _classes_in(part) if hasattr(each, "model_fields")}
        pending += models - found
        found |= models
    return found


def _aliases_of(kind: Any) -> Iterator[str]:
    """Collect the keys that only a value from elsewhere has: aliases that are not also the names of fields."""
    fields: dict[str, Any] = getattr(kind, "__pydantic_fields__", None) or {} if is_pydantic_class(kind) else {}
    for field in fields.values():
        alias: Any = field.validation_alias
        for each in getattr(alias, "choices", [alias]):
            key: Any = each.path[0] if hasattr(each, "path") else each
            if isinstance(key, str) and key not in fields:
                yield key


def builder_of_other(annotation: Any) -> Callable[[Any], Any] | None:
    """Make the function that builds a class of another package with pydantic; ``None`` if pydantic cannot or is not in use."""
    if "pydantic" not in sys.modules or not isinstance(annotation, type) or annotation is type or get_args(annotation):
        return None
    try:
        return builder_of(annotation)
    except Exception:  # noqa: BLE001  (pydantic may refuse an annotation in any way, and then cannot build a value)
        return None


@lru_cache(maxsize=1024)
def _field_classes(kind: Any) -> dict[str, frozenset[Any]] | None:
    """Map the fields of a model to the classes in their annotations; ``None`` if pydantic may leave out a field."""
    decorators = kind.__pydantic_decorators__
    if decorators.model_serializers or decorators.field_serializers or kind.model_computed_fields:
        return None
    if kind.__pydantic_root_model__ or kind.model_config.get("extra") == "allow":
        return None
    fields = kind.model_fields
    if any(field.exclude or getattr(field, "exclude_if", None) for field in fields.values()):
        return None
    return {name: frozenset(_classes_in(field.annotation)) for name, field in fields.items()}


def _classes_in(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type):
        yield annotation
    for each in get_args(annotation):
        yield from _classes_in(each)


def _is_simple_model(model: Any) -> bool:
    """Tell whether pydantic writes a model whole and alike in every process, so that its parts need no look.

    Most models are simple. Their fields hold numbers, texts and times, lists and dicts of these, and such models.
    """
    classes, fields = _field_classes(_class_of(model)), model.__dict__
    if classes is None or len(classes) != len(fields):
        return False
    return all(type(each) in _SIMPLE or _is_simple(each, classes.get(name, _SIMPLE)) for name, each in fields.items())


def _is_simple(value: Any, classes: frozenset[Any]) -> bool:
    kind = _class_of(value)
    if kind in _SIMPLE:
        return True
    if kind is list or kind is tuple:
        return all(_is_simple(each, classes) for each in value)
    if kind is dict:
        return all(_is_simple(each, classes) for each in value.values())
    if kind not in classes:  # pydantic drops the fields of a subclass
        return False
    return _is_simple_model(value) if is_model(value) else isinstance(value, enum.Enum) and type(value.value) in _SIMPLE


def _class_of(value: object) -> Any:
    return type(value)


def _maker_of(kind: Any) -> Callable[[list[Any]], Any] | None:
    """Return the function that makes a list, a deque, a tuple or a named tuple of its items; ``None`` for other classes."""
    if kind in (list, tuple, deque):
        return cast("Callable[[list[Any]], Any]", kind)
    named: Callable[[list[Any]], Any] | None = getattr(kind, "_make", None)
    return named if issubclass(kind, tuple) else None


def _is_dataclass(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _with_ordered_sets(value: Any, encode: Callable[[object], str]) -> Any:
    """Copy a value that holds sets, with sets that pydantic iterates in the order of their items' texts."""
    kind = _class_of(value)
    if issubclass(kind, _SETS):
        if all(_has_fixed_hash(item) for item in value):
            return value  # as it was recorded before: the order of numbers is the same in every process
        ordered: Any = (_OrderedSet if issubclass(kind, set) else _OrderedFrozenSet)(value)
        ordered.order = [_with_ordered_sets(each, encode) for each in sorted(value, key=encode)]
        return ordered
    make = _maker_of(kind)
    if make is not None:
        parts = [_with_ordered_sets(each, encode) for each in value]
        return make(parts) if any(new is not old for new, old in zip(parts, value, strict=True)) else value
    if kind is dict:
        changed = {key: _with_ordered_sets(each, encode) for key, each in value.items()}
        return changed if any(changed[key] is not each for key, each in value.items()) else value
    if is_model(value):
        fields: dict[str, Any] = {**value.__dict__}
        extra: dict[str, Any] = getattr(value, "__pydantic_extra__", None) or {}
        new_fields, new_extra = _with_ordered_sets(fields, encode), _with_ordered_sets(extra, encode)
        if new_fields is fields and new_extra is extra:
            return value
        model = copy.copy(value)
        model.__dict__.update(new_fields)
        if new_extra is not extra:
            object.__setattr__(model, "__pydantic_extra__", new_extra)
        return model
    if _is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
        replaced = {
            name: new for name in names if (new := _with_ordered_sets(old := getattr(value, name), encode)) is not old
        }
        if not replaced:
            return value
        instance = copy.copy(value)
        for name, new in replaced.items():
            object.__setattr__(instance, name, new)
        return instance
    return value


def _has_fixed_hash(item: Any) -> bool:
    """Tell whether an item has the same hash in every process; texts, bytes, dates and most enums do not."""
    if isinstance(item, (tuple, frozenset)):
        return all(_has_fixed_hash(each) for each in cast("Iterable[object]", item))
    if isinstance(item, (float, Decimal)):
        return not math.isnan(item)
    if is_model(item):
        return all(_has_fixed_hash(each) for each in item.__dict__.values())
    if _is_dataclass(item):
        return all(_has_fixed_hash(getattr(item, field.name)) for field in dataclasses.fields(item) if field.compare)
    return isinstance(item, (UUID, timedelta)) or (isinstance(item, int) and hash(item) == hash(int(item)))


def _checked(value: Any, dumped: Any, encode: Callable[[object], str]) -> Any:
    """Refuse fields that pydantic left out of ``dumped``, and order the sets of computed fields."""
    if hasattr(value, "get_secret_value"):
        _check_secret(value, dumped)
    elif isinstance(value, enum.Enum):
        return _ordered(type(cast("object", value.value)), dumped, encode)
    elif is_model(value):
        return _checked_model(value, dumped, encode)
    elif _is_dataclass(value):
        return _checked_dataclass(value, dumped, encode)
    elif isinstance(value, (list, tuple)) and isinstance(dumped, list):
        items, texts = cast("list[object]", value), cast("list[object]", dumped)
        if len(items) == len(texts):
            return [_checked(each, text, encode) for each, text in zip(items, texts, strict=True)]
    elif isinstance(value, _SETS) and isinstance(dumped, list):
        for item in cast("set[object]", value):
            if hasattr(item, "get_secret_value"):
                _check_secret(item, next((each for each in cast("list[object]", dumped) if _is_masked(each)), None))
    elif isinstance(value, dict) and isinstance(dumped, dict):
        entries, written = cast("dict[object, object]", value), cast("dict[str, object]", dumped)
        if len(entries) == len(written):
            pairs = zip(entries.values(), written.items(), strict=True)
            return {key: _checked(each, text, encode) for each, (key, text) in pairs}
    return cast("object", dumped)


def _checked_model(model: Any, dumped: Any, encode: Callable[[object], str]) -> Any:
    kind = _class_of(model)
    decorators = kind.__pydantic_decorators__
    if decorators.model_serializers:
        return dumped  # the form that the user gives it
    if kind.__pydantic_root_model__:
        return _checked(model.root, dumped, encode)
    if not isinstance(dumped, dict):
        return dumped
    written = cast("dict[str, Any]", dumped)
    for name, field in kind.model_fields.items():
        if name not in model.__dict__:
            continue
        value = model.__dict__[name]
        key = next((each for each in (name, field.serialization_alias, field.alias) if each in written), None)
        if key is not None:
            written[key] = _checked(value, written[key], encode)
            if isinstance(value, Iterator):  # a field of Iterable; only pydantic has seen its items
                written[key] = _ordered(field.annotation, written[key], encode)
            _check_classes(kind, name, value, frozenset(_classes_in(field.annotation)))
        elif not _is_default(model, name, field, value):
            raise _lost(kind, name)
    extra: dict[str, Any] = getattr(model, "__pydantic_extra__", None) or {}
    for name, value in extra.items():
        if name not in written:
            raise _lost(kind, name)
        written[name] = _checked(value, written[name], encode)
    own = {each for decorator in decorators.field_serializers.values() for each in decorator.info.fields}
    for name, computed in kind.model_computed_fields.items():
        key = name if name in written else computed.alias
        if key in written and not own & {name, "*"}:
            written[key] = _ordered(computed.return_type, written[key], encode)
    return written


def _ordered(annotation: Any, dumped: Any, encode: Callable[[object], str]) -> Any:
    """Order the lists in ``dumped`` that are sets by their annotation."""
    kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if kind is Annotated:
        return _ordered(arguments[0], dumped, encode)
    if kind in _UNIONS:
        for each in arguments:
            dumped = _ordered(each, dumped, encode)
        return dumped
    if isinstance(dumped, list):
        items = cast("list[object]", dumped)
        if kind is tuple and len(arguments) == len(items) and arguments[-1:] != (...,):
            return [_ordered(part, each, encode) for part, each in zip(arguments, items, strict=True)]
        items = [_ordered(arguments[0] if arguments else Any, each, encode) for each in items]
        return sorted(items, key=encode) if kind in _SETS or kind is Set else items
    if isinstance(dumped, dict) and len(arguments) == 2:
        return {name: _ordered(arguments[1], each, encode) for name, each in cast("dict[str, object]", dumped).items()}
    return cast("object", dumped)


def _check_classes(kind: type, name: str, value: Any, classes: frozenset[Any]) -> None:
    """Refuse a subclass that pydantic writes with its fields, but builds as its base, as under ``SerializeAsAny``."""
    if isinstance(value, (list, tuple)):
        for each in cast("list[object]", value):
            _check_classes(kind, name, each, classes)
    elif isinstance(value, dict):
        for each in cast("dict[object, object]", value).values():
            _check_classes(kind, name, each, classes)
    elif is_model(value) and type(value) not in classes:
        bases = [each for each in type(value).__mro__ if each in classes and is_pydantic_class(each)]
        if bases and _class_of(value).model_fields.keys() - _base_fields(bases[0]):
            raise CodecError(
                f"the field '{name}' of {kind.__qualname__} holds a {type(value).__qualname__}, which comes back as "
                f"{bases[0].__qualname__} without its other fields; annotate the field with the union of the classes"
            )


def _base_fields(kind: Any) -> set[str]:
    return set(kind.model_fields)


def _checked_dataclass(value: Any, dumped: Any, encode: Callable[[object], str]) -> Any:
    kind = _class_of(value)
    if hasattr(kind, "__pydantic_decorators__") or not isinstance(dumped, dict):
        return dumped  # its own serializers may give any form
    written = cast("dict[str, Any]", dumped)
    for field in dataclasses.fields(value):
        if field.name in written:
            written[field.name] = _checked(getattr(value, field.name), written[field.name], encode)
        elif field.default is dataclasses.MISSING or getattr(value, field.name) != field.default:
            raise _lost(kind, field.name)
    return written


def _is_default(model: Any, name: str, field: Any, value: Any) -> bool:
    """Tell whether a field that is not recorded comes back all the same."""
    if field.default_factory is not None:
        return field.default_factory in _PLAIN_FACTORIES and value == field.default_factory()
    with contextlib.suppress(Exception):  # the comparison is the user's
        return not field.is_required() and bool(value == field.default)
    return name not in model.model_fields_set


def _lost(kind: type, name: str) -> CodecError:
    return CodecError(
        f"the field '{name}' of {kind.__qualname__} is not in what pydantic writes, so that it would be lost; do not "
        "exclude it, annotate a field that may hold a subclass with the union of the classes, or make it a PrivateAttr"
    )


def _is_masked(dumped: Any) -> bool:
    return isinstance(dumped, str) and dumped != "" and not dumped.strip("*")


def _check_secret(value: Any, dumped: Any) -> None:
    if _is_masked(dumped):
        raise CodecError(
            f"a {type(value).__name__} is written as asterisks, so that the secret would be lost; pass the name of the "
            "secret and read it where it is used, or give the field a serializer that writes it, to be read by everyone "
            "who can read the store"
        )
