"""An extension of griffe: it gives the reference the signatures that a caller sees.

griffe reads the sources and does not run them. Four habits of these sources would show up as they are written, so this
extension rewrites what griffe has read:

- ``name = awaited(Client.name)`` becomes a coroutine function with the parameters and the docstring of ``Client.name``.
- A method that describes a ``Call[T]`` is decorated into one that returns ``T``; its signature says ``T``.
- A function of the stub that has only overloads becomes one function with the parameters of all of them.
- A second name of a method, ``name = method``, says so.

A name that the package does not export, of a type or a number, is replaced by what it stands for.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import griffe

# Types of the public interface that the sources know under another name.
_PUBLIC_NAMES = {
    "_PublicClient": "Client",
    "AnyProvider": "Self",
    "_T": "T",
    "_T_co": "T",
    "T_co": "T",
    "_UNCHANGED": "...",
}
# Arguments that say nothing.
_UNSPECIFIC = {f"{name}[..., {result}]" for name in ("Activity", "Orchestration") for result in ("Any", "_T", "T")}
# Calls between the two halves of the package. They are public in Python's sense only.
_INTERNAL = {"to_native", "from_native", "definition", "arguments"}


class Signatures(griffe.Extension):
    """Rewrites the members of all classes of the package."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Rewrite a package when griffe has read all of it."""
        classes = list(_classes(pkg))
        for kind in classes:
            for name in _INTERNAL & kind.members.keys():
                kind.del_member(name)
            _join_overloads(kind)
        for kind in classes:
            for member in list(kind.members.values()):
                if isinstance(member, griffe.Attribute):
                    _resolve_assignment(kind, member, pkg)
                    member.annotation = _public(member.annotation, pkg)
        for function in _functions(pkg):
            function.returns = _public(_without_call(_returned(function)), pkg)
            for parameter in function.parameters:
                parameter.annotation = _public(parameter.annotation, pkg)
                parameter.default = _public(parameter.default, pkg)


