"""Sixteen workloads, W1 to W16, one file each, measured as a user would meet them.

``make bench`` builds a release wheel, installs it into a separate environment and prints one table. Every figure is the
median of at least three rounds, with the smallest and the largest beside it. The contenders take turns in each round,
so a line compares what was measured under the same conditions:

- one ``fdatasync`` of 4 KiB on the same disk, and one commit of a row by the same SQLite (in WAL mode, synchronous, its
  log grown beforehand): a store that acknowledges after a sync can beat these only by putting several operations into
  one;
- the same store without a disk, which leaves the engine, Python and the boundary between them;
- the same store with handlers in Rust (``rust_handlers.rs``), which leaves the engine and the store;
- on PostgreSQL, the rows a second that the same server commits one by one, on one connection and on eight; and the
  processor time of an operation, in clients and nodes and in the server separately;
- with ``AGAINST="dbos huey"``, released packages of other projects (``peers/``), each in a separate environment; those
  that support PostgreSQL get an empty database of the same server.

====  ============  ===========================================================================================
W1    ``burst``     orchestrations of one activity, started at once: singly from eight threads, or in bulk
W2    ``chain``     one orchestration of n activities, one after the other
W3    ``fan``       one orchestration that fans out over n activities and back in
W4    ``hello``     an idle store: from the start of one orchestration to its result
W5    ``message``   a message to a waiting orchestration, and its answer
W6    ``sleepers``  64 activities that sleep 0.1 s, 32 at once
W7    ``crash``     a worker killed with SIGKILL during W1: from its restart to the first new progress
W8    ``replay``    what a recorded step costs when an orchestration is replayed from its history
W9    ``waiting``   many orchestrations that wait on timers or events: starts, memory, opening, ends
W10   ``disk``      bytes on disk of an orchestration that has ended
W11   ``idle``      processor time of a runtime that has no work
W12   ``backlog``   W1 on PostgreSQL with many instances that ended, wait or are queued, after a badly timed ``ANALYZE``
W13   ``nodes``     W1 by one, two and four processes on one PostgreSQL server
W14   ``wakeup``    how soon another process starts work that this one requests, on PostgreSQL
W15   ``sizing``    W1 by numbers of slots, connections and nodes; runs only when named
W16   ``listing``   pages and counts of a store with very many instances; runs only when named
====  ============  ===========================================================================================

Sizes follow the store: a slow store gets fewer orchestrations, which show the same in less time. ``FULL=1`` uses the
full sizes however long they take. The table names the measured size. ``PROFILE=1`` shows which functions of the
PostgreSQL server took its time.

``benchmarks.soak`` (``make soak``) watches memory, threads and files over many orchestrations and restarts.
"""
