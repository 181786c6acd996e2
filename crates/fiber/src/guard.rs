//! Guard pages: the low end of every stack, where any access is SIGSEGV.
//!
//! Two ways to make them:
//!
//! - `madvise(MADV_GUARD_INSTALL)`, Linux 6.13 and later, marks page-table entries. A slab stays one
//!   mapping however many stacks it holds. The marks survive `MADV_DONTNEED` and `fork`.
//! - `mprotect(PROT_NONE)` splits the mapping, two more for every stack. The kernel's default limit
//!   of 65,530 mappings then ends at about 30,000 stacks.
//!
//! Which one works is found out once in a process, by trying it and looking whether the page is
//! really closed: emulators answer 0 to advice that they do not know.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::page_size;
use crate::error::StackError;
use crate::slab::Mapping;

/// How the low end of a stack is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardKind {
    /// `Madvise` where the kernel has it, else `Mprotect`.
    Auto,
    /// `MADV_GUARD_INSTALL`, Linux 6.13 and later: costs no mapping.
    Madvise,
    /// `mprotect(PROT_NONE)`: works everywhere, costs two mappings a stack.
    Mprotect,
}

impl GuardKind {
    /// The name in lower case: "auto", "madvise" or "mprotect".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Madvise => "madvise",
            Self::Mprotect => "mprotect",
        }
    }
}

/// Since Linux 6.13; the `libc` crate has no name for it on every target.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Mappings left to the rest of the process. At the very limit an allocator can not grow either,
/// and the caller could not even report the error.
const SPARE_MAPPINGS: usize = 4096;

/// Stacks of this process that are guarded by mprotect, those of all threads.
static MPROTECTED: AtomicUsize = AtomicUsize::new(0);

/// The kind to use for `wanted`: never `Auto`.
pub(crate) fn resolve(wanted: GuardKind) -> Result<GuardKind, StackError> {
    match (wanted, madvise_works()) {
        (GuardKind::Mprotect, _) | (GuardKind::Auto, false) => Ok(GuardKind::Mprotect),
        (GuardKind::Madvise | GuardKind::Auto, true) => Ok(GuardKind::Madvise),
        (GuardKind::Madvise, false) => Err(StackError::Guard(io::Error::from_raw_os_error(
            libc::EINVAL,
        ))),
    }
}

/// Closes `len` bytes from `low` on with `kind`, which is not `Auto`.
///
/// # Safety
///
/// The range is page-aligned, lies in a mapping of the caller's, and holds nothing of use.
pub(crate) unsafe fn install(kind: GuardKind, low: usize, len: usize) -> Result<(), StackError> {
    match kind {
        // SAFETY: the caller's promise, passed on.
        GuardKind::Madvise => unsafe { madvise_guard(low, len) }.map_err(StackError::Guard),
        // SAFETY: as above.
        GuardKind::Auto | GuardKind::Mprotect => unsafe { mprotect_guard(low, len) },
    }
}

/// Tells that `count` guards made by mprotect went with their mapping.
pub(crate) fn forget_mprotected(count: usize) {
    MPROTECTED.fetch_sub(count, Ordering::Relaxed);
}

/// # Safety
///
/// As for [`install`].
#[cfg(any(target_os = "linux", target_os = "android"))]
unsafe fn madvise_guard(low: usize, len: usize) -> io::Result<()> {
    loop {
        // SAFETY: the range is the caller's own and holds nothing of use.
        if unsafe { libc::madvise(low as *mut libc::c_void, len, MADV_GUARD_INSTALL) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // The kernel gives up with EINTR when faults race with it; it asks to be called again.
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// # Safety
///
/// None here: it touches nothing. Marked for one signature on all systems.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
unsafe fn madvise_guard(_low: usize, _len: usize) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// # Safety
///
/// As for [`install`].
unsafe fn mprotect_guard(low: usize, len: usize) -> Result<(), StackError> {
    let guards = MPROTECTED.fetch_add(1, Ordering::Relaxed) + 1;
    let refused = if 2 * guards + SPARE_MAPPINGS > max_map_count() {
        Some(StackError::MapLimit)
    // SAFETY: the range is the caller's own and holds nothing of use.
    } else if unsafe { libc::mprotect(low as *mut libc::c_void, len, libc::PROT_NONE) } != 0 {
        let error = io::Error::last_os_error();
        // Taking rights away needs no memory but for the records of the two halves.
        Some(match error.raw_os_error() {
            Some(libc::ENOMEM) => StackError::MapLimit,
            _ => StackError::Guard(error),
        })
    } else {
        None
    };
    match refused {
        None => Ok(()),
        Some(error) => {
            forget_mprotected(1);
            Err(error)
        }
    }
}

/// The limit of mappings that the kernel sets, read once. `usize::MAX` where there is none to read.
fn max_map_count() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(usize::MAX)
    })
}

fn madvise_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let page = page_size();
        let Ok(mapping) = Mapping::new(page) else {
            return false;
        };
        let low = mapping.start();
        // SAFETY: the page is this function's own and empty.
        let closed = unsafe { madvise_guard(low, page) }.is_ok() && !is_open(low);
        // SAFETY: as above.
        closed && unsafe { mapping.discard(low, page) }.is_ok() && !is_open(low)
    })
}

/// Whether the kernel can write to `address`, asked without touching it here: it is given as the
/// place for a small answer, and one that can not be written to is EFAULT.
///
/// Not a path name to read, which valgrind reads itself before the kernel does: it knows nothing of
/// guards by madvise, and would crash.
fn is_open(address: usize) -> bool {
    // SAFETY: the kernel checks the pointer itself, that is the point; if it can be written to it is
    // an empty page of the caller's. The system call and not libc's function, which writes the
    // answer from here.
    let answer = unsafe { libc::syscall(libc::SYS_clock_getres, libc::CLOCK_MONOTONIC, address) };
    answer == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no mprotect")]
    fn a_closed_page_is_told_from_an_open_one() {
        let page = page_size();
        let mapping = Mapping::new(2 * page).unwrap();
        // SAFETY: the page is the test's own and empty.
        unsafe { install(GuardKind::Mprotect, mapping.start(), page) }.unwrap();
        assert!(!is_open(mapping.start()));
        assert!(is_open(mapping.start() + page));
        forget_mprotected(1);
    }
}