def _modules(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for each in module.modules.values():
        if not each.is_alias:
            yield from _modules(each)


def _classes(package: griffe.Module) -> Iterator[griffe.Class]:
    for module in _modules(package):
        yield from (each for each in module.classes.values() if not each.is_alias)


def _functions(package: griffe.Module) -> Iterator[griffe.Function]:
    for module in _modules(package):
        for scope in (module, *(each for each in module.classes.values() if not each.is_alias)):
            yield from (each for each in scope.functions.values() if not each.is_alias)


def _join_overloads(kind: griffe.Class) -> None:
    """Make one function of overloads that have no implementation beside them, as in a stub."""
    for name, overloads in kind.overloads.items():
        if name in kind.members or not overloads:
            continue
        # One that takes any number of tasks also stands for one that takes a list of them.
        first = next((each for each in overloads if _variadic(each)), overloads[0])
        parameters = griffe.Parameters(*(_joined(each, overloads) for each in first.parameters))
        # The overload that converts the result speaks for all of them.
        returns = next((each.returns for each in overloads if "_T" in str(each.returns)), first.returns)
        joined = griffe.Function(
            name, parameters=parameters, returns=returns, lineno=first.lineno, endlineno=first.endlineno
        )
        joined.docstring = next((each.docstring for each in overloads if each.docstring), None)
        if joined.docstring:
            joined.docstring.parent = joined
        joined.labels |= first.labels
        kind.set_member(name, joined)


def _variadic(function: griffe.Function) -> bool:
    return any(each.kind is griffe.ParameterKind.var_positional for each in function.parameters)


def _joined(parameter: griffe.Parameter, overloads: list[griffe.Function]) -> griffe.Parameter:
    """Join one parameter: any annotation of the overloads, and the default that one of them has."""
    same = [each.parameters[parameter.name] for each in overloads if parameter.name in each.parameters]
    default = next((each.default for each in same if each.default is not None), None)
    annotation = _union([each.annotation for each in same if each.annotation is not None])
    return griffe.Parameter(parameter.name, annotation=annotation, kind=parameter.kind, default=default)


def _union(members: list[Any]) -> Any:
    """Return the union of types, each once and ``None`` last."""
    flat = [each for member in members for each in _members(member)]
    distinct = list({str(each): each for each in flat}.values())
    distinct.sort(key=lambda each: str(each) == "None")
    return functools.reduce(lambda left, right: griffe.ExprBinOp(left, "|", right), distinct) if distinct else None


def _members(union: Any) -> list[Any]:
    if isinstance(union, griffe.ExprBinOp) and union.operator == "|":
        return _members(union.left) + _members(union.right)
    return [union]


def _resolve_assignment(kind: griffe.Class, attribute: griffe.Attribute, package: griffe.Module) -> None:
    """Turn an attribute that is a method into that method, or say which method it is."""
    value = attribute.value
    if isinstance(value, griffe.ExprCall) and value.function.canonical_name == "awaited":
        called = value.arguments[0]
        method = _target(package, called.canonical_path if isinstance(called, griffe.Expr) else called)
        if isinstance(method, griffe.Attribute) and method.parent:  # a second name of a method of that class
            method = _target(package, f"{method.parent.path}.{method.value}")
        if not isinstance(method, griffe.Function):
            raise TypeError(f"{attribute.path} awaits {value.arguments[0]}, which is not a method")
        awaited = copy.copy(method)
        awaited.name, awaited.parent, awaited.labels = attribute.name, kind, method.labels | {"async"}
        kind.set_member(attribute.name, awaited)
    elif isinstance(value, griffe.ExprName) and value.name in kind.members and attribute.docstring is None:
        attribute.docstring = griffe.Docstring(f"Another name of ``{value.name}``.", parent=attribute)


def _target(package: griffe.Module, path: str) -> griffe.Object | None:
    """Return what the package has under a path, such as ``duroxide.client.Client.raise_event``."""
    prefix = f"{package.name}."
    if not path.startswith(prefix):
        return None
    found: griffe.Object | griffe.Alias = package
    for name in path.removeprefix(prefix).split("."):
        if name not in found.all_members:
            return None
        found = found.all_members[name]
        found = found.final_target if isinstance(found, griffe.Alias) else found
    return found if isinstance(found, griffe.Object) else None


def _returned(function: griffe.Function) -> Any:
    """Return what the overloads of a function say, if they agree on the class and the function itself says nothing."""
    said = [each.returns for each in function.overloads or () if each.returns is not None]
    agreed = len({str(each).partition("[")[0] for each in said}) == 1
    return said[0] if agreed and str(function.returns) == "Any" else function.returns


def _without_call(returns: Any) -> Any:
    """Return ``T`` for ``Call[T]``."""
    if isinstance(returns, griffe.ExprSubscript) and str(returns.left) == "Call":
        return returns.slice
    return returns


def _public(expression: Any, package: griffe.Module) -> Any:
    """Return an annotation without names that the package does not export."""
    if isinstance(expression, griffe.ExprName):
        if expression.name in _PUBLIC_NAMES:
            return dataclasses.replace(expression, name=_PUBLIC_NAMES[expression.name])
        meaning = None if expression.name in (package.exports or ()) else _target(package, expression.canonical_path)
        value = meaning.value if isinstance(meaning, griffe.Attribute) else None
        return expression if value is None or isinstance(value, griffe.ExprCall) else _public(value, package)
    if isinstance(expression, griffe.ExprSubscript):
        if str(expression) in _UNSPECIFIC:
            return expression.left
        meaning = _public(expression.left, package)
        if not isinstance(meaning, griffe.ExprName):  # a generic alias: its argument takes the place of ``T``
            return _replaced(meaning, _public(expression.slice, package))
    if isinstance(expression, griffe.Expr):
        changed = {
            field.name: _public(getattr(expression, field.name), package)
            for field in dataclasses.fields(expression)
            if field.name != "parent"
        }
        return _union([dataclasses.replace(expression, **changed)])
    if isinstance(expression, list):
        return [_public(each, package) for each in expression]
    return expression


def _replaced(expression: Any, argument: Any) -> Any:
    """Return a type with another one in the place of ``T``."""
    if isinstance(expression, griffe.ExprName) and expression.name == "T":
        return argument
    if isinstance(expression, griffe.Expr):
        fields = [field.name for field in dataclasses.fields(expression) if field.name != "parent"]
        return dataclasses.replace(
            expression, **{name: _replaced(getattr(expression, name), argument) for name in fields}
        )
    return [_replaced(each, argument) for each in expression] if isinstance(expression, list) else expression
