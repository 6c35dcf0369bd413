"""Writes the pages of ``docs/reference`` from the signatures and docstrings of what the package exports.

``make reference`` runs it. The sources are read, not run, so the stub speaks for the native half; only defaults that are
computed are asked of the package itself. Which page has which names is said at the end of this file.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import griffe

import duroxide

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs/reference"
OMITTED = {"self", "cls"}
# What the two halves of the package say to each other.
INTERNAL = {"to_native", "definition", "arguments", "from_native"}
# Where a docstring says that a call is as another one, what it says of its parameters holds for both.
REFERENCE = re.compile(r"\b(?:[Aa]s|name of) ``(\w+)``")


@dataclass(frozen=True)
class Page:
    """One page of the reference: its first lines, and the names that it has."""

    file: str
    title: str
    purpose: str
    introduction: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Callable:
    """A function or method, its overloads put together."""

    name: str
    parameters: tuple[griffe.Parameter, ...]
    returns: str
    docstring: griffe.Docstring | None
    line: int
    is_async: bool

    @property
    def described(self) -> dict[str, str]:
        """What its docstring says of each parameter."""
        return {each.name: each.description for each in items_of(self.docstring, "parameters")}

    @property
    def signature(self) -> str:
        """How it is called."""
        shown: list[str] = []
        kind = griffe.ParameterKind
        stars: dict[Any, str] = {kind.var_positional: "*", kind.var_keyword: "**"}
        last = None
        for each in self.parameters:
            if last is kind.positional_only and each.kind is not kind.positional_only:
                shown.append("/")
            if each.kind is kind.keyword_only and last not in (kind.keyword_only, kind.var_positional):
                shown.append("*")
            last = each.kind
            text = stars.get(each.kind, "") + each.name
            annotation = plain(each.annotation)
            text += f": {annotation}" if annotation else ""
            if each.default is not None and each.kind not in stars:
                text += f" = {plain(each.default)}" if annotation else f"={plain(each.default)}"
            shown.append(text)
        if last is kind.positional_only:
            shown.append("/")
        name = f"async {self.name}" if self.is_async else self.name
        returns = f" -> {self.returns}" if self.returns else ""
        text = f"{name}({', '.join(shown)}){returns}"
        if len(text) <= 110:
            return text
        lines = "".join(f"    {each},\n" for each in shown)
        return f"{name}(\n{lines}){returns}"


def load() -> griffe.Object:
    """Read the package's sources."""
    logging.getLogger("griffe").setLevel(logging.ERROR)
    package = griffe.load(
        "duroxide",
        search_paths=[ROOT / "python"],
        docstring_parser="google",
        allow_inspection=False,
        resolve_aliases=True,
    )
    if not isinstance(package, griffe.Module):
        raise TypeError("the sources of the package were not found")
    return package


def modules_below(package: griffe.Object) -> Iterator[griffe.Module]:
    """The modules of a package and of its own packages."""
    for module in package.members.values():
        if isinstance(module, griffe.Module):
            yield module
            yield from modules_below(module)


PACKAGE = load()
MODULES = [PACKAGE, *modules_below(PACKAGE)]


def public(name: str) -> Any:
    """What the package exports under a name."""
    found = PACKAGE[name]
    return found.final_target if found.is_alias else found


def plain(annotation: griffe.Expr | str | None) -> str:
    """Write an annotation without names that only the stub has; nothing where it says nothing."""
    text = "" if annotation is None else str(annotation)
    for _ in range(2):  # one alias may speak of another
        text = re.sub(r"(?<![\w.\"'])\w+", lambda match: ALIASES.get(match.group(), match.group()), text)
    text = re.sub(r"\b(Activity|Orchestration|Declared)\[\.\.\., Any\]", r"\1", text)
    return "" if text == "Any" else text.replace("'", '"')


