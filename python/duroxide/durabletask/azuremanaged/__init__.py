"""The worker and the clients with the arguments of ``durabletask-azuremanaged``."""
