"""Declaring functions: what is allowed, what is refused, and what a declared function provides."""

from __future__ import annotations

import copy
import functools
import pickle
import sys
import types
from collections.abc import Generator
from typing import Any

import pytest

import duroxide
from duroxide import (
    ActivityDefinition,
    ConfigurationError,
    NotInOrchestration,
    OrchestrationContext,
    RegistrationError,
    RetryPolicy,
    Runtime,
    SqliteProvider,
    activity,
    orchestration,
)
from duroxide._declare.retry import Backoff


def charge(order: str) -> str:
    """Charge an order."""
    return order


class Shop:
    def ship(self, order: str) -> str:
        return f"{order} by {type(self).__name__}"

    @staticmethod
    @activity
    def weigh(order: str) -> int:
        return len(order)


def test_declared_function_looks_like_the_function() -> None:
    declared = activity(charge)

    assert (declared.__name__, declared.__doc__, declared.__wrapped__) == ("charge", "Charge an order.", charge)
    assert (declared.name, declared.fn, declared.result_type) == ("charge", charge, str)
    assert repr(declared) == "<activity 'charge'>"
    assert repr(orchestration(charge)) == "<orchestration 'charge'>"


def test_plain_function_can_be_called_anywhere() -> None:
    assert activity(charge).fn("order-7") == "order-7"


def test_name_and_version_can_be_chosen() -> None:
    declared = orchestration(name="Charge", version="1.1.0")(charge)

    assert (declared.name, declared.version, declared.definition.resolved_version) == ("Charge", "1.1.0", "1.1.0")
    assert orchestration(charge).version is None


def test_bound_method_can_be_declared() -> None:
    assert activity(Shop().ship).fn("order-7") == "order-7 by Shop"
    assert activity(Shop().ship).name == "ship"


def test_static_method_can_be_declared_below_its_decorator() -> None:
    assert Shop.weigh.fn("order-7") == 7


def test_partial_can_be_declared_under_a_name() -> None:
    declared = activity(name="twice")(functools.partial(lambda factor, value: factor * value, 2))

    assert declared.definition.function(None, 21) == 42


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: activity(Shop), "activity 'Shop' is a class"),
        (lambda: activity(Shop.ship), r"activity 'ship' is a method without its object; .* activity\(shop.ship\)"),
        (lambda: activity(activity(charge)), "<activity 'charge'> is declared already; decorate the function once"),
        (lambda: orchestration(activity(charge)), "<activity 'charge'> is declared already"),
        (lambda: activity(staticmethod(charge)), "write @staticmethod above @activity"),
        (lambda: activity(classmethod(charge)), "write @classmethod above @activity"),
        (lambda: activity("charge"), r"write @activity\(name='charge'\)"),
        (lambda: activity(5), "5 has no name; give it one"),
        (lambda: activity(lambda: None), "has no name; give it one, as in activity"),
        (lambda: activity(name="")(charge), "the name of an activity is empty"),
        (lambda: orchestration(version="1.0")(charge), "orchestration 'charge' cannot be registered: "),
    ],
)
def test_a_value_that_cannot_be_declared_is_refused_at_once(declare: Any, message: str) -> None:
    with pytest.raises(RegistrationError, match=message):
        declare()


def test_generator_function_is_refused_as_an_activity() -> None:
    def steps():
        yield

    with pytest.raises(RegistrationError, match="activity 'steps' is a generator function; return its result"):
        activity(steps)


def test_async_generator_is_refused_in_both_roles() -> None:
    async def steps():
        yield

    for declare in (activity, orchestration):
        with pytest.raises(RegistrationError, match="'steps' is an async generator, which cannot be driven"):
            declare(steps)


def test_options_are_checked_where_they_are_given() -> None:
    with pytest.raises(ConfigurationError, match="max_attempts must be at least 1"):
        activity(retry={"max_attempts": 0})(charge)
    with pytest.raises(ConfigurationError, match="no option 'attempts'"):
        activity(charge).options(retry={"attempts": 3})
    with pytest.raises(ConfigurationError, match="cancellation must be 'abandon' or 'wait', not 'kill'"):
        activity(cancellation="kill")(charge)
    for wrong in ({"tag": ""}, {"session": ""}, {"tag": "x" * 300}):
        with pytest.raises(ValueError, match="is empty|bytes"):
            activity(charge).options(**wrong)
    for wrong in ({"instance_id": ""}, {"version": "1"}):
        with pytest.raises(ValueError, match="is empty|version"):
            orchestration(charge).options(**wrong)


def test_attributes_of_the_function_do_not_hide_methods() -> None:
    def marked(order: str) -> str:
        return order

    marked.name = marked.arguments = marked._options = "mine"

    assert (activity(marked).name, activity(marked).fn.name) == ("marked", "mine")


