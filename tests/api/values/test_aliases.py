"""A model of pydantic with aliases comes back as it was, and takes other JSON as its configuration says."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from duroxide._values.codec import convert, decode, encode
from duroxide.exceptions import CodecError


class Account(pydantic.BaseModel):
    name: str = pydantic.Field("nobody", alias="userName")
    admin: bool = pydantic.Field(False, alias="isAdmin")


class Closed(Account):
    model_config = pydantic.ConfigDict(validate_by_name=False, validate_by_alias=True)


class Open(Account):
    model_config = pydantic.ConfigDict(validate_by_name=True)


class Holder(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=False)

    accounts: list[Account] = pydantic.Field(alias="theAccounts")


@pytest.mark.parametrize("kind", [Account, Closed, Open])
def test_a_model_with_aliases_comes_back_as_it_was(kind: Any) -> None:
    account = kind(userName="ada", isAdmin=True)
    assert convert(decode(encode(account)), kind) == account
    assert convert({"userName": "ada", "isAdmin": True}, kind) == account


def test_a_model_whose_configuration_is_silent_is_recorded_by_names_as_before() -> None:
    account = Account(userName="ada", isAdmin=True)
    assert encode(account) == '{"name": "ada", "admin": true}'
    assert convert({"name": "ada", "admin": True}, Account) == account


def test_a_name_sets_nothing_in_a_model_whose_configuration_refuses_names() -> None:
    assert not convert({"admin": True}, Closed).admin
    assert not convert({"userName": "eve", "admin": True}, Closed).admin
    assert convert([{"admin": True}], list[Closed]) == [Closed()]
    assert encode(Closed(userName="ada")) == '{"userName": "ada", "isAdmin": false}'


def test_a_name_sets_nothing_in_a_value_that_has_aliases() -> None:
    assert not convert({"userName": "eve", "admin": True}, Account).admin
    assert not convert({"isAdmin": False, "admin": True}, Account).admin
    assert convert({"userName": "ada", "admin": True}, Open).admin


def test_a_configuration_holds_for_the_models_within() -> None:
    holder = Holder(theAccounts=[Account(userName="ada", isAdmin=True)])
    assert convert(decode(encode(holder)), Holder) == holder
    assert not convert({"theAccounts": [{"admin": True}]}, Holder).accounts[0].admin


def test_a_model_that_would_not_find_what_it_writes_is_refused() -> None:
    class Torn(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(populate_by_name=False)

        admin: bool = pydantic.Field(False, validation_alias="isAdmin", serialization_alias="is-admin")

    with pytest.raises(CodecError, match="reads 'admin' of .*Torn under another alias than it writes"):
        encode(Torn(isAdmin=True))
    with pytest.raises(CodecError, match="reads 'admin' of .*Torn under another alias than it writes"):
        convert({"isAdmin": True}, Torn)