def private_names(modules: list[Any]) -> dict[str, str]:
    """Types and numbers that have a name in the sources and are not exported, and what they mean."""
    names = {
        "_T_co": "T",
        "_T": "T",
        "T_co": "T",
        "_PublicClient": "Client",
        "AnyProvider": "Self",
        "_UNCHANGED": "...",
    }
    for module in modules:
        for name, member in module.members.items():
            text = str(member.value) if not member.is_alias and member.is_attribute and member.value is not None else ""
            is_name = re.fullmatch(r"_?[A-Z]\w+", name) and name not in duroxide.__all__ and name not in names
            if is_name and text and not re.match(r"TypeVar|ParamSpec|\(|\{|contextvars", text):
                names[name] = text
    return names


def prose(text: str) -> str:
    """Turn a docstring's marks into those of Markdown, on one line for each paragraph."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(" ".join(each.split()) for each in paragraphs).replace("``", "`")


def sections_of(docstring: griffe.Docstring | None, kind: str) -> Iterator[Any]:
    """The sections of one kind, in order."""
    if docstring is not None:
        yield from (each for each in docstring.parse("google", warnings=False) if each.kind.value == kind)


def items_of(docstring: griffe.Docstring | None, kind: str) -> list[Any]:
    """The items of a section."""
    return [item for section in sections_of(docstring, kind) for item in section.value]


def text_of(docstring: griffe.Docstring | None) -> str:
    """What stands before the sections."""
    return "\n\n".join(prose(section.value) for section in sections_of(docstring, "text"))


def returned(docstring: griffe.Docstring | None) -> str:
    """What stands under Returns; read as it is, since it is no list of types."""
    match = re.search(
        r"^Returns:\n((?:[ ]+.*\n?|\n)+)", "" if docstring is None else docstring.value, flags=re.MULTILINE
    )
    return prose(match.group(1)) if match else ""


def callable_of(name: str, function: Any, overloads: list[Any]) -> Callable:
    """Put a function and its overloads together."""
    versions = [each for each in (function, *overloads) if each is not None]
    first = versions[0]
    parameters = [each for each in first.parameters if each.name not in OMITTED]
    if function is None:
        # Of a stub: what one overload requires is left out in another.
        parameters = [merged(each, [other.parameters for other in overloads]) for each in parameters]
    # A method that describes a call is decorated into one that gives what the call answers.
    returns = [re.sub(r"^Call\[(.*)\]$", r"\1", plain(each.returns)) for each in overloads or versions]
    if len(set(returns)) > 1:
        kinds = {each.partition("[")[0] for each in returns}
        returns = [max(returns, key=lambda each: "[T]" in each) if len(kinds) == 1 else ""]
    docstring = next((each.docstring for each in versions if each.docstring), None)
    line = min(each.lineno or 0 for each in versions)
    result = "" if returns[0] in ("None", "Any") else returns[0]
    return Callable(name, tuple(parameters), result, docstring, line, "async" in first.labels)


def merged(parameter: griffe.Parameter, overloads: list[griffe.Parameters]) -> griffe.Parameter:
    """Put one parameter of several overloads together."""
    same = [each[parameter.name] for each in overloads if parameter.name in [one.name for one in each]]
    annotations = {str(each.annotation) for each in same}
    defaults = [each.default for each in same if each.default is not None]
    annotation = parameter.annotation if len(annotations) == 1 else None
    default = parameter.default if parameter.default is not None else (defaults[0] if defaults else None)
    return griffe.Parameter(parameter.name, annotation=annotation, kind=parameter.kind, default=default)


def bases_of(kind: Any) -> list[Any]:
    """A class and those of this package that it derives from; an exception that is exported has a section of its own."""
    found = [kind]
    for base in kind.resolved_bases:
        if not is_exception(base.name):
            found += [each for each in bases_of(base) if each not in found]
    return found


def is_exception(name: str) -> bool:
    """Whether a public name is that of an exception."""
    value = getattr(duroxide, name, None)
    return isinstance(value, type) and issubclass(value, BaseException)


def methods_of(kind: Any) -> list[Callable]:
    """The public methods of a class, those that it inherits after its own."""
    found: dict[str, Callable] = {}
    for each in bases_of(kind):
        named = {
            name: (member, getattr(member, "overloads", None) or each.overloads.get(name) or [])
            for name, member in each.members.items()
            if member.is_function
        }
        named |= {
            name: (None, overloads) for name, overloads in each.overloads.items() if name not in named and overloads
        }
        own = [
            callable_of(name, function, overloads)
            for name, (function, overloads) in named.items()
            if not name.startswith("_") and name not in found and name not in INTERNAL
        ]
        found.update({each.name: each for each in sorted(own, key=lambda each: each.line)})
    return list(found.values())


def aliases_of(kind: Any) -> dict[str, str]:
    """Methods that are other names of methods, and of which."""
    methods = {each.name for each in methods_of(kind)}
    return {
        name: str(member.value).rpartition(".")[2]
        for each in bases_of(kind)
        for name, member in each.members.items()
        if not name.startswith("_") and member.is_attribute and str(member.value).rpartition(".")[2] in methods
    }


def awaited_of(kind: Any) -> tuple[str, list[str], bool]:
    """Methods that are those of another class, awaited: which class that is, their names, and whether some are typed ones."""
    written = {name: str(member.value) for name, member in kind.members.items() if member.is_attribute}
    found = {name: re.match(r"awaited\((\w+)\.", value) for name, value in written.items()}
    methods = {name: match[1] for name, match in found.items() if match}
    plain_names = [name for name in methods if not name.endswith("_typed")]
    return next(iter(methods.values()), ""), plain_names, len(plain_names) < len(methods)


def properties_of(kind: Any) -> list[Any]:
    """The public properties of a class."""
    return [
        member
        for each in bases_of(kind)
        for name, member in each.members.items()
        if not name.startswith("_") and name not in INTERNAL and member.is_attribute and "property" in member.labels
    ]


def page_text(page: Page) -> str:
    """Write one page."""
    parts = [f"# {page.title}", page.purpose, page.introduction]
    if len(page.names) > 1:
        parts.append("On this page: " + ", ".join(f"[`{name}`](#{name.lower()})" for name in page.names) + ".")
    for name in page.names:
        kind = public(name)
        parts.append(f"## `{name}`")
        if kind.is_class:
            parts += class_parts(name, kind)
        elif kind.is_function:
            parts += callable_parts(callable_of(name, kind, getattr(kind, "overloads", None) or []))
        else:
            parts.append(text_of(kind.docstring))
    parts.append("Made from the docstrings by `make reference`.")
    return "\n\n".join(part for part in parts if part) + "\n"


def class_parts(name: str, kind: Any) -> Iterator[str]:
    """Write a class."""
    constructor = kind.members.get("__init__")
    fields = fields_of(name)
    if is_exception(name):
        bases = [base for base in getattr(duroxide, name).__bases__ if is_exception(base.__name__) or is_builtin(base)]
        yield f"It is {' and '.join(f'{article(base.__name__)} `{base.__name__}`' for base in bases)}."
    yield text_of(kind.docstring)
    parameters = items_of(kind.docstring, "parameters")
    if constructor is not None and parameters and not is_exception(name):
        shown = callable_of(name, constructor, [])
        yield code(dataclasses.replace(shown, returns="").signature)
    yield from described("", parameters)
    attributes = items_of(kind.docstring, "attributes")
    if fields:
        yield fields_table(name, fields, {each.name: each.description for each in attributes})
    elif attributes:
        yield from described("Attributes:" if parameters else "", attributes)
    yield from described("Raises:", items_of(kind.docstring, "raises"), of="annotation")
    properties = properties_of(kind)
    if properties:
        rows = [f"- `{each.name}`: {text_of(each.docstring)}" for each in properties]
        yield "Properties, to be read:\n\n" + "\n".join(rows)
    methods, aliases = methods_of(kind), aliases_of(kind)
    for method in methods:
        if not method.name.endswith("_typed"):
            yield f"### `{name}.{method.name}`"
            yield from callable_parts(method)
    for alias, target in aliases.items():
        if not alias.endswith("_typed"):
            yield f"### `{name}.{alias}`"
            yield f"Another name of `{target}`."
    other, awaited, has_typed = awaited_of(kind)
    if awaited:
        yield f"### `{name}`, as those of `{other}`"
        links = ", ".join(f"[`{each}`](#{other.lower()}{each})" for each in awaited)
        text = f"Awaited, these take, give and raise what those of `{other}` do: {links}."
        yield f"{text} So do the typed names." if has_typed else text
    typed = {each.name: text_of(each.docstring) for each in methods if each.name.endswith("_typed")}
    typed |= {alias: f"As `{target}`." for alias, target in aliases.items() if alias.endswith("_typed")}
    if typed:
        yield f"### `{name}`, typed names"
        yield "They take what the plain names take; see [where they differ](names.md#typed-names)."
        yield "\n".join(f"- `{each}`: {text}" for each, text in sorted(typed.items()))


def is_builtin(kind: type) -> bool:
    """Whether a class is Python's own."""
    return kind.__module__ == "builtins"