def test_no_retry_list_may_be_a_list() -> None:
    policy = RetryPolicy(backoff=Backoff.none(), non_retryable=[KeyError, "CardDeclined"])

    assert policy.non_retryable == (KeyError, "CardDeclined")


def test_call_outside_an_orchestration_says_what_to_do() -> None:
    with pytest.raises(NotInOrchestration, match=r"activity 'charge' was called outside .* call charge.fn\(...\)"):
        activity(charge)("order-7")
    with pytest.raises(NotInOrchestration, match=r"start it with client.start\(charge, ...\)"):
        orchestration(charge)("order-7")
    with pytest.raises(NotInOrchestration, match=r"charge.continue_as_new\(\) works in orchestration 'charge' itself"):
        orchestration(charge).continue_as_new("order-7")


def test_functions_that_need_an_orchestration_raise_outside_one() -> None:
    for call in (
        lambda: duroxide.wait_for_event("paid"),
        lambda: duroxide.dequeue_event("inbox"),
        duroxide.continue_as_new,
    ):
        with pytest.raises(
            NotInOrchestration, match=r"\(\) works in an orchestration, and no orchestration is calling"
        ):
            call()
    with pytest.raises(NotInOrchestration, match="there is no context here"):
        duroxide.context()


def test_module_gives_each_declared_function_once() -> None:
    module = types.ModuleType("shop")
    module.charge = activity(charge)
    module.same = module.charge
    module.gpu = module.charge.options(tag="gpu")
    module.fulfil = orchestration(name="fulfil")(charge)
    module.newer = orchestration(name="fulfil", version="1.1.0")(charge)
    module.described = ActivityDefinition.of(lambda ctx, value: value, "described")
    module.plain, module.sys = charge, sys

    runtime = Runtime(SqliteProvider.in_memory(), functions=[module, module.charge])

    assert sorted(runtime._activities) == ["charge", "described"]
    assert sorted(runtime._orchestrations) == [("fulfil", "1.0.0"), ("fulfil", "1.1.0")]


def test_module_that_declares_nothing_is_refused() -> None:
    with pytest.raises(RegistrationError, match="module 'types' declares nothing; decorate its functions"):
        Runtime(SqliteProvider.in_memory(), functions=[types])


def test_two_functions_of_one_name_are_refused() -> None:
    @activity(name="charge")
    def other(order: str) -> str:
        return order

    with pytest.raises(RegistrationError, match="activity 'charge' is registered already, with another function"):
        Runtime(SqliteProvider.in_memory(), functions=[activity(charge), other])


def test_declared_function_is_registered_by_functions_alone() -> None:
    runtime = Runtime(SqliteProvider.in_memory())

    with pytest.raises(RegistrationError, match=r"is declared already, as <activity 'charge'>; pass it as Runtime"):
        runtime.register_activity(activity(charge))


def test_error_about_a_function_with_other_parameters_asks_to_declare_it() -> None:
    runtime = Runtime(SqliteProvider.in_memory())

    with pytest.raises(RegistrationError, match="for other parameters decorate it with @duroxide.activity"):
        runtime.register_activity(charge)


def test_options_do_not_change_the_declaration() -> None:
    declared = orchestration(charge)
    variant = declared.options(instance_id="order-7", version="1.1.0")

    assert (declared.instance_id, declared.pinned_version) == (None, None)
    assert (variant.instance_id, variant.pinned_version) == ("order-7", "1.1.0")
    assert variant.options(version=None).pinned_version is None
    assert (variant.name, variant.fn, variant.version) == (declared.name, declared.fn, None)


def test_generator_orchestration_has_its_result_type() -> None:
    @orchestration
    def steps(ctx: OrchestrationContext, order: str) -> Generator[Any, Any, int]:
        return (yield ctx.utc_now())

    assert steps.result_type is int


@activity(tag="scales")
def measure(order: str) -> int:
    return len(order)


@orchestration(version="1.1.0")
def repeat(order: str) -> Generator[Any, Any, str]:
    yield duroxide.context().utc_now()
    return order


@pytest.mark.parametrize("declared", [measure, repeat, Shop.weigh], ids=repr)
def test_a_declared_function_is_pickled_and_copied_as_a_function_is(declared: Any) -> None:
    assert pickle.loads(pickle.dumps(declared)) is declared
    assert copy.copy(declared) is declared
    assert copy.deepcopy([declared]) == [declared]


def test_a_variant_of_a_declared_function_is_pickled_with_its_options() -> None:
    variant = pickle.loads(pickle.dumps(repeat.options(instance_id="order-7", version="1.2.0")))

    assert (variant.name, variant.fn, variant.version) == ("repeat", repeat.fn, "1.1.0")
    assert (variant.instance_id, variant.pinned_version) == ("order-7", "1.2.0")


def test_a_declared_function_that_its_module_does_not_have_is_not_pickled() -> None:
    with pytest.raises(pickle.PicklingError, match="not the same object"):
        pickle.dumps(activity(charge))
