"""No part of a password stands in an error about a URL of PostgreSQL, however the URL is written."""

from __future__ import annotations

import traceback
from datetime import timedelta
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from duroxide import PostgresOptions, PostgresProvider, ProviderError

# The parts of the password. A port that refuses connections makes each example end soon.
WORDS = ("kestrel", "osprey", "merlin")
REFUSING_PORT = 1

separators = st.text(st.sampled_from("/?#@:%&=+[]\\ \"'äß") | st.sampled_from("0aF"), min_size=1, max_size=4)
encodings = st.sampled_from(["whole", "partly", "not"])
parameters = st.lists(
    st.tuples(
        st.sampled_from(["sslmode", "application_name", "options", "host", "port", "schema", "connect_timeout", "x"]),
        st.sampled_from(["disable", "prefer", "verify-full", "1", "", "%zz", "a b"]),
    ),
    max_size=3,
)


@given(separators, separators, encodings, parameters, st.sampled_from(["postgresql", "postgres", "postgre"]))
def test_an_error_about_a_url_shows_no_part_of_the_password(
    first: str, second: str, encoding: str, options: list[tuple[str, str]], scheme: str
) -> None:
    password = f"{WORDS[0]}{first}{WORDS[1]}{second}{WORDS[2]}"
    written = {"whole": quote(password, safe=""), "partly": quote(password), "not": password}[encoding]
    query = "&".join(f"{name}={value}" for name, value in options)
    url = f"{scheme}://user:{written}@127.0.0.1:{REFUSING_PORT}/database?{query}"
    try:
        PostgresProvider.connect(url, options=PostgresOptions(connect_timeout=timedelta(seconds=1)))
    except (ProviderError, ValueError, TypeError) as error:
        told = "".join(traceback.format_exception(type(error), error, None)).lower()
        assert not [word for word in WORDS if word in told]
    else:
        raise AssertionError("it connected to a port that refuses")
