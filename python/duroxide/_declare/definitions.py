"""The definitions that a runtime registers: a function with its name, and the types in its annotations."""

from __future__ import annotations

import collections.abc
import contextlib
import functools
import inspect
import logging
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType, SimpleNamespace
from typing import Any, ClassVar, Literal, get_args, get_origin

from duroxide._values.conversions import ambiguity_of, unchecked_constraint_of
from duroxide._values.validation import check_name
from duroxide._values.versions import DEFAULT_VERSION, check_version
from duroxide.exceptions import RegistrationError

_RESERVED_PREFIX = "__duroxide_syscall:"
_log = logging.getLogger("duroxide.registration")

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class ActivityDefinition:
    """The definition of an activity, for a runtime.

    Attributes:
        name: Name under which orchestrations schedule it.
        function: Called with an ``ActivityContext`` and the input.
        is_async: Whether it is an ``async def``.
        input_type: Annotation of its second parameter, or ``None``.
        result_type: Annotation of its return value, or ``None``.
    """

    kind: ClassVar[Literal["activity"]] = "activity"

    name: str
    function: Function
    is_async: bool
    input_type: Any = None
    result_type: Any = None

    @classmethod
    def of(cls, function: Function, name: str, local_names: Mapping[str, Any] | None = None) -> ActivityDefinition:
        """Describe ``function`` as activity ``name``.

        Args:
            function: A plain function or an ``async def``.
            name: Name under which it is scheduled.
            local_names: Names that its annotations may use besides those of its module; default ``None``.

        Raises:
            RegistrationError: The function cannot be an activity.
        """
        _check_convention(function, "activity", name)
        input_type, result_type = _annotations(function, local_names or {})
        check_annotations(f"activity '{name}'", {"input": input_type, "return": result_type})
        return cls(name, function, is_async(function), input_type, result_type)


@dataclass(frozen=True, slots=True)
class OrchestrationDefinition:
    """The definition of one version of an orchestration, for a runtime.

    Attributes:
        name: Name under which it is started.
        version: Its version, or ``None`` for the default, 1.0.0.
        function: Called with an ``OrchestrationContext`` and the input; a generator function, an ``async def`` or a
            plain function.
        input_type: Annotation of its second parameter, or ``None``.
        result_type: Annotation of the value that it finally returns, or ``None``.
    """

    kind: ClassVar[Literal["orchestration"]] = "orchestration"

    name: str
    version: str | None
    function: Function
    input_type: Any = None
    result_type: Any = None

    @property
    def resolved_version(self) -> str:
        """The version under which the engine registers it."""
        return DEFAULT_VERSION if self.version is None else self.version

    @classmethod
    def of(
        cls, function: Function, name: str, version: str | None = None, local_names: Mapping[str, Any] | None = None
    ) -> OrchestrationDefinition:
        """Describe ``function`` as orchestration ``name``.

        Args:
            function: A generator function, an ``async def`` or a plain function.
            name: Name under which it is started.
            version: Its semantic version; default ``None``, which is 1.0.0.
            local_names: Names that its annotations may use besides those of its module; default ``None``.

        Raises:
            RegistrationError: The function cannot be an orchestration, or the version is malformed.
        """
        _check_convention(function, "orchestration", name)
        check_registered_version(name, version)
        input_type, result_type = _annotations(function, local_names or {})
        check_annotations(f"orchestration '{name}'", {"input": input_type, "return": result_type})
        return cls(name, version, function, input_type, result_type)


def is_same_function(old: Function, new: Function) -> bool:
    """Tell whether ``new`` is a repeated definition of ``old``, as when a notebook's cell runs again."""
    if old is new or old == new:
        return True
    before, after = (inspect.unwrap(function) for function in (old, new))
    names = [(getattr(each, "__module__", None), getattr(each, "__qualname__", None)) for each in (before, after)]
    if names[0] != names[1]:
        return False
    old_code, new_code = (getattr(each, "__code__", None) for each in (before, after))
    if not isinstance(old_code, CodeType) or not isinstance(new_code, CodeType):
        return False
    if old_code == new_code:
        return True
    # An edited notebook cell ran again: each run of a cell has another file name.
    is_lambda = old_code.co_name == "<lambda>"
    return names[0][0] == "__main__" and old_code.co_filename != new_code.co_filename and not is_lambda


def check_function(function: object, kind: str, name: object) -> str:
    """Refuse an object that cannot be an activity or orchestration; its parameters are not checked.

    Args:
        function: The function.
        kind: ``"activity"`` or ``"orchestration"``.
        name: The name under which to register it.

    Returns:
        Its kind and name, for messages.

    Raises:
        RegistrationError: The object cannot be an activity or orchestration, or the name is invalid.
    """
    try:
        checked = check_name(name, f"the name of an {kind}")
    except (TypeError, ValueError) as error:
        raise RegistrationError(str(error)) from None
    what = f"{kind} '{checked}'"
    if checked.startswith(_RESERVED_PREFIX):
        raise RegistrationError(f"{what} has a name that the engine reserves; choose one without '{_RESERVED_PREFIX}'")
    if getattr(function, "kind", None) in ("activity", "orchestration"):
        raise RegistrationError(f"{what} is declared already, as {function!r}; pass it as Runtime(functions=[...])")
    if not callable(function):
        raise RegistrationError(f"{what} is a {type(function).__name__}, which cannot be called; pass a function")
    if isinstance(function, type):
        raise RegistrationError(f"{what} is a class; pass a function, or a bound method of an instance")
    if _is(function, inspect.isasyncgenfunction):
        raise RegistrationError(
            f"{what} is an async generator, which cannot be driven; write 'def' with 'yield', or 'async def' with "
            "'await'"
        )
    if kind == "orchestration" and _is(function, inspect.iscoroutinefunction) and sys.version_info < (3, 11):
        raise RegistrationError(
            f"{what} is an 'async def', which needs Python 3.11 or later as an orchestration; write 'def' with 'yield'"
        )
    if kind == "activity" and _is(function, inspect.isgeneratorfunction):
        raise RegistrationError(
            f"{what} is a generator function; return its result instead of yielding it, or register it as an "
            "orchestration"
        )
    return what