def article(name: str) -> str:
    """The article of a name."""
    return "an" if name[0] in "AEIOU" else "a"


def fields_of(name: str) -> dict[str, Any]:
    """The fields of a dataclass or a typed dictionary, with their defaults."""
    kind = getattr(duroxide, name)
    if not dataclasses.is_dataclass(kind):
        return dict.fromkeys(getattr(kind, "__annotations__", {}), dataclasses.MISSING) if name == "Winner" else {}
    return {field.name: field.default for field in dataclasses.fields(kind) if not field.name.startswith("_")}


def fields_table(name: str, fields: dict[str, Any], described: dict[str, str]) -> str:
    """Write the fields of a class as a table."""
    with_defaults = any(default is not dataclasses.MISSING for default in fields.values())
    members = {key: value for each in reversed(bases_of(public(name))) for key, value in each.members.items()}
    heading = ["`" + name + "`", *(["Default"] if with_defaults else []), "Type", "Meaning"]
    rows = [heading, ["---"] * len(heading)]
    for field, default in fields.items():
        row = [f"`{field}`"]
        if with_defaults:
            row.append("" if default is dataclasses.MISSING else f"`{shown(default)}`")
        annotation = plain(members[field].annotation) or "Any"
        rows.append([*row, f"`{annotation}`".replace("|", "\\|"), prose(described.get(field, "")).replace("|", "\\|")])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def shown(default: object) -> str:
    """Write a default as a table has it."""
    if isinstance(default, duroxide.TagFilter):
        return "TagFilter.default_only()"
    if isinstance(default, duroxide.Backoff):
        return "Backoff.exponential()"
    if isinstance(default, int) and not isinstance(default, bool):
        return f"{default:,}"
    return repr(default).replace("'", '"')


