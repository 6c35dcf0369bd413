"""A stand-in for the service that gives tokens to Azure machines; the tokens are a role's passwords in PostgreSQL."""

from __future__ import annotations

import json
import secrets
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg import sql

HEADER = "secret-of-the-machine"


class TokenService:
    """Listens on the loopback interface until the end of the ``with`` block.

    Every token that it gives becomes the role's password: the one before is invalid from then on.

    Args:
        url: The server.
        role: A role of the server that may log in.
    """

    def __init__(self, url: str, role: str) -> None:
        self.role = role
        self.tokens: list[str] = []
        self.audiences: list[str] = []
        self.lifetime_seconds = 3_600
        self.refuses = False
        self.asked = threading.Condition()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if service.refuses or self.headers["X-IDENTITY-HEADER"] != HEADER:
                    self.send_error(403, "no identity here")
                    return
                token = f"token-{secrets.token_hex(16)}"
                with psycopg.connect(url, autocommit=True) as connection:
                    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(token))
                    connection.execute(statement)
                ends = str(int(time.time()) + service.lifetime_seconds)
                body = json.dumps(
                    {"access_token": token, "expires_on": ends, "resource": "database", "token_type": "Bearer"}
                ).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                with service.asked:
                    service.tokens.append(token)
                    service.audiences += parse_qs(urlsplit(self.path).query)["resource"]
                    service.asked.notify_all()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.environment = {
            "IDENTITY_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}/token",
            "IDENTITY_HEADER": HEADER,
        }

    def speak_tls(self, context: ssl.SSLContext) -> str:
        """From now on, take clients by TLS alone; return the address."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        return f"https://localhost:{self._server.server_port}/token"

    def wait_for_tokens(self, number: int, timeout: float) -> None:
        """Wait until this many tokens were given."""
        with self.asked:
            assert self.asked.wait_for(lambda: len(self.tokens) >= number, timeout), f"{len(self.tokens)} tokens"

    def __enter__(self) -> TokenService:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
