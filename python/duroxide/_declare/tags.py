"""The tags of activities, and the filter that says which of them a runtime takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from duroxide._values.limits import MAX_TAG_NAME_BYTES, MAX_WORKER_TAGS
from duroxide._values.validation import check_name
from duroxide.exceptions import ConfigurationError


@dataclass(frozen=True, slots=True)
class TagFilter:
    """Which activities a runtime takes, by their tag; the static methods build it.

    Attributes:
        kind: ``"default_only"``, ``"tags"``, ``"default_and"``, ``"any"`` or ``"none"``.
        names: The tags of ``"tags"`` and ``"default_and"``: one to five, of at most 256 bytes each.

    Raises:
        ConfigurationError: The names do not suit the kind, or are too many or too long.
    """

    kind: Literal["default_only", "tags", "default_and", "any", "none"] = "default_only"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        takes_names = self.kind in ("tags", "default_and")
        if self.kind not in ("tags", "default_and", "default_only", "any", "none"):
            raise ConfigurationError(f"tag filter '{self.kind}' is unknown; write TagFilter.tags('gpu')")
        if takes_names != bool(self.names):
            raise ConfigurationError(
                f"TagFilter.{self.kind} needs at least one tag"
                if takes_names
                else f"TagFilter.{self.kind} takes no tags"
            )
        for name in self.names:
            check_tag(name)
        if len(set(self.names)) > MAX_WORKER_TAGS:
            raise ConfigurationError(
                f"a worker serves at most {MAX_WORKER_TAGS} tags, not {len(set(self.names))}; start another runtime"
            )

    @staticmethod
    def default_only() -> TagFilter:
        """Take activities without a tag; the default."""
        return TagFilter("default_only")

    @staticmethod
    def tags(*names: str) -> TagFilter:
        """Take activities with one of the tags ``names``, one to five of them, and none without a tag."""
        return TagFilter("tags", names)

    @staticmethod
    def default_and(*names: str) -> TagFilter:
        """Take activities with one of the tags ``names``, one to five of them, and activities without a tag."""
        return TagFilter("default_and", names)

    @staticmethod
    def any() -> TagFilter:
        """Take every activity."""
        return TagFilter("any")

    @staticmethod
    def none() -> TagFilter:
        """Take no activity: the runtime runs only orchestrations."""
        return TagFilter("none")


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
