"""The recorded form of a declared function's arguments: this module alone converts them to JSON and back.

==================================================== ==================================================
arguments of the call                                recorded
==================================================== ==================================================
none                                                 ``null``
only that of the first parameter                     the value itself
any others                                           an object with the passed ones by name, in parameter order
==================================================== ==================================================

Defaults are not written, so a new parameter with a default changes nothing in the recorded form. Some values would be
read as something else: ``None`` where it means the default, and an object that looks like arguments by name. Such a
value is written by name. The value of a function's only parameter is never read as arguments by name.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from duroxide._native import ActivityContext, OrchestrationContext, RawText
from duroxide._values.codec import convert, encode
from duroxide._values.constraints import is_field_of_pydantic
from duroxide.exceptions import CodecError, RegistrationError

_EMPTY = inspect.Parameter.empty
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Arguments:
    """The parameters of one function, with the conversion of a call to its recorded form and back.

    Args:
        what: Kind and name of the function, for messages.
        function: The function.
        annotations: The evaluated annotations of its parameters, as far as they are known.
        context_type: A parameter with this annotation gets the context, and is not an argument.

    Raises:
        RegistrationError: Several parameters take the context, or one takes a context of the other kind.
    """

    def __init__(
        self,
        what: str,
        function: Callable[..., Any],
        annotations: Mapping[str, Any],
        context_type: type,
    ) -> None:
        self._what = what
        self._function = function
        self._annotations = annotations
        try:
            every = list(inspect.signature(function).parameters.values())
        except ValueError:
            raise RegistrationError(
                f"{what} has no signature that can be read; write a function that calls it"
            ) from None
        _check_defaults(what, every)
        contexts = _contexts(what, every, annotations, context_type)
        self._context = contexts[0] if contexts else None
        self._every = every
        self._parameters = {each.name: each for each in every if each.name != self._context}
        # Without annotations, which messages would show in their source form.
        self._signature = inspect.Signature([each.replace(annotation=_EMPTY) for each in self._parameters.values()])
        self._required = {
            name for name, each in self._parameters.items() if each.default is _EMPTY and each.kind not in _MANY
        }
        names = list(self._parameters)
        first = self._parameters[names[0]] if names else None
        # The parameter whose value is recorded without its name, if all others have defaults.
        self._first = first if first is not None and first.kind not in _MANY else None
        self._has_others = len(names) > 1
        # Nearly every call has one argument, so this case has a fast path.
        self._is_plain = (
            self._first is not None
            and not self._has_others
            and self._first.kind in _POSITIONAL
            and self._first.default is _EMPTY
        )
        # The beginnings of an object's text that could be read as arguments by name.
        self._beginnings = ("{}", *(f"{{{json.dumps(name)}:" for name in names))

    @property
    def input_type(self) -> Any:
        """The type to convert the recorded input to before ``adapter`` gets it; ``None`` if ``adapter`` converts it."""
        return self._annotations.get(self._first.name) if self._is_plain and self._first is not None else None

    def adapter(self) -> Callable[[Any, Any], Any]:
        """Make the function that a runtime calls with a context and the recorded input."""
        function = self._function
        call: Callable[[Any, Any], Any]
        if self._is_plain and self._context is None:
            call = _without_context(function)
        elif self._is_plain and self._every[0].name == self._context and self._every[1].kind in _POSITIONAL:
            call = _with_context(function)
        else:
            call = self._with_all(function)
        # A runtime recognises a repeated definition by this attribute.
        setattr(call, "__wrapped__", function)  # noqa: B010
        return call

    def _with_all(self, function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
        def call(context: Any, value: Any) -> Any:
            positional, named = self._spread(self.decode(value), context)
            return function(*positional, **named)

        return call

    def encode(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> object:
        """Return the recorded form of a call: a value, or its ``RawText``.

        Raises:
            TypeError: The arguments do not fit the function.
            CodecError: One of them cannot be written as JSON.
        """
        if self._is_plain and len(arguments) == 1 and not named:
            return arguments[0]
        try:
            given = self._signature.bind(*arguments, **named).arguments
        except TypeError as error:
            raise TypeError(f"{self._what}: {error}; its parameters are {self._signature}") from None
        if not given:
            return None
        first = self._first
        if first is not None and len(given) == 1 and first.name in given:
            value = given[first.name]
            text = encode(value)
            if not self._is_misread(text, value):
                return RawText(text)
        return RawText(encode(given))

    def decode(self, value: Any) -> dict[str, Any]:
        """Read a recorded input as arguments by name, converted to the types of their annotations.

        Raises:
            CodecError: The arguments do not fit the function.
        """
        given = self._by_name(value)
        converted: dict[str, Any] = {}
        for name, each in given.items():
            annotation = self._annotations.get(name)
            if annotation is None:
                converted[name] = each
                continue
            try:
                kind = self._parameters[name].kind
                if kind is inspect.Parameter.VAR_POSITIONAL:
                    converted[name] = [convert(item, annotation) for item in each]
                elif kind is inspect.Parameter.VAR_KEYWORD:
                    converted[name] = {key: convert(item, annotation) for key, item in each.items()}
                else:
                    converted[name] = convert(each, annotation)
            except CodecError as error:
                raise CodecError(f"{self._what}, parameter '{name}': {error}") from error
        return converted

    def _is_misread(self, text: str, value: Any) -> bool:
        """Tell whether ``text``, the recorded value of the first parameter, would be read as something else."""
        first = cast("inspect.Parameter", self._first)
        if first.default is not _EMPTY and text == "null" and first.default is not None:
            return True
        return text.startswith(self._beginnings) and self._names_arguments(json.loads(text))

    def _names_arguments(self, value: Any) -> bool:
        """Tell whether ``decode`` reads a recorded value as arguments by name."""
        if not isinstance(value, dict):
            return False
        names = cast("dict[str, Any]", value).keys()
        if self._has_others or self._first is None:
            return names <= self._parameters.keys() and names >= self._required
        # It is the value of the only parameter, except in the forms that say that the parameter was passed.
        if self._first.default is _EMPTY or names != {self._first.name}:
            return False
        inner: Any = cast("dict[str, Any]", value)[self._first.name]
        return inner is None or self._names_arguments(inner)

    def _by_name(self, value: Any) -> dict[str, Any]:
        if self._names_arguments(value):
            given: dict[str, Any] = value
            self._check_many(given)
            return given
        if value is None and not self._required:
            return {}
        first = self._first
        if first is not None and self._required <= {first.name}:
            return {first.name: value}
        names = ", ".join(self._parameters)
        if not self._parameters:
            raise CodecError(f"{self._what} has no parameters, and its input is {_shown(value)}; send nothing")
        if not isinstance(value, dict):
            raise CodecError(f"{self._what} takes {names} as an object by name, and its input is {_shown(value)}")
        keys: set[str] = {*cast("dict[str, Any]", value)}
        unknown = sorted(keys - self._parameters.keys())
        missing = [name for name in self._parameters if name in self._required and name not in keys]
        found = [f"no {', '.join(missing)}"] if missing else []
        found += [f"the unknown {', '.join(unknown)}"] if unknown else []
        raise CodecError(f"{self._what} takes {names}, and its input has {' and '.join(found)}; send what it takes")

    def _check_many(self, given: dict[str, Any]) -> None:
        for name, value in given.items():
            kind = self._parameters[name].kind
            wanted: type = list if kind is inspect.Parameter.VAR_POSITIONAL else dict
            if kind in _MANY and not isinstance(value, wanted):
                raise CodecError(
                    f"{self._what} takes many as '{name}', and its input has {_shown(value)} for it; "
                    f"send {'a list' if wanted is list else 'an object'}"
                )

    def _spread(self, given: dict[str, Any], context: Any) -> tuple[list[Any], dict[str, Any]]:
        """Arrange arguments for a call; a positional parameter without an argument gets its default."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for each in self._every:
            if each.name == self._context:
                value = context
            elif each.name in given:
                value = given[each.name]
            elif each.kind in _MANY:
                continue
            else:
                value = each.default
            if each.kind in _POSITIONAL:
                positional.append(value)
            elif each.kind is inspect.Parameter.VAR_POSITIONAL:
                positional.extend(value)
            elif each.kind is inspect.Parameter.VAR_KEYWORD:
                named.update(value)
            else:
                named[each.name] = value
        return positional, named


