"""The clients of ``durabletask-azuremanaged``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from duroxide.durabletask.azuremanaged._arguments import check_task_hub
from duroxide.durabletask.client import AsyncTaskHubGrpcClient, TaskHubGrpcClient
from duroxide.durabletask.serialization import DataConverter

__all__ = ["AsyncDurableTaskSchedulerClient", "DurableTaskSchedulerClient"]


class DurableTaskSchedulerClient(TaskHubGrpcClient):
    """A ``TaskHubGrpcClient`` with a task hub.

    Args:
        host_address: Where the store is, as for ``TaskHubGrpcWorker``.
        taskhub: Name of the task hub. Each one but ``"default"`` has a separate file or schema.
        token_credential: Without effect.
        resource_id: Without effect; default ``None``.
        secure_channel: Without effect; default True.
        metadata: Without effect; default ``None``.
        log_handler: As for ``TaskHubGrpcClient``; default ``None``.
        log_formatter: As for ``TaskHubGrpcClient``; default ``None``.
        logger: As for ``TaskHubGrpcClient``; default ``None``.
        channel: Without effect; default ``None``.
        interceptors: Without effect; default ``None``.
        channel_options: Without effect; default ``None``.
        resiliency_options: Without effect; default ``None``.
        default_version: Without effect; default ``None``.
        payload_store: Without effect; default ``None``.
        data_converter: As for ``TaskHubGrpcClient``; default ``None``.

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
        default_version: str | None = None,
        payload_store: Any = None,
        data_converter: DataConverter | None = None,
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
            default_version=default_version,
            payload_store=payload_store,
            data_converter=data_converter,
        )
        self._task_hub = check_task_hub(taskhub)


class AsyncDurableTaskSchedulerClient(AsyncTaskHubGrpcClient):
    """An ``AsyncTaskHubGrpcClient`` with a task hub.

    Args:
        host_address: Where the store is, as for ``TaskHubGrpcWorker``.
        taskhub: Name of the task hub. Each one but ``"default"`` has a separate file or schema.
        token_credential: Without effect.
        resource_id: Without effect; default ``None``.
        secure_channel: Without effect; default True.
        metadata: Without effect; default ``None``.
        log_handler: As for ``AsyncTaskHubGrpcClient``; default ``None``.
        log_formatter: As for ``AsyncTaskHubGrpcClient``; default ``None``.
        logger: As for ``AsyncTaskHubGrpcClient``; default ``None``.
        channel: Without effect; default ``None``.
        interceptors: Without effect; default ``None``.
        channel_options: Without effect; default ``None``.
        resiliency_options: Without effect; default ``None``.
        default_version: Without effect; default ``None``.
        payload_store: Without effect; default ``None``.
        data_converter: As for ``AsyncTaskHubGrpcClient``; default ``None``.

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
        default_version: str | None = None,
        payload_store: Any = None,
        data_converter: DataConverter | None = None,
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
            default_version=default_version,
            payload_store=payload_store,
            data_converter=data_converter,
        )
        self._task_hub = check_task_hub(taskhub)
