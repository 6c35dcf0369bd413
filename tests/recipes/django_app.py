"""Django with plain views: the blocking client in the views, the runtime on its threads.

In your project, the settings go into ``settings.py``, the views into ``views.py``, and the body of ``opened`` into the
``ready`` method of an ``AppConfig``.
"""

from __future__ import annotations

import functools
import json
import os

import django
import orders
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.urls import path

from duroxide import Client, Runtime, SqliteProvider

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="only for this recipe", USE_TZ=True)
django.setup()


@functools.cache
def opened() -> Runtime:
    """The runtime of this process, started at the first request: a server may fork before that."""
    provider = SqliteProvider.open(os.environ.get("ORDERS_DB", "orders.db"))
    runtime = Runtime(provider, functions=[orders])
    runtime.start()  # the end of the process shuts it down
    return runtime


def client() -> Client:
    return opened().client


def start(request: HttpRequest, order_id: str) -> JsonResponse:
    started = client().start_orchestration(order_id, orders.fulfil, json.loads(request.body))
    return JsonResponse({"started": started}, status=202)


def packed(request: HttpRequest, order_id: str) -> JsonResponse:
    client().raise_event(order_id, "packed")
    return JsonResponse({}, status=202)


def status(request: HttpRequest, order_id: str) -> JsonResponse:
    now = client().get_status(order_id)
    return JsonResponse({"status": now.status, "progress": now.custom_status, "result": now.output})


urlpatterns = [
    path("orders/<str:order_id>/start", start),
    path("orders/<str:order_id>/packed", packed),
    path("orders/<str:order_id>", status),
]

application = WSGIHandler()
