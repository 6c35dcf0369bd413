"""The tags of activities, and the filter that says which of them a runtime takes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, cast, get_args

from duroxide._values.limits import MAX_TAG_NAME_BYTES, MAX_WORKER_TAGS
from duroxide._values.validation import check_name
from duroxide.exceptions import ConfigurationError

TagFilterKind = Literal["default_only", "tags", "default_and", "any", "none"]


class TagFilter(str):
    """Which activities a runtime takes, by their tag; a static method or a constant gives one.

    A filter is a ``str``: the kind, or for ``"tags"`` and ``"default_and"`` a JSON object such as ``{"tags": ["gpu"]}``.
    The earlier SDK used these texts.

    Args:
        kind: ``"default_only"``, ``"tags"``, ``"default_and"``, ``"any"`` or ``"none"``; default ``"default_only"``.
        names: The tags of ``"tags"`` and ``"default_and"``: one to five, of at most 256 bytes each.

    Attributes:
        DEFAULT_ONLY: The filter for activities without a tag, which is the default.
        ANY: The filter for every activity.
        NONE: The filter for no activity.

    Raises:
        ConfigurationError: The names do not suit the kind, or are too many or too long.
    """

    __slots__ = ("_kind", "_names")

    _kind: TagFilterKind
    _names: tuple[str, ...]

    DEFAULT_ONLY: ClassVar[TagFilter]
    ANY: ClassVar[TagFilter]
    NONE: ClassVar[TagFilter]

    def __new__(cls, kind: TagFilterKind = "default_only", names: Iterable[str] = ()) -> TagFilter:
        chosen = tuple(names)
        _check(kind, chosen)
        made = super().__new__(cls, json.dumps({kind: chosen}) if chosen else kind)
        made._kind = kind
        made._names = chosen
        return made

    @property
    def kind(self) -> TagFilterKind:
        """What the filter takes."""
        return self._kind

    @property
    def names(self) -> tuple[str, ...]:
        """The tags that it names."""
        return self._names

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.kind, self.names

    def __repr__(self) -> str:
        return f"TagFilter(kind={self.kind!r}, names={self.names!r})"

    @staticmethod
    def default_only() -> TagFilter:
        """Take activities without a tag; the default."""
        return TagFilter("default_only")

    @staticmethod
    def tags(*names: str | Iterable[str], tags: Iterable[str] = ()) -> TagFilter:
        """Take activities with one of the tags ``names``, and none without a tag.

        Args:
            names: One to five tags, one by one or as a list.
            tags: The same as a list.
        """
        return TagFilter("tags", _listed(names, tags))

    @staticmethod
    def default_and(*names: str | Iterable[str], tags: Iterable[str] = ()) -> TagFilter:
        """Take activities with one of the tags ``names``, and activities without a tag.

        Args:
            names: One to five tags, one by one or as a list.
            tags: The same as a list.
        """
        return TagFilter("default_and", _listed(names, tags))

    @staticmethod
    def any() -> TagFilter:
        """Take every activity."""
        return TagFilter("any")

    @staticmethod
    def none() -> TagFilter:
        """Take no activity: the runtime runs only orchestrations."""
        return TagFilter("none")


def read_tag_filter(value: object) -> TagFilter:
    """Read a filter, or its text.

    Raises:
        TypeError: ``value`` is no ``str``.
        ConfigurationError: The text is none of a filter.
    """
    if isinstance(value, TagFilter):
        return value
    if not isinstance(value, str):
        raise TypeError(f"a tag filter must be a TagFilter, not {type(value).__name__}; write TagFilter.tags('gpu')")
    if not value.startswith("{"):
        return TagFilter(cast("TagFilterKind", value))
    try:
        [(kind, names)] = json.loads(value).items()
    except ValueError:
        raise ConfigurationError(f"tag filter '{value[:80]}' cannot be read; write TagFilter.tags('gpu')") from None
    return TagFilter(kind, _listed((names,), ()))


def check_tag(value: object) -> str:
    """Return ``value`` if it can be the tag of an activity.

    Raises:
        TypeError: It is not a ``str``.
        ConfigurationError: It is empty or longer than ``MAX_TAG_NAME_BYTES``.
    """
    try:
        name = check_name(value, "a tag")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    size = len(name.encode("utf-8"))
    if size > MAX_TAG_NAME_BYTES:
        raise ConfigurationError(f"tag '{name[:20]}…' has {size} bytes; at most {MAX_TAG_NAME_BYTES} are allowed")
    return name


def _check(kind: str, names: tuple[str, ...]) -> None:
    takes_names = kind in ("tags", "default_and")
    if kind not in get_args(TagFilterKind):
        raise ConfigurationError(f"tag filter '{kind}' is unknown; write TagFilter.tags('gpu')")
    if takes_names != bool(names):
        raise ConfigurationError(
            f"TagFilter.{kind} needs at least one tag" if takes_names else f"TagFilter.{kind} takes no tags"
        )
    for name in names:
        check_tag(name)
    if len(set(names)) > MAX_WORKER_TAGS:
        raise ConfigurationError(
            f"a worker serves at most {MAX_WORKER_TAGS} tags, not {len(set(names))}; start another runtime"
        )


def _listed(names: tuple[Any, ...], tags: Iterable[str]) -> tuple[Any, ...]:
    """Join tags that were given one by one, as one list, or by name."""
    if len(names) == 1 and isinstance(names[0], Iterable) and not isinstance(names[0], str):
        names = tuple(names[0])  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(tags, str):
        raise TypeError(f"tags must be a list of tags; write tags=['{tags[:50]}']")
    return (*names, *tags)


TagFilter.DEFAULT_ONLY = TagFilter("default_only")
TagFilter.ANY = TagFilter("any")
TagFilter.NONE = TagFilter("none")
