"""The conversion of a decoded value to the type in an annotation.

msgspec builds most types. The types that it refuses (unions of classes, unions of texts, enums of any value, ``InitVar``,
``Iterable``) is built here, and pydantic builds its own classes.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import dataclasses
import enum
import inspect
import json
import logging
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin
from uuid import UUID

import msgspec
import msgspec.inspect
import msgspec.structs

from duroxide._values.constraints import (
    check_metadata,
    is_for_pydantic,
    load_pydantic,
    may_look_at_type,
    metadata_for_msgspec,
    metadata_for_pydantic,
    reads_encoded_bytes,
)
from duroxide._values.encoding import encode, title
from duroxide._values.pydantic_models import builder_of, builder_of_other, is_pydantic_class
from duroxide.exceptions import CodecError

_UNCHECKED = (Any, None, NoneType, object)
_UNIONS = (Union, types.UnionType)
_FAULTS = Exception  # validators and classes of the user may raise anything

# Scalars that pydantic reads from the form in which they are recorded. It reads bytes in another form.
_READ_ALIKE = (str, int, float, bool, Decimal, UUID, date, datetime, time, timedelta, NoneType, None, Any, object)

# Pairs of types that may have the same text. A union of such a pair cannot be read.
_AMBIGUOUS_TEXTS = (
    ({Decimal, str}, "a number in a text is both"),
    ({bytes, str}, "a text may look like base64"),
    ({bytes, Decimal}, "digits are both"),
    ({bytes, timedelta}, "a text may be both"),
)

# Collections, some of which msgspec does not know, with the function that makes one of a list or dict.
_COLLECTIONS: dict[Any, Callable[[Any], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    collections.abc.Iterable: list,
    collections.abc.Iterator: iter,
    collections.abc.Reversible: list,
    collections.abc.Container: list,
    collections.abc.Collection: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
}
_MAPPINGS: dict[Any, Callable[[Any], Any]] = {
    dict: dict,
    collections.OrderedDict: collections.OrderedDict,
    collections.defaultdict: lambda items: collections.defaultdict(None, items),
    collections.Counter: collections.Counter,
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
}

_NO_NAMES: frozenset[str] = frozenset()

_Converter = Callable[[Any], Any]
_log = logging.getLogger("duroxide.values")


class _UnbuildableError(Exception):
    """Nothing can build a value for an annotation."""


def convert(value: Any, annotation: Any) -> Any:
    """Convert a decoded value to the type in ``annotation``.

    Args:
        value: A value from ``decode``.
        annotation: A type. ``Any``, ``None``, ``object`` and type variables leave the value as it is; so do types for
            which nothing can build a value, and a warning says so once.

    Returns:
        The converted value, or ``value`` itself where it fits already.

    Raises:
        CodecError: The value does not fit, or fits several types of a union.
    """
    if any(annotation is unchecked for unchecked in _UNCHECKED) or isinstance(annotation, TypeVar):
        return value
    if _fits(value, annotation):
        return value
    try:
        converter = _cached_converter(annotation)
    except TypeError:  # an annotation that cannot be hashed
        converter = _converter(annotation)
    if converter is None:
        return value
    try:
        return converter(value)
    except _FAULTS as error:
        if isinstance(error, CodecError) and not isinstance(error, _MisfitError):
            raise
        raise CodecError(
            f"a value of type {title(value)} does not fit the annotation {annotation_title(annotation)}: {error}; correct what is sent, "
            "or annotate with Any to receive it as it is"
        ) from error


def ambiguity_of(annotation: Any) -> str | None:
    """Say why values of an annotation cannot be told apart once they are JSON; ``None`` where they can be."""
    return _ambiguity(annotation, set())


def unchecked_constraint_of(annotation: Any) -> str | None:
    """Say why the constraints in an annotation cannot be checked; ``None`` where they can be, or there are none."""
    try:
        constrained = [each for each in _parts(annotation, []) if _is_constraint(each) or metadata_for_msgspec(each)]
    except Exception:  # noqa: BLE001  (a class is defined later in the module; the conversion fails if it is not)
        return None
    try:
        for each in constrained:
            _converter(each)
            if is_for_pydantic(each):
                _without_subclasses(each, each)
        if constrained:
            _converter(annotation)
    except CodecError as error:
        return str(error)
    return None


def annotation_title(annotation: Any) -> str:
    """Name an annotation in a message."""
    return annotation.__qualname__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)


class _MisfitError(CodecError):
    """A part of a value does not fit; ``convert`` says of which value."""


def _fits(value: Any, annotation: Any) -> bool:
    """Tell whether a value is an instance of a plain class already."""
    try:
        return isinstance(annotation, type) and get_origin(annotation) is None and isinstance(value, annotation)
    except TypeError:  # a class that refuses the question, such as a TypedDict or a protocol
        return False


def _converter(annotation: Any) -> _Converter | None:
    """Build the function that converts to ``annotation``; ``None`` if no library can build such values."""
    is_constrained = _is_constrained(annotation) or _is_bounded(annotation)
    if not is_constrained and any(isinstance(leaf, TypeVar) for leaf in _leaves(annotation)):
        return None
    try:
        return _compile(annotation)
    except _UnbuildableError as error:
        if is_constrained:
            raise _unchecked(annotation, f"no {error} can be built from JSON") from None
        _log.warning(
            "the annotation %s is not applied: no %s can be built from JSON; values are passed as JSON has them",
            annotation_title(annotation),
            error,
        )
        return None
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(
            f"the annotation {annotation_title(annotation)} cannot be applied: {error}; correct it"
        ) from error


_cached_converter = lru_cache(maxsize=1024)(_converter)


def _compile(annotation: Any) -> _Converter:
    """Build the function that converts to ``annotation``.

    Raises:
        _UnbuildableError: No library can build such values.
    """
    annotation = _plain(annotation)
    if annotation is Any or annotation is object or isinstance(annotation, TypeVar):
        return _unchanged
    if _is_constrained(annotation):  # msgspec would pass over the constraints
        return _compile_parts(annotation)
    classes = _classes_of_msgspec(annotation)
    if classes is None:
        return _compile_parts(annotation)
    if not classes:
        return lambda value: msgspec.convert(value, annotation, str_keys=True)

    own: list[_Converter] = []

    def build(value: Any) -> Any:
        # msgspec drops the fields of a subclass, which may be defined later than this converter.
        if not any(each.__subclasses__() for each in classes):
            built = msgspec.convert(value, annotation, str_keys=True)
            _warn_of_unknown_fields(value, built)
            return built
        if not own:
            own.append(_compile_parts(annotation))
        return own[0](value)

    return build


def _compile_parts(annotation: Any) -> _Converter:
    """Build the function that converts to an annotation. It leaves parts of the annotation to msgspec, but not the whole."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is None or annotation is NoneType:
        return _none
    if origin is Annotated:
        return _annotated(annotation, arguments[0])
    if origin in _UNIONS:
        return _union(annotation, [_plain(each) for each in arguments])
    if origin is Literal:
        return _member_of(annotation, {encode(each): each for each in arguments})
    kind: Any = origin or annotation
    if is_for_pydantic(kind) and _fields_of(kind) is None:
        return _checked_by_pydantic(annotation)
    if _is_kind_of(annotation, enum.Enum):
        return _enum(annotation)
    if is_pydantic_class(kind) or _fields_of(kind) is not None:
        return _class(annotation)
    if _is_kind_of(kind, msgspec.Struct) and _is_constrained(kind):
        raise _unchecked(annotation, "msgspec alone builds a struct with a tag or without names, and passes over them")
    if kind is tuple:
        return _tuple(annotation, arguments)
    if _is_kind_of(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(kind)
    if typing.is_typeddict(kind):
        return _typed_dict(kind)
    if kind in _COLLECTIONS:
        return _collection(annotation, _COLLECTIONS[kind], _compile(arguments[0] if arguments else Any))
    if kind in _MAPPINGS:
        if kind is collections.Counter:
            arguments = (*arguments, int)[-2:] if arguments else (Any, int)
        return _mapping(annotation, _MAPPINGS[kind], arguments or (Any, Any))
    by_pydantic = builder_of_other(annotation)
    if by_pydantic is None:
        raise _UnbuildableError(annotation_title(annotation))
    return by_pydantic


def _annotated(annotation: Any, inner: Any) -> _Converter:
    """Build the function that converts to an ``Annotated``, and checks its constraints."""
    metadata, bounds = metadata_for_pydantic(annotation), metadata_for_msgspec(annotation)
    build = _validated(annotation, inner, metadata) if metadata else _compile(inner)
    return _bounded(annotation, _plain(inner), build, bounds) if bounds else build


def _validated(annotation: Any, inner: Any, metadata: list[Any]) -> _Converter:
    """Build the function that converts to an ``Annotated`` with metadata for pydantic."""
    try:
        check_metadata(metadata)
        pydantic = load_pydantic()
    except CodecError as error:
        raise _unchecked(annotation, str(error)) from None
    if not _is_read_alike(inner) and not may_look_at_type(metadata):
        # pydantic applies its metadata to a value that this module has built.
        with contextlib.suppress(Exception):
            built = pydantic.PlainValidator(_compile(inner))
            return cast("_Converter", pydantic.TypeAdapter(_with_metadata(Any, built, *metadata)).validate_python)
    if _is_bounded(inner):
        raise _unchecked(annotation, "pydantic builds it, and passes over the Meta of msgspec within")
    validate = _checked_by_pydantic(annotation)
    parts = list(_parts(annotation, []))
    if bytes not in parts or any(reads_encoded_bytes(metadata_for_pydantic(each)) for each in parts):
        return validate
    build = _compile(_bare(inner))
    return lambda value: validate(build(value))


def _checked_by_pydantic(annotation: Any) -> _Converter:
    try:
        return builder_of(annotation)
    except Exception as error:
        raise _unchecked(annotation, str(error)) from error


def _bounded(annotation: Any, inner: Any, build: _Converter, bounds: list[msgspec.Meta]) -> _Converter:
    """Build the function that checks constraints of msgspec in a value that msgspec cannot build."""
    kind: Any = get_origin(inner) or inner
    measure: Callable[[Any], Any] = _unchanged
    if kind in _MAPPINGS:
        measure = inner = dict
    elif kind is tuple or (kind in _COLLECTIONS and kind is not collections.abc.Iterator):
        measure = inner = list
    bounded = _with_metadata(inner, *bounds)
    try:
        msgspec.inspect.type_info(bounded)
    except Exception as error:
        raise _unchecked(annotation, str(error)) from error

    def build_within(value: Any) -> Any:
        built = build(value)
        msgspec.convert(measure(built), bounded)
        return built

    return build_within


def _with_metadata(annotation: Any, *metadata: Any) -> Any:
    form: Any = Annotated
    parts = (annotation, *metadata)
    return form[parts]


def _unchecked(annotation: Any, reason: str) -> CodecError:
    return CodecError(
        f"the constraints of {annotation_title(annotation)} cannot be checked: {reason}; write constraints that pydantic or "
        "msgspec applies, or annotate without them and check the value in the function"
    )


def _is_read_alike(annotation: Any) -> bool:
    """Tell whether pydantic reads values from the form in which they are recorded, as this module does."""
    annotation = _plain(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return not metadata_for_msgspec(annotation) and _is_read_alike(arguments[0])
    if origin is Literal:
        return not any(isinstance(each, enum.Enum) for each in arguments)
    if origin in _UNIONS:
        return len(arguments) == 2 and NoneType in arguments and all(_is_read_alike(each) for each in arguments)
    if origin in (list, set, frozenset, tuple, dict):
        return all(each is ... or _is_read_alike(each) for each in arguments)
    if annotation in (list, set, frozenset, tuple, dict):
        return True
    return annotation in _READ_ALIKE or (is_for_pydantic(annotation) and _fields_of(annotation) is None)


def _is_constrained(annotation: Any) -> bool:
    """Tell whether an annotation has a part that pydantic alone checks, at any depth; msgspec passes over such parts."""
    try:
        return any(_is_constraint(each) for each in _parts(annotation, []))
    except Exception:  # noqa: BLE001  (annotations of a class may raise anything; building the class says so)
        return True


def _is_bounded(annotation: Any) -> bool:
    return any(metadata_for_msgspec(each) for each in _parts(annotation, []))


def _is_constraint(annotation: Any) -> bool:
    kind: Any = get_origin(annotation) or annotation
    return bool(metadata_for_pydantic(annotation)) or is_for_pydantic(kind) or is_pydantic_class(kind)


def _parts(annotation: Any, seen: list[Any]) -> Iterator[Any]:
    """Iterate over an annotation and all annotations in it, those of fields included; pydantic's classes stay whole."""
    if type(get_origin(annotation) or annotation).__name__ == "TypeAliasType":
        if annotation in seen:  # an alias may speak of itself
            return
        seen.append(annotation)
    annotation = _plain(annotation)
    yield annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return
    inner = list(arguments[:1]) if origin is Annotated else [each for each in arguments if _is_part(each)]
    kind: Any = origin or annotation
    if isinstance(kind, type) and kind not in seen and not is_pydantic_class(kind) and not is_for_pydantic(kind):
        seen.append(kind)
        inner += _annotations_of_fields(kind)
    for each in inner:
        yield from _parts(each, seen)


def _annotations_of_fields(kind: Any) -> list[Any]:
    if _is_kind_of(kind, msgspec.Struct):
        return [each.type for each in msgspec.structs.fields(kind)]
    if typing.is_typeddict(kind) or (_is_kind_of(kind, tuple) and hasattr(kind, "_fields")):
        return [_required(each) for each in _hints(kind).values()]
    return [each.annotation for each in (_fields_of(kind) or {}).values()]


def _is_part(value: Any) -> bool:
    return _is_annotation(value) or hasattr(value, "__supertype__") or type(value).__name__ == "TypeAliasType"


def _is_kind_of(annotation: object, base: type) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, base)


def _unchanged(value: Any) -> Any:
    return value


def _none(value: Any) -> Any:
    if value is not None:
        raise _MisfitError(f"expected null, got {title(value)}")
    return value


def _plain(annotation: Any) -> Any:
    """Look through names of types."""
    while True:
        below = getattr(annotation, "__supertype__", None)
        alias: Any = get_origin(annotation) or annotation
        if below is None and type(alias).__name__ == "TypeAliasType":
            below = _substituted(alias.__value__, dict(zip(alias.__type_params__, get_args(annotation), strict=False)))
        if below is None:
            return annotation
        annotation = below


def _classes_of_msgspec(annotation: Any) -> set[type] | None:
    """Collect the classes of fields that msgspec would build for an annotation; ``None`` if it cannot build it."""
    try:
        info = msgspec.inspect.type_info(annotation)
    except Exception:  # noqa: BLE001  (msgspec may refuse an annotation in any way, and then cannot build a value)
        return None
    classes: set[type] = set()
    seen: set[int] = set()
    pending: list[Any] = [info]
    while pending:
        each = pending.pop()
        if isinstance(each, (tuple, list)):
            pending.extend(cast("Iterable[Any]", each))
        elif isinstance(each, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(each) not in seen:
            seen.add(id(each))
            if isinstance(each, (msgspec.inspect.CustomType, msgspec.inspect.TypedDictType)):
                return None
            if isinstance(each, msgspec.inspect.EnumType) and issubclass(each.cls, enum.Flag):
                return None
            if isinstance(each, msgspec.inspect.DictType) and not _has_key_of_msgspec(each.key_type):
                return None
            if isinstance(each, msgspec.inspect.DataclassType) or (
                isinstance(each, msgspec.inspect.StructType) and _fields_of(each.cls) is not None
            ):
                classes.add(get_origin(each.cls) or each.cls)
            pending.extend(getattr(each, name) for name in each.__struct_fields__ if name != "default")
    return classes


def _has_key_of_msgspec(key: Any) -> bool:
    """Tell whether msgspec finds keys of a type among texts; it does not find true, false and null."""
    parts = key.types if isinstance(key, msgspec.inspect.UnionType) else (key,)
    if any(isinstance(each, msgspec.inspect.StrType) for each in parts):
        return True
    return not any(isinstance(each, (msgspec.inspect.BoolType, msgspec.inspect.NoneType)) for each in parts)


@dataclasses.dataclass(frozen=True)
class _Field:
    attribute: str
    annotation: Any
    is_required: bool
    default: Callable[[], Any]


def _fields_of(kind: Any) -> dict[str, _Field] | None:
    """List the recorded fields of a class by their recorded names; ``None`` if the class has other contents than fields."""
    if not _is_kind_of(kind, object):
        return None
    if _is_kind_of(kind, msgspec.Struct):
        config = kind.__struct_config__
        if config.tag is not None or config.array_like:
            return None
        return {
            each.encode_name: _Field(
                each.name, each.type, each.required, _default_of(each.default, each.default_factory, msgspec.NODEFAULT)
            )
            for each in msgspec.structs.fields(kind)
        }
    if dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        missing = dataclasses.MISSING
        return {
            each.name: _Field(
                each.name,
                hints.get(each.name, Any),
                each.default is missing and each.default_factory is missing,
                _default_of(each.default, each.default_factory, missing),
            )
            for each in dataclasses.fields(kind)
        }
    attributes: Any = getattr(kind, "__attrs_attrs__", None)
    if attributes is None:
        return None
    hints = _hints(kind)
    return {
        each.name: _Field(each.name, hints.get(each.name, Any), type(each.default).__name__ == "_Nothing", lambda: None)
        for each in attributes
    }


def _default_of(default: Any, factory: Any, missing: Any) -> Callable[[], Any]:
    return (lambda: default) if factory is missing else factory


def _hints_of_fields(kind: Any) -> dict[str, Any]:
    """Evaluate the annotations of a dataclass without ``InitVar``, which Python 3.10 refuses in annotations that are texts."""
    fields = {field.name for field in dataclasses.fields(kind)}
    hints: dict[str, Any] = {}
    bases: list[type] = list(reversed(kind.__mro__))
    for base in bases:
        own = inspect.get_annotations(base)
        holder = types.SimpleNamespace(__annotations__={name: each for name, each in own.items() if name in fields})
        module = vars(sys.modules[base.__module__])
        hints.update(typing.get_type_hints(holder, module, dict(vars(base)), include_extras=True))
    return hints


def _hints(kind: Any) -> dict[str, Any]:
    try:
        if sys.version_info < (3, 11) and hasattr(kind, "__dataclass_fields__"):
            return _hints_of_fields(kind)
        return typing.get_type_hints(kind, include_extras=True)
    except Exception as error:
        raise CodecError(
            f"the annotations of {kind.__qualname__} cannot be evaluated: {error}; define the class and what it names at "
            "the top of a module"
        ) from error


@lru_cache(maxsize=1024)
def _recorded_names(kind: Any) -> set[str] | None:
    """Collect the names under which the fields of a class may be recorded; ``None`` if it takes any."""
    if not is_pydantic_class(kind):
        return {*(_fields_of(kind) or ())}
    fields: Any = getattr(kind, "model_fields", None)
    if fields is None:
        return {*getattr(kind, "__pydantic_fields__", {})}
    if getattr(kind, "model_config", {}).get("extra") == "allow" or getattr(kind, "__pydantic_root_model__", False):
        return None
    names = {*fields, *getattr(kind, "model_computed_fields", {})}
    return names | {alias for each in fields.values() for alias in (each.alias, each.serialization_alias) if alias}


@lru_cache(maxsize=1024)
def _names_and_parts(kind: type) -> tuple[frozenset[str], list[tuple[str, str]]] | None:
    """Return the recorded names of the fields of a class, and name and attribute of those that may hold other classes."""
    fields = _fields_of(kind)
    if fields is None:
        return None
    parts = [(name, each.attribute) for name, each in fields.items() if each.annotation not in (str, int, float, bool)]
    return frozenset(fields), parts


def _warn_of_unknown_fields(value: Any, built: Any) -> None:
    """Warn of the fields in ``value`` that the classes in ``built`` do not have, at any depth."""
    if isinstance(value, list):
        if isinstance(built, (list, tuple)):
            for each, part in zip(cast("list[object]", value), cast("list[object]", built), strict=False):
                if type(each) is dict or type(each) is list:
                    _warn_of_unknown_fields(each, part)
    elif isinstance(value, dict):
        given = cast("dict[str, object]", value)
        if isinstance(built, dict):
            _warn_of_unknown_fields([*given.values()], [*cast("dict[object, object]", built).values()])
        else:
            _warn_of_unknown_fields_of_class(given, built)


def _warn_of_unknown_fields_of_class(given: dict[str, object], built: object) -> None:
    kind = cast("type", built.__class__)
    known = _names_and_parts(kind)
    if known is None:
        return
    names, parts = known
    if not given.keys() <= names:
        _warn_once_of_fields(kind, frozenset(given.keys() - names))
    for name, attribute in parts:
        each = given.get(name)
        if type(each) is dict or type(each) is list:
            _warn_of_unknown_fields(each, getattr(built, attribute))


@lru_cache(maxsize=1024)
def _warn_once_of_fields(kind: type, unknown: frozenset[str]) -> None:
    # Not an error, because code that has removed a field still gets values from code that has it.
    _log.warning(
        "a value for %s has the fields %s, which that class does not have and which are dropped; if a subclass has them, "
        "import its module in this process",
        kind.__qualname__,
        ", ".join(sorted(unknown)),
    )


def _class(annotation: Any) -> _Converter:
    kind: Any = get_origin(annotation) or annotation
    own: list[_Converter] = []

    def build(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        unknown = _unknown_fields(kind, value)
        if unknown:
            found = _subclass_of(kind, value, unknown)
            if found is not None:
                return found
            _warn_once_of_fields(kind, unknown)
        if not own:  # later, since a class may speak of itself
            own.append(_without_subclasses(annotation, kind))
        return own[0](value)

    return build


def _subclass_of(kind: type, value: Any, unknown: frozenset[str]) -> Any:
    """Build the subclass of ``kind`` that was recorded, if a subclass has the ``unknown`` fields."""
    if not kind.__subclasses__():
        return None
    text = encode(value)
    built: list[Any] = []
    for each in _descendants(kind):
        known = _recorded_names(each)
        if known is not None and not unknown <= known:
            continue
        try:
            instance = _without_subclasses(each, each)(value)
        except _FAULTS:
            continue
        if _is_written_as(instance, text):
            built.append(instance)
    # A subclass without fields is recorded like its base.
    built = [one for one in built if not any(one is not two and isinstance(one, type(two)) for two in built)]
    if len(built) > 1:
        raise CodecError(_several(annotation_title(kind), built))
    return built[0] if built else None


def _without_subclasses(annotation: Any, kind: type) -> _Converter:
    if not is_pydantic_class(kind) and not is_for_pydantic(kind):
        return _fields_builder(annotation, kind)
    return _pydantic_dataclass(annotation, kind) if _fields_of(kind) else _checked_by_pydantic(annotation)


def _pydantic_dataclass(annotation: Any, kind: type) -> _Converter:
    """Build the function that makes a dataclass with pydantic, which would read some of the recorded fields in another way."""
    validate = _checked_by_pydantic(annotation)
    fields = cast("dict[str, _Field]", _fields_of(kind))
    own = {name: _part(_bare(each.annotation)) for name, each in fields.items() if not _is_read_alike(each.annotation)}

    def build(value: Any) -> Any:
        if isinstance(value, dict):
            given = cast("dict[str, Any]", value)
            value = {name: _at(name, own.get(name, _unchanged), each) for name, each in given.items()}
        return validate(value)

    return build if own else validate


def _bare(annotation: Any) -> Any:
    """Remove the metadata for pydantic from an annotation."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if metadata_for_pydantic(annotation):
        return _bare(arguments[0])
    if origin in (list, set, frozenset, tuple, dict):
        return types.GenericAlias(origin, tuple(each if each is ... else _bare(each) for each in arguments))
    return annotation


def _descendants(kind: type) -> list[type]:
    """Collect all subclasses; of classes that were defined again, the last."""
    found: dict[tuple[str, str], type] = {}
    pending = [kind]
    while pending:
        subclasses: list[type] = pending.pop().__subclasses__()
        for each in subclasses:
            found[each.__module__, each.__qualname__] = each
            pending.append(each)
    return list(found.values())


def _fields_builder(annotation: Any, kind: type) -> _Converter:
    """Build instances of dataclasses, attrs classes and structs as msgspec does."""
    fields = cast("dict[str, _Field]", _fields_of(kind))
    parameters = getattr(kind, "__parameters__", ())
    given = dict(zip(parameters, get_args(annotation), strict=False))
    converters = {name: _part(_substituted(each.annotation, given)) for name, each in fields.items()}
    is_dataclass = dataclasses.is_dataclass(kind)
    is_closed = _is_kind_of(kind, msgspec.Struct) and cast("Any", kind).__struct_config__.forbid_unknown_fields
    has_init_variables = is_dataclass and any(
        isinstance(each, dataclasses.InitVar) or getattr(each, "_field_type", None) is _INIT_VARIABLE
        for each in getattr(kind, "__dataclass_fields__", {}).values()
    )

    def build(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _MisfitError(f"expected an object for {annotation_title(annotation)}, got {title(value)}")
        if is_closed and not fields.keys() >= value.keys():
            raise _MisfitError(f"{annotation_title(annotation)} has other fields")
        values: dict[str, Any] = {}
        for name, field in fields.items():
            if name in value:
                values[field.attribute] = _at(name, converters[name], value[name])
            elif field.is_required:
                raise _MisfitError(f"{annotation_title(annotation)} has no '{name}'")
            elif is_dataclass:
                values[field.attribute] = field.default()
        if not is_dataclass:
            return _called(kind, values)
        instance = _made(kind)
        for name, each in values.items():
            object.__setattr__(instance, name, each)
        # With InitVar, the fields have been recorded as __post_init__ left them, and its arguments have not.
        if hasattr(instance, "__post_init__") and not has_init_variables:
            instance.__post_init__()
        return instance

    return build


def _made(kind: Any) -> Any:
    """Make an instance without calling ``__init__``."""
    return object.__new__(kind)


_INIT_VARIABLE: Any = getattr(dataclasses, "_FIELD_INITVAR", None)


def _called(kind: Any, values: dict[str, Any]) -> Any:
    attributes: Any = getattr(kind, "__attrs_attrs__", None)
    if attributes is None:
        return kind(**values)
    later = {each.name for each in attributes if not each.init}
    aliases = {each.name: getattr(each, "alias", None) or each.name.lstrip("_") for each in attributes}
    instance = kind(**{aliases[name]: each for name, each in values.items() if name not in later})
    for name in later & values.keys():
        object.__setattr__(instance, name, values[name])
    return instance


def _substituted(annotation: Any, given: Mapping[Any, Any]) -> Any:
    """Put the arguments of a generic class in the place of its type variables."""
    if not given:
        return annotation
    if isinstance(annotation, TypeVar):
        return given.get(annotation, annotation)
    inner = getattr(annotation, "__parameters__", ())
    if not inner or _is_plain_class(annotation):
        return annotation
    return annotation[tuple(given.get(each, each) for each in inner)]


def _is_plain_class(annotation: object) -> bool:
    return isinstance(annotation, type) and get_origin(annotation) is None


def _part(annotation: Any) -> _Converter:
    """Build the function that converts a part of a class. The part must not stay a raw value."""
    try:
        return _compile(annotation)
    except _UnbuildableError:
        return lambda value: _instance_of(value, annotation)


def _instance_of(value: Any, annotation: Any) -> Any:
    if _fits(value, annotation):
        return value
    raise CodecError(f"no {annotation_title(annotation)} can be built from JSON; annotate that field with Any")


def _at(name: object, converter: _Converter, value: Any) -> Any:
    try:
        return converter(value)
    except _FAULTS as error:
        if isinstance(error, CodecError) and not isinstance(error, _MisfitError):
            raise
        raise _MisfitError(f"at '{name}': {error}") from error


def _enum(kind: Any) -> _Converter:
    members: dict[str, Any] = {}
    for member in kind:
        text = encode(member.value)
        if members.setdefault(text, member) is not member:
            raise CodecError(f"two members of {kind.__qualname__} have the same form in JSON, {text}; make them differ")
    find = _member_of(kind, members)

    def build(value: Any) -> Any:
        if not isinstance(value, (list, dict)) and encode(value) not in members:
            return kind(value)  # a flag of several members, or a value that the enum's _missing_ finds
        return find(value)

    return build


def _member_of(annotation: Any, members: Mapping[str, Any]) -> _Converter:
    def build(value: Any) -> Any:
        text = encode(value)
        if text not in members:
            raise _MisfitError(f"{text} is not in {annotation_title(annotation)}")
        return members[text]

    return build


def _tuple(annotation: Any, arguments: tuple[Any, ...]) -> _Converter:
    if not arguments or arguments[-1] is Ellipsis:
        return _collection(annotation, tuple, _compile(arguments[0] if arguments else Any))
    converters = [_compile(each) for each in arguments if each != ()]

    def build(value: Any) -> Any:
        items = _items(annotation, value)
        if len(items) != len(converters):
            raise _MisfitError(f"expected {len(converters)} items, got {len(items)}")
        return tuple(_at(place, each, item) for place, (each, item) in enumerate(zip(converters, items, strict=True)))

    return build


def _named_tuple(kind: Any) -> _Converter:
    hints = _hints(kind)
    converters: list[_Converter] = []

    def build(value: Any) -> Any:
        if not converters:
            converters.extend(_part(hints.get(name, Any)) for name in kind._fields)
        items = _items(kind, value)
        if len(items) > len(converters):
            raise _MisfitError(f"expected {len(converters)} items, got {len(items)}")
        return kind(*(_at(name, each, item) for name, each, item in zip(kind._fields, converters, items, strict=False)))

    return build


def _typed_dict(kind: Any) -> _Converter:
    converters: dict[str, _Converter] = {}

    def build(value: Any) -> Any:
        if not converters:
            converters.update({name: _part(_required(each)) for name, each in _hints(kind).items()})
        if not isinstance(value, dict):
            raise _MisfitError(f"expected an object for {kind.__qualname__}, got {title(value)}")
        given = cast("dict[str, Any]", value)
        for name in sorted(kind.__required_keys__ - given.keys()):
            raise _MisfitError(f"{kind.__qualname__} has no '{name}'")
        # A dict of a narrower type has further keys.
        return {name: _at(name, converters.get(name, _unchanged), each) for name, each in given.items()}

    return build


def _required(annotation: Any) -> Any:
    """Look through ``Required``, ``NotRequired`` and ``ReadOnly``."""
    while getattr(get_origin(annotation), "_name", None) in ("Required", "NotRequired", "ReadOnly"):
        annotation = get_args(annotation)[0]
    return annotation


def _collection(annotation: Any, make: Callable[[Any], Any], convert_item: _Converter) -> _Converter:
    def build(value: Any) -> Any:
        return make([_at(place, convert_item, each) for place, each in enumerate(_items(annotation, value))])

    return build


def _items(annotation: Any, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise _MisfitError(f"expected a list for {annotation_title(annotation)}, got {title(value)}")
    return cast("list[Any]", value)


def _mapping(annotation: Any, make: Callable[[Any], Any], arguments: tuple[Any, ...]) -> _Converter:
    convert_key, convert_value = _key(arguments[0]), _compile(arguments[1])

    def build(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _MisfitError(f"expected an object for {annotation_title(annotation)}, got {title(value)}")
        given = cast("dict[str, Any]", value)
        return make({_at(key, convert_key, key): _at(key, convert_value, each) for key, each in given.items()})

    return build


def _key(annotation: Any) -> _Converter:
    """Build the function that converts the key of an object. JSON has a text in place of every key."""
    whole, strings = _plain(annotation), (str, Any)
    if whole in strings:
        return _unchanged
    keyed: Any = types.GenericAlias(dict, (whole, Any))
    if _classes_of_msgspec(keyed) is not None:
        return lambda key: next(iter(msgspec.convert({key: None}, keyed, str_keys=True)))
    convert_key = _compile(whole)

    def build(key: str) -> Any:
        try:
            return convert_key(key)
        except _FAULTS:
            return convert_key(json.loads(key))

    return build


def _union(annotation: Any, members: list[Any]) -> _Converter:
    """Build the function that finds the type of a value in a union.

    A value was written as a type if that type, built from it, is written the same. Types that have a form among texts,
    numbers or objects come before these.
    """
    problem = ambiguity_of(annotation)
    if problem is not None:
        raise CodecError(problem)
    converters = [(each, _compile(each)) for each in members]

    def build(value: Any) -> Any:
        text = encode(value)
        exact: list[tuple[bool, Any]] = []
        loose: list[tuple[bool, int, Any]] = []
        faults: list[str] = []
        for member, converter in converters:
            if not _may_be(value, member):
                continue
            try:
                built = converter(value)
            except _FAULTS as error:
                faults.append(f"{annotation_title(member)}: {error}")
                continue
            is_plain = _is_plain(member)
            if is_plain or _is_written_as(built, text):
                exact.append((is_plain, built))
            else:
                loose.append((is_plain, len(_unknown_fields(member, value)), built))
        special = [each for is_plain, each in exact if not is_plain]
        best = special or [each for _, each in exact if not isinstance(value, dict) or not loose]
        if not best and loose:
            fewest = min(count for _, count, _ in loose)
            best = [each for _, count, each in loose if count == fewest]
            if fewest and exact:
                best = [each for _, each in exact]
        if not best:
            raise _MisfitError("; ".join(faults) or f"no type of it is written as {text[:80]}")
        if any(each != best[0] or type(each) is not type(best[0]) for each in best[1:]):
            raise CodecError(_several(annotation_title(annotation), best))
        return best[0]

    return build


def _is_written_as(built: Any, text: str) -> bool:
    try:
        return encode(built) == text
    except CodecError:  # a type that is read alone, such as the path of a file
        return False


def _several(what: str, built: list[Any]) -> str:
    names = " and ".join(sorted({type(each).__qualname__ for each in built}))
    return f"a value fits several types of {what}, {names}; give them fields of different names, or a Literal field that tells them apart"


def _is_plain(member: Any) -> bool:
    kind = get_origin(member) or member
    return kind in (str, int, float, bool, NoneType, None, Any, object, dict, list, collections.abc.Mapping)


def _may_be(value: Any, member: Any) -> bool:
    """Tell apart the plain types that JSON distinguishes. Some converters take one for another."""
    if member in (bool, int, float, str):
        return type(value) is member or (member is float and type(value) is int)
    return True


def _unknown_fields(member: Any, value: Any) -> frozenset[str]:
    """Return the fields in ``value`` that a class does not have."""
    kind = get_origin(member) or member
    names = _recorded_names(kind) if isinstance(value, dict) else None
    if names is None:
        return _NO_NAMES
    given = cast("dict[str, object]", value).keys()
    return _NO_NAMES if given <= names else frozenset(given - names)


def _ambiguity(annotation: Any, seen: set[Any]) -> str | None:
    annotation = _plain(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal or isinstance(annotation, TypeVar):
        return None
    if origin in _UNIONS:
        problem = _ambiguity_of_union(annotation, [_plain(each) for each in arguments])
        if problem is not None:
            return problem
    parts: list[Any] = [arguments[0]] if origin is Annotated else [each for each in arguments if _is_annotation(each)]
    kind: Any = origin or annotation
    if isinstance(kind, type) and kind not in seen and not is_pydantic_class(kind):
        seen.add(kind)
        try:
            parts += [each.annotation for each in (_fields_of(kind) or {}).values()]
        except CodecError:
            return None  # a class is defined later in the module; the conversion fails if it is not
    return next((problem for each in parts if (problem := _ambiguity(each, seen)) is not None), None)


def _ambiguity_of_union(annotation: Any, members: list[Any]) -> str | None:
    kinds = {each for each in members if isinstance(each, type) and get_origin(each) is None}
    way_out = "annotate one type, or wrap each in a class with fields of different names"
    for texts, reason in _AMBIGUOUS_TEXTS:
        if texts <= kinds:
            return f"the types of {annotation} cannot be told apart in JSON: {reason}; {way_out}"
    shapes: dict[Any, Any] = {}
    for each in kinds:
        try:
            fields = None if is_pydantic_class(each) else _fields_of(each)
        except CodecError:
            continue
        if fields is None:
            continue
        shape = tuple((name, str(field.annotation)) for name, field in fields.items())
        if shape in shapes:
            names = " and ".join(sorted((each.__qualname__, shapes[shape].__qualname__)))
            return (
                f"{names} in {annotation} have the same fields, so that they cannot be told apart in JSON; give them "
                "fields of different names, or a Literal field that tells them apart"
            )
        shapes[shape] = each
    return None


def _leaves(annotation: Any) -> Iterator[Any]:
    """Collect the classes that an annotation is made of."""
    arguments = get_args(annotation)
    if not arguments or get_origin(annotation) is Literal:
        yield annotation
        return
    for each in arguments:
        if each is not Ellipsis and _is_annotation(each):
            yield from _leaves(each)


def _is_annotation(value: Any) -> bool:
    # Annotated carries objects beside the type, and Callable carries lists.
    return isinstance(value, (type, TypeVar)) or get_origin(value) is not None or value is Any or value is None
