//! The memory allocator of the native half: `mimalloc`. Without this module, it is the allocator of the system.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
