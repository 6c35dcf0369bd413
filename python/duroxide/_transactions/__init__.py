"""Clients that write in the application's own transaction, and the outbox that delivers what they wrote."""