def callable_parts(function: Callable) -> Iterator[str]:
    """Write a function or method."""
    yield code(function.signature)
    yield text_of(function.docstring)
    yield from described("", items_of(function.docstring, "parameters"))
    text = returned(function.docstring)
    if text:
        yield f"Returns: {text}"
    yield from described("Raises:", items_of(function.docstring, "raises"), of="annotation")


def described(title: str, items: list[Any], of: str = "name") -> Iterator[str]:
    """Write the items of a section as a list."""
    if items:
        rows = "\n".join(f"- `{getattr(each, of)}`: {prose(each.description)}" for each in items)
        yield f"{title}\n\n{rows}" if title else rows


def code(text: str) -> str:
    """Write code that is shown and not run."""
    return f"```py\n{text}\n```"


ALIASES = private_names(MODULES)


def tree() -> str:
    """Draw which exception derives from which."""
    classes = [
        public_class for name in duroxide.__all__ if is_exception(name) for public_class in [getattr(duroxide, name)]
    ]
    below: dict[type, list[type]] = {}
    for each in classes:
        parent = next((base for base in each.__mro__[1:] if base in classes), BaseException)
        below.setdefault(parent, []).append(each)

    def draw(parent: type, indent: str) -> Iterator[str]:
        children = below.get(parent, [])
        for place, child in enumerate(children):
            last = place == len(children) - 1
            yield f"{indent}{'└─' if last else '├─'} {child.__name__}"
            yield from draw(child, indent + ("   " if last else "│  "))

    lines = ["BaseException", *draw(BaseException, "")]
    return "```text\n" + "\n".join(lines) + "\n```"


