"""The worker of ``durabletask-azuremanaged``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from duroxide.durabletask.azuremanaged._arguments import check_task_hub
from duroxide.durabletask.serialization import DataConverter
from duroxide.durabletask.worker import ConcurrencyOptions, TaskHubGrpcWorker

__all__ = ["DurableTaskSchedulerWorker"]


class DurableTaskSchedulerWorker(TaskHubGrpcWorker):
    """A ``TaskHubGrpcWorker`` with a task hub.

    Args:
        host_address: Where the store is, as for ``TaskHubGrpcWorker``.
        taskhub: Name of the task hub. Each one but ``"default"`` has a separate file or schema.
        token_credential: Without effect.
        resource_id: Without effect; default ``None``.
        secure_channel: Without effect; default True.
        metadata: Without effect; default ``None``.
        log_handler: As for ``TaskHubGrpcWorker``; default ``None``.
        log_formatter: As for ``TaskHubGrpcWorker``; default ``None``.
        logger: As for ``TaskHubGrpcWorker``; default ``None``.
        channel: Without effect; default ``None``.
        interceptors: Without effect; default ``None``.
        channel_options: Without effect; default ``None``.
        resiliency_options: Without effect; default ``None``.
        concurrency_options: As for ``TaskHubGrpcWorker``; default ``None``.
        payload_store: Without effect; default ``None``.
        data_converter: As for ``TaskHubGrpcWorker``; default ``None``.
        exception_properties_provider: Without effect; default ``None``.

    Raises:
        ValueError: ``taskhub`` is empty.
    """

    def __init__(
        self,
        *,
        host_address: str,
        taskhub: str,
        token_credential: Any,
        resource_id: str | None = None,
        secure_channel: bool = True,
        metadata: Sequence[tuple[str, str]] | None = None,
        log_handler: logging.Handler | None = None,
        log_formatter: logging.Formatter | None = None,
        logger: logging.Logger | None = None,
        channel: Any = None,
        interceptors: Sequence[Any] | None = None,
        channel_options: Any = None,
        resiliency_options: Any = None,
        concurrency_options: ConcurrencyOptions | None = None,
        payload_store: Any = None,
        data_converter: DataConverter | None = None,
        exception_properties_provider: Any = None,
    ) -> None:
        del token_credential, resource_id
        super().__init__(
            host_address=host_address,
            metadata=metadata,
            log_handler=log_handler,
            log_formatter=log_formatter,
            logger=logger,
            channel=channel,
            secure_channel=secure_channel,
            interceptors=interceptors,
            channel_options=channel_options,
            resiliency_options=resiliency_options,
            concurrency_options=concurrency_options,
            maximum_timer_interval=None,
            payload_store=payload_store,
            data_converter=data_converter,
            exception_properties_provider=exception_properties_provider,
        )
        self._task_hub = check_task_hub(taskhub)
