"""Benchmarks: eight workloads, one file each, measured as a user would meet them.

``make bench`` builds a release wheel, installs it into an environment of its own and prints one table. Every figure is
the median of at least three repetitions with the smallest and the largest beside it, and beside those what one
``fdatasync`` of 4 KiB takes on the same disk just before: a store that acknowledges after it has synced can beat
that figure only by putting several operations into one sync.

====  ============  ===========================================================================================
W1    ``burst``     orchestrations of one activity, started at once from eight threads
W2    ``chain``     one orchestration of n activities, one after the other
W3    ``fan``       one orchestration that fans out over n activities and in again
W4    ``hello``     an idle store: from the start of one orchestration to its result
W5    ``message``   a message to an orchestration that waits, and its answer
W6    ``sleepers``  64 activities that sleep 0.1 s, 32 at once
W7    ``crash``     a worker killed with SIGKILL during W1: from its restart to the first new progress
W8    ``replay``    what a recorded step costs when an orchestration is replayed from its history
====  ============  ===========================================================================================

Sizes follow the store: where one is slow, fewer orchestrations say the same in less time. ``FULL=1`` asks for the full
sizes whatever they take. The table names the size that was measured.

``benchmarks.soak`` (``make soak``) watches memory, threads and files over many orchestrations and restarts.
"""