def check_registered_version(name: str, version: str | None) -> None:
    """Refuse a version that the engine cannot read.

    Raises:
        RegistrationError: The version is malformed.
    """
    if version is not None:
        try:
            check_version(version)
        except (TypeError, ValueError) as error:
            raise RegistrationError(f"orchestration '{name}' cannot be registered: {error}") from None


def is_async(function: Function) -> bool:
    """Tell whether calls of ``function`` must be awaited."""
    return _is(function, inspect.iscoroutinefunction)


def needed_names(function: Function, names: Mapping[str, Any]) -> dict[str, Any]:
    """Select from ``names`` those that the annotations of ``function`` use."""
    needed: dict[str, Any] = {}
    for annotation in _raw_annotations(function).values():
        if isinstance(annotation, str):
            with contextlib.suppress(SyntaxError):
                spoken = compile(annotation, "<annotation>", "eval").co_names
                needed.update({name: names[name] for name in spoken if name in names})
    return needed


def annotations_of(function: Function, local_names: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate all annotations of ``function``, ``"return"`` among them; ``None`` for one that cannot be evaluated.

    Args:
        function: The function.
        local_names: Names that they may use besides those of its module.
    """
    target = _target(function)
    return {name: _resolve(each, target, local_names) for name, each in _raw_annotations(function).items()}


def check_annotations(what: str, annotations: Mapping[str, Any]) -> None:
    """Refuse annotations whose values cannot be told apart once they are recorded, or whose constraints nothing checks.

    Args:
        what: Kind and name of the function, for messages.
        annotations: The annotations by the names of the parameters, ``"return"`` among them.

    Raises:
        RegistrationError: One is such a union, or has such a constraint.
    """
    for name, annotation in annotations.items():
        problem = ambiguity_of(annotation) or unchecked_constraint_of(annotation)
        if problem is not None:
            place = "its result" if name == "return" else f"parameter '{name}'"
            raise RegistrationError(f"{what}, {place}: {problem}")


def _check_convention(function: Any, kind: str, name: object) -> None:
    """Refuse a function that cannot be called with a context and an input."""
    what = check_function(function, kind, name)
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise RegistrationError(
            f"{what} must take a context and an input, as in 'def f(ctx, input)': {error}; "
            f"for other parameters decorate it with @duroxide.{kind}"
        ) from None
    except ValueError:
        pass  # a builtin function without a signature


def _is(function: Any, test: Callable[[Any], bool]) -> bool:
    """Apply a test of ``inspect`` to a function, or to the ``__call__`` of an object."""
    return test(function) or (not inspect.isroutine(function) and test(getattr(function, "__call__", None)))  # noqa: B004


def _annotations(function: Function, local_names: Mapping[str, Any]) -> tuple[Any, Any]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None, None
    target, annotations = _target(function), _raw_annotations(function)
    input_type = None
    if len(parameters) > 1 and parameters[1].name in annotations:
        input_type = _resolve(annotations[parameters[1].name], target, local_names)
    result_type = _resolve(annotations["return"], target, local_names) if "return" in annotations else None
    return input_type, result_of(result_type, function)


def _target(function: Function) -> Any:
    """Find the written function inside partials, decorators and callable objects."""
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    target = inspect.unwrap(target)
    if not inspect.isroutine(target):
        target = getattr(target, "__call__", target)  # noqa: B004
    return getattr(target, "__func__", target)


def _raw_annotations(function: Function) -> dict[str, Any]:
    return dict(getattr(_target(function), "__annotations__", {}))


def _resolve(annotation: Any, function: Any, local_names: Mapping[str, Any]) -> Any:
    """Evaluate one annotation; ``None`` if a name in it is unknown at run time."""
    names = dict(local_names)
    with contextlib.suppress(TypeError, ValueError):
        names.update(inspect.getclosurevars(function).nonlocals)
    holder: Any = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, getattr(function, "__globals__", {}), names, include_extras=True)["it"]
    except Exception as error:  # noqa: BLE001  (an annotation is an expression, and may fail in any way)
        _log.warning(
            "the annotation %r of %s cannot be evaluated, so its values stay unconverted JSON values: %s",
            annotation,
            getattr(function, "__qualname__", function),
            error,
        )
        return None


def result_of(annotation: Any, function: Function) -> Any:
    """Return the type of the value that ``function`` finally returns, also as a generator or a coroutine."""
    origin = get_origin(annotation)
    kind = annotation if origin is None else origin
    if kind in (collections.abc.Generator, collections.abc.Coroutine):
        arguments = get_args(annotation)
        return arguments[2] if len(arguments) == 3 else None
    if kind is collections.abc.Awaitable:
        return next(iter(get_args(annotation)), None)
    is_yielded = kind in (collections.abc.Iterator, collections.abc.Iterable)
    return None if is_yielded and _is(_target(function), inspect.isgeneratorfunction) else annotation
