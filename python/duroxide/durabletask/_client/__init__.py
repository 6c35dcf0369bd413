"""The operations of the clients, in one form for threads and for asyncio."""
