"""Benchmarks: fifteen workloads, one file each, measured as a user would meet them.

``make bench`` builds a release wheel, installs it into an environment of its own and prints one table. Every figure is
the median of at least three rounds with the smallest and the largest beside it. In each round every contender has its
turn, so a line compares what was measured under the same conditions:

- one ``fdatasync`` of 4 KiB on the same disk, and one lone commit of a row by the same SQLite (in WAL mode, synchronous,
  its log grown beforehand): a store that acknowledges after it has synced can beat these only by putting several
  operations into one;
- the same without a disk, which leaves the engine, Python and the boundary between them;
- the same store with handlers in Rust (``rust_handlers.rs``), which leaves the engine and the store;
- on PostgreSQL, the rows a second that the same server commits one by one, by one connection and by eight; and the processor
  time of an operation, in clients and nodes and in the server apart;
- with ``AGAINST="dbos huey"``, releases of others (``peers/``), each in an environment of its own; those that know
  PostgreSQL get an empty database of the same server.

====  ============  ===========================================================================================
W1    ``burst``     orchestrations of one activity, started at once: singly from eight threads, or in bulk
W2    ``chain``     one orchestration of n activities, one after the other
W3    ``fan``       one orchestration that fans out over n activities and in again
W4    ``hello``     an idle store: from the start of one orchestration to its result
W5    ``message``   a message to an orchestration that waits, and its answer
W6    ``sleepers``  64 activities that sleep 0.1 s, 32 at once
W7    ``crash``     a worker killed with SIGKILL during W1: from its restart to the first new progress
W8    ``replay``    what a recorded step costs when an orchestration is replayed from its history
W9    ``waiting``   many orchestrations that wait on timers or events: starts, memory, opening, ends
W10   ``disk``      bytes on disk of an orchestration that has ended
W11   ``idle``      processor time of a runtime that has nothing to do
W12   ``backlog``   W1 on PostgreSQL beside much that has ended, waits or is queued, after ``ANALYZE`` at the wrong moment
W13   ``nodes``     W1 by one, two and four processes on one PostgreSQL server
W14   ``wakeup``    how soon another process takes up what this one asks for, on PostgreSQL
W15   ``sizing``    W1 by numbers of slots, connections and nodes; only where it is asked for
====  ============  ===========================================================================================

Sizes follow the store: where one is slow, fewer orchestrations say the same in less time. ``FULL=1`` asks for the full
sizes whatever they take. The table names the size that was measured. ``PROFILE=1`` says which functions of the PostgreSQL
server took its time.

``benchmarks.soak`` (``make soak``) watches memory, threads and files over many orchestrations and restarts.
"""
