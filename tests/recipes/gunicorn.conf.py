"""The settings that ``gunicorn_app`` needs: a call in each worker."""

from typing import Any

workers = 2


def post_worker_init(worker: Any) -> None:
    import gunicorn_app

    gunicorn_app.opened()
