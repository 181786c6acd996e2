//! Why there is no stack, and what to do about it.

use std::fmt;
use std::io;

/// A stack could not be had. The pool goes on working: later calls may succeed.
#[derive(Debug)]
#[non_exhaustive]
pub enum StackError {
    /// The kernel refused address space, even for a single stack.
    Map(io::Error),
    /// The process has as many memory mappings as the kernel allows.
    MapLimit,
    /// The guard at the low end of a stack could not be installed.
    Guard(io::Error),
    /// The [`Config`](crate::Config) makes no sense; the text names the field.
    BadConfig(&'static str),
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(cause) => write!(
                f,
                "no address space for another stack: {cause}. Check `ulimit -v` (RLIMIT_AS), \
                 `ulimit -d` (RLIMIT_DATA) and vm.overcommit_memory, or use a smaller stack_size"
            ),
            Self::MapLimit => write!(
                f,
                "this process is at the kernel's limit of memory mappings (vm.max_map_count). \
                 Where stacks are guarded by mprotect each takes two, so the default of 65530 \
                 ends near 30000 stacks. Raise it (`sysctl -w vm.max_map_count=1048576`), or run \
                 on Linux 6.13 or later, where guard pages take no mapping"
            ),
            Self::Guard(cause) => write!(
                f,
                "the guard pages of a stack could not be installed: {cause}. GuardKind::Madvise \
                 needs Linux 6.13 or later; GuardKind::Auto falls back to mprotect"
            ),
            Self::BadConfig(what) => write!(f, "bad stack pool configuration: {what}"),
        }
    }
}

impl std::error::Error for StackError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Map(cause) | Self::Guard(cause) => Some(cause),
            Self::MapLimit | Self::BadConfig(_) => None,
        }
    }
}