def _check_defaults(what: str, parameters: list[inspect.Parameter]) -> None:
    """Refuse pydantic's ``Field`` in the place of a default, where nothing applies it."""
    for each in parameters:
        if is_field_of_pydantic(each.default):
            raise RegistrationError(
                f"{what} has pydantic's Field as the default of parameter '{each.name}', where its constraints cannot be "
                "checked; write them into the annotation, as in Annotated[int, Field(gt=0)]"
            )


def _contexts(
    what: str, parameters: list[inspect.Parameter], annotations: Mapping[str, Any], context_type: type
) -> list[str]:
    """Find the parameter that takes the context, if there is one."""
    other_type = ActivityContext if context_type is OrchestrationContext else OrchestrationContext
    for each in parameters:
        if annotations.get(each.name) is other_type:
            raise RegistrationError(
                f"{what} asks for an {other_type.__name__} as {each.name}, and it gets an {context_type.__name__}; "
                "correct the annotation"
            )
    contexts = [each.name for each in parameters if annotations.get(each.name) is context_type]
    if len(contexts) > 1:
        raise RegistrationError(f"{what} asks for its context twice, as {' and '.join(contexts)}; keep one of them")
    if not contexts and parameters and parameters[0].name == "ctx" and parameters[0].annotation is _EMPTY:
        raise RegistrationError(
            f"{what} has a parameter ctx without an annotation, which would be an argument; annotate it with "
            f"{context_type.__name__} to get the context, or give it another name"
        )
    return contexts


def _without_context(function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    def call(_: Any, value: Any) -> Any:
        return function(value)

    return call


def _with_context(function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    def call(context: Any, value: Any) -> Any:
        return function(context, value)

    return call


def _shown(value: Any) -> str:
    kinds: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    kind: type[object] = value.__class__
    return "null" if value is None else kinds.get(kind, kind.__name__)
