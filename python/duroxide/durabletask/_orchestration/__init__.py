"""Tasks, the context and the driver: how a durabletask orchestrator runs on the driver of this package."""