EXCEPTIONS = tuple(name for name in duroxide.__all__ if is_exception(name))
PAGES = (
    Page(
        "functions.md",
        "Functions",
        "After this page you know how activities and orchestrations are declared, and what may be called inside them.",
        "What these functions are good for is in the [tutorial](../tutorial.md). Values that cross are any that "
        "[JSON can hold, and more](../concepts/values.md).",
        (
            "activity",
            "orchestration",
            "Activity",
            "Orchestration",
            "context",
            "wait_for_event",
            "dequeue_event",
            "continue_as_new",
        ),
    ),
    Page(
        "orchestration-context.md",
        "Orchestration context and tasks",
        "After this page you know every method of `ctx` in an orchestration: what it takes, what it gives, and whether it is "
        "to be yielded.",
        "A call that gives a `Task` is to be yielded or awaited; the others answer at once. Times are milliseconds or a "
        "`timedelta`. Inputs are any [value](../concepts/values.md). The names `name`, `input`, `retry`, `session_id`, `tag`, "
        "`version`, `instance_id` and `result_type` mean the same everywhere.",
        ("OrchestrationContext", "Task", "Outcome", "Winner"),
    ),
    Page(
        "activity-context.md",
        "Activity context",
        "After this page you know what `ctx` offers in an activity.",
        "",
        ("ActivityContext", "ProcessActivityContext"),
    ),
    Page(
        "client.md",
        "Clients and handles",
        "After this page you know every call of a client and of a handle, its defaults, and what it raises.",
        "Times of a client are milliseconds or a `timedelta`; those of a handle are seconds or a `timedelta`. Every call may "
        "raise `ProviderError` when the store fails; ids and names that are empty or too long raise `LimitExceeded`.",
        ("Client", "Handle", "AsyncClient", "AsyncHandle", "StartRequest", "EventToRaise", "QueueMessage"),
    ),
    Page(
        "transactions.md",
        "Transactions and outboxes",
        "After this page you know every call of a client that works inside your own transaction, and of an outbox.",
        "How they are used is in [starting in your own transaction](../guides/transactions.md).",
        ("TransactionClient", "AsyncTransactionClient", "Outbox", "SetAsideRow"),
    ),
    Page(
        "runtime.md",
        "Runtime and providers",
        "After this page you know how to make, fill, start and stop a runtime, and every way to open a store.",
        "`python -m duroxide` prints the versions of the package and of the engine, and the stores.",
        (
            "Runtime",
            "Provider",
            "SqliteProvider",
            "PostgresProvider",
            "ActivityDefinition",
            "OrchestrationDefinition",
            "init_tracing",
            "engine_version",
            "__version__",
        ),
    ),
    Page(
        "options.md",
        "Options",
        "After this page you know every option, its default and its unit.",
        "All options are given by name, checked when they are made, and frozen. Options that end in `_ms` are whole "
        "milliseconds. In a file and in memory leases hardly matter: a process that dies loses its work to the next one at "
        "once, whatever they say.",
        (
            "RuntimeOptions",
            "TagFilter",
            "RetryPolicy",
            "Backoff",
            "PostgresOptions",
            "PostgresEntraOptions",
            "PruneOptions",
            "InstanceFilter",
        ),
    ),
    Page(
        "exceptions.md",
        "Exceptions",
        "After this page you know every exception, where it is raised, and what it carries.",
        tree() + "\n\n`str()` of a failure reads `Type: message`. More in [failures](../concepts/failures.md).",
        EXCEPTIONS,
    ),
    Page(
        "records.md",
        "Records",
        "After this page you know the fields of everything that client and runtime answer.",
        'Records are frozen. `record.name` and `record["name"]` read the same. Times are milliseconds since 1970.',
        (
            "OrchestrationResult",
            "InstanceInfo",
            "ExecutionInfo",
            "Event",
            "InstanceTree",
            "SystemMetrics",
            "QueueDepths",
            "SystemStats",
            "DeleteInstanceResult",
            "PruneResult",
            "MetricsSnapshot",
        ),
    ),
)


def main(target: Path) -> None:
    """Write all pages."""
    for page in PAGES:
        (target / page.file).write_text(page_text(page), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
