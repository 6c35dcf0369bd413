//! The memory allocator of the native half: `mimalloc`. It saves a quarter of the time of a burst, a chain and a fan-out
//! against the allocator of the system (`benchmarks/BASELINE.md`).

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
