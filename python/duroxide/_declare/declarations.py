"""Declared activities and orchestrations, which are called as functions and need no runtime to be declared."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, ParamSpec, TypeVar

from duroxide._declare.arguments import Arguments
from duroxide._declare.definitions import (
    ActivityDefinition,
    OrchestrationDefinition,
    annotations_of,
    check_annotations,
    check_function,
    is_async,
    needed_names,
    result_of,
)
from duroxide._declare.retry import RetryPolicy
from duroxide._declare.tags import check_tag
from duroxide._native import ActivityContext, OrchestrationContext, Task, current_context
from duroxide._values.validation import check_id, check_name
from duroxide._values.versions import check_version
from duroxide.exceptions import ConfigurationError, NotInOrchestration, RegistrationError

if TYPE_CHECKING:
    from typing_extensions import Self

P = ParamSpec("P")
T = TypeVar("T")
Retry = RetryPolicy | Mapping[str, Any]
OnCancellation = Literal["abandon", "wait"]
AnyDeclared = TypeVar("AnyDeclared", bound="Declared[..., Any]")


class _Unchanged:
    """The value of an option that was not given."""

    def __repr__(self) -> str:
        return "..."


_UNCHANGED: Any = _Unchanged()


def check_cancellation(cancellation: object) -> None:
    """Check what a call does about its activity when its wait is cancelled.

    Raises:
        ConfigurationError: It is neither ``"abandon"`` nor ``"wait"``.
    """
    if cancellation not in ("abandon", "wait", None):
        raise ConfigurationError(f"cancellation must be 'abandon' or 'wait', not {cancellation!r}")


class Declared(Generic[P, T]):
    """The common part of declared activities and orchestrations.

    Attributes:
        fn: The function itself. A call runs it at once, anywhere, and records nothing.
        name: Name under which it is registered.
    """

    kind: typing.ClassVar[Literal["activity", "orchestration"]]
    _context_type: typing.ClassVar[type]

    fn: Callable[..., Any]
    name: str

    def __init__(self, function: Callable[..., Any], name: str | None, local_names: Mapping[str, Any]) -> None:
        self.name = _check(function, self.kind, name)
        self.fn = function
        # The attributes of the function are not copied: they could hide attributes of this class.
        functools.update_wrapper(self, function, updated=())
        # Keep only the names that the annotations use, so that no other object stays alive.
        self._local_names = needed_names(function, local_names)
        self._options: dict[str, Any] = {}
        # Variants with other options share the original's annotations and arguments.
        self._original: Declared[P, T] = self

    @property
    def result_type(self) -> Any:
        """Annotation of the value that the function finally returns, or ``None``."""
        return self._original._result_type

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> Task[T]:
        """Describe a call, in an orchestration; the call happens when the task is awaited, yielded or started."""
        context = current_context()
        if context is None:
            raise NotInOrchestration(
                f"{self.kind} '{self.name}' was called outside an orchestration, where nothing can be recorded; "
                f"{self._way_out()}"
            )
        return self._schedule(context, self._original._arguments.encode(arguments, named))

    @property
    def arguments(self) -> Arguments:
        """The form in which its calls are recorded."""
        return self._original._arguments

    def __repr__(self) -> str:
        return f"<{self.kind} '{self.name}'>"

    def __reduce__(self) -> Any:
        """Pickle it as a function is pickled, by its name in the module; a variant by that name and its options.

        ``copy`` returns the same object for that reason.
        """
        place: str = getattr(self, "__qualname__", self.name)
        found: Any = sys.modules.get(self.__module__)
        for name in place.split("."):
            found = getattr(found, name, None)
        is_variant = type(found) is type(self) and found is not self
        if is_variant and getattr(found, "_original", None) is self._original:
            return _variant, (found, self._options)
        # If the module has another object under the name, pickle refuses the object and says so.
        return place

    # Annotations may use names that the module defines later, so they are evaluated when they are needed.
    @functools.cached_property
    def _arguments(self) -> Arguments:
        return Arguments(f"{self.kind} '{self.name}'", self.fn, self._annotations, self._context_type)

    @functools.cached_property
    def _annotations(self) -> dict[str, Any]:
        return annotations_of(self.fn, self._local_names)

    @functools.cached_property
    def _result_type(self) -> Any:
        return result_of(self._annotations.get("return"), self.fn)

    @functools.cached_property
    def _call_options(self) -> dict[str, Any]:
        return {"result_type": self.result_type, **self._options}

    def _check_annotations(self) -> None:
        annotations = {**self._original._annotations, "return": self.result_type}
        check_annotations(f"{self.kind} '{self.name}'", annotations)

    def _schedule(self, context: OrchestrationContext, value: object) -> Task[T]:
        raise NotImplementedError

    def _way_out(self) -> str:
        raise NotImplementedError

    def _with(self, changes: Mapping[str, Any]) -> Self:
        given = {option: value for option, value in changes.items() if value is not _UNCHANGED}
        options = {**self._options, **given}
        return _variant(self, {option: value for option, value in options.items() if value is not None})


class Activity(Declared[P, T]):
    """A declared activity; made by ``activity``.

    A call in an orchestration returns the task of the activity. Elsewhere ``.fn`` is the plain function.

    Attributes:
        fn: The function itself. A call runs it at once, anywhere, and records nothing.
        name: Name under which it is registered.
    """

    kind = "activity"
    _context_type = ActivityContext

    def options(
        self,
        *,
        retry: Retry | None = _UNCHANGED,
        tag: str | None = _UNCHANGED,
        session: str | None = _UNCHANGED,
        cancellation: OnCancellation | None = _UNCHANGED,
    ) -> Activity[P, T]:
        """Return the same activity with other options for its calls: ``charge.options(tag="gpu")(order)``.

        Args:
            retry: A ``RetryPolicy`` or a dictionary; ``None`` for no retries. Default: as declared.
            tag: Tag that its worker must serve; ``None`` for none. Default: as declared.
            session: Session whose worker must run it; ``None`` for none. Default: as declared.
            cancellation: What a cancelled wait for the call does about the activity. ``"abandon"`` or ``None``: the wait
                ends at once. ``"wait"``: the activity is asked to end, and the wait ends when it has ended. Only in an
                ``async def`` orchestration. Default: as declared.

        Raises:
            ConfigurationError: The retry policy has an invalid value, or ``cancellation`` is unknown.
            LimitExceeded: The tag or the session is empty or too long.
        """
        if cancellation is not _UNCHANGED:
            check_cancellation(cancellation)
        if retry is not _UNCHANGED and retry is not None:
            retry = RetryPolicy.from_value(retry)
        if tag is not _UNCHANGED and tag is not None:
            check_tag(tag)
        if session is not _UNCHANGED and session is not None:
            check_name(session, "a session")
        changes = {"retry": retry, "tag": tag, "session_id": session, "cancellation": cancellation}
        return self._with(changes)

    @functools.cached_property
    def definition(self) -> ActivityDefinition:
        """The definition that a runtime registers."""
        self._check_annotations()
        return ActivityDefinition(
            self.name,
            self.arguments.adapter(),
            is_async(self.fn),
            self.arguments.input_type,
            self.result_type,
        )

    def _schedule(self, context: OrchestrationContext, value: object) -> Task[T]:
        return context.schedule_activity(self.name, value, **self._call_options)

    def _way_out(self) -> str:
        return f"call {self.name}.fn(...) to run the function itself, or call it in an orchestration"


# The options of an orchestration that a call in another orchestration does not have.
_ONLY_STARTS = ("if_exists", "at", "delay")


class Orchestration(Declared[P, T]):
    """A declared orchestration; made by ``orchestration``.

    A call in another orchestration returns the task of a sub-orchestration; ``client.start`` starts an instance.
    Elsewhere ``.fn`` is the plain function.

    Attributes:
        fn: The function itself.
        name: Name under which it is registered.
        version: Version under which it is registered; ``None`` is 1.0.0.
    """

    kind = "orchestration"
    _context_type = OrchestrationContext

    version: str | None

    def options(
        self,
        *,
        instance_id: str | None = _UNCHANGED,
        id: str | None = _UNCHANGED,
        version: str | None = _UNCHANGED,
        retry: Retry | None = _UNCHANGED,
        if_exists: str | None = _UNCHANGED,
        at: datetime | int | None = _UNCHANGED,
        delay: timedelta | int | None = _UNCHANGED,
    ) -> Orchestration[P, T]:
        """Return the same orchestration with other options for its calls: ``fulfil.options(instance_id="a")(order)``.

        Args:
            instance_id: Id of the instance; ``None`` for a new random one. Default: unchanged.
            id: The same, by its name in ``client.start``.
            version: Version to run; ``None`` for the newest one that the executing runtime has, as at first. Default:
                unchanged.
            retry: Retries of a call in another orchestration, a ``RetryPolicy`` or a dictionary; ``None`` for none, as
                at first. Default: unchanged. A start by a client has no retries.
            if_exists: For ``client.start`` alone, as there; ``None`` for ``"attach"``. Default: unchanged.
            at: For ``client.start`` alone, when the instance begins, as there; ``None`` for at once. Default: unchanged.
            delay: For ``client.start`` alone, how long after the call it begins, as there; ``None`` for at once.
                Default: unchanged.

        Raises:
            TypeError: Both ``instance_id`` and ``id`` are given.
            ConfigurationError: The retry policy has an invalid value.
            LimitExceeded: The id is empty or too long.
            ValueError: The version is malformed.
        """
        if id is not _UNCHANGED:
            if instance_id is not _UNCHANGED:
                raise TypeError("options() takes 'instance_id' or 'id', which are the same, not both")
            instance_id = id
        if instance_id is not _UNCHANGED and instance_id is not None:
            check_id(instance_id)
        if version is not _UNCHANGED and version is not None:
            check_version(version)
        if retry is not _UNCHANGED and retry is not None:
            retry = RetryPolicy.from_value(retry)
        changes = {"instance_id": instance_id, "version": version, "retry": retry}
        return self._with({**changes, "if_exists": if_exists, "at": at, "delay": delay})

    @property
    def instance_id(self) -> str | None:
        """Id of the instance of a call, as ``options`` set it; ``None`` for a new random one."""
        return self._options.get("instance_id")

    @property
    def pinned_version(self) -> str | None:
        """Version that a call runs, as ``options`` set it; ``None`` for the newest."""
        return self._options.get("version")

    @property
    def start_options(self) -> dict[str, Any]:
        """Options of a start by a client, as ``options`` set them."""
        renamed = {"instance_id": "id"}
        return {renamed.get(option, option): value for option, value in self._options.items() if option != "retry"}

    def continue_as_new(self, *arguments: P.args, **named: P.kwargs) -> Task[NoReturn]:
        """End this execution of the orchestration and start it again, with new arguments and an empty history.

        Args:
            arguments: Arguments of the next execution.
            named: Arguments of the next execution, by name.

        Returns:
            A task that never returns, to be awaited in this orchestration.

        Raises:
            NotInOrchestration: The caller is not this orchestration.
            TypeError: The arguments do not fit.
            CodecError: An argument cannot be written as JSON.
        """
        context = current_context()
        if context is None or context.orchestration_name != self.name:
            raise NotInOrchestration(f"{self.name}.continue_as_new() works in orchestration '{self.name}' itself")
        return context.continue_as_new(self.arguments.encode(arguments, named), version=self.pinned_version)

    @functools.cached_property
    def definition(self) -> OrchestrationDefinition:
        """The definition that a runtime registers."""
        self._check_annotations()
        return OrchestrationDefinition(
            self.name, self.version, self.arguments.adapter(), self.arguments.input_type, self.result_type
        )

    def _schedule(self, context: OrchestrationContext, value: object) -> Task[T]:
        if useless := [option for option in _ONLY_STARTS if option in self._options]:
            raise TypeError(
                f"{self.name}.options({useless[0]}=...) is for client.start alone; in an orchestration, wait before the "
                "call in place of a delay"
            )
        return context.schedule_sub_orchestration(self.name, value, **self._call_options)

    def _way_out(self) -> str:
        return f"start it with client.start({self.name}, ...), or call {self.name}.fn(...) to run the function itself"


def _variant(declared: AnyDeclared, options: dict[str, Any]) -> AnyDeclared:
    """Make a variant with other options; pickled variants name this function."""
    variant = object.__new__(type(declared))
    variant.__dict__.update(declared.__dict__)
    variant._options = options
    variant.__dict__.pop("_call_options", None)
    return variant


def _check(function: Any, kind: str, name: str | None) -> str:
    """Return the name under which ``function`` is declared, or refuse the function."""
    article = f"an {kind}"
    if isinstance(function, Declared):
        raise RegistrationError(f"{function!r} is declared already; decorate the function once")
    outer: str = type(function).__name__
    if outer in ("staticmethod", "classmethod"):
        raise RegistrationError(f"{article} is declared above @{outer}; write @{outer} above @{kind}")
    if isinstance(function, str):
        raise RegistrationError(f"@{kind} takes its name by keyword; write @{kind}(name={function!r})")
    chosen = getattr(function, "__name__", None) if name is None else name
    if chosen is None or chosen == "<lambda>":
        raise RegistrationError(f"{function!r} has no name; give it one, as in {kind}(name='...')(function)")
    what = check_function(function, kind, chosen)
    if inspect.isfunction(function) and "." in function.__qualname__.rpartition("<locals>.")[2]:
        first = next(iter(inspect.signature(function).parameters), None)
        if first in ("self", "cls"):
            raise RegistrationError(
                f"{what} is a method without its object; declare the bound one, as in {kind}(shop.{function.__name__})"
            )
    return str(chosen)
