//! Slabs: one mapping that holds many stacks side by side.
//!
//! ```text
//!   low  [room][guard|stack 0][guard|stack 1][guard|stack 2] ... high
//! ```
//!
//! A slab knows which of its stacks are out and which wait without memory ("cold"). Stacks that
//! were never used ("fresh") have no guard yet: it is installed when the first user takes one, so a
//! new slab costs one system call, whatever its size.

use std::io;
use std::ptr;

use crate::config::Layout;
use crate::error::StackError;
use crate::guard::{self, GuardKind};

/// Anonymous memory from `mmap`, unmapped when dropped.
pub(crate) struct Mapping {
    start: usize,
    len: usize,
}

impl Mapping {
    /// Reserves `len` bytes that read as zero and cost nothing until touched.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                MAP_FLAGS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = Self {
            start: start as usize,
            len,
        };
        mapping.refuse_huge_pages();
        Ok(mapping)
    }

    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Gives the memory behind a range back. It reads as zero afterwards; guards stay.
    ///
    /// # Safety
    ///
    /// The range is page-aligned, inside this mapping, and nobody needs what it holds.
    pub(crate) unsafe fn discard(&self, low: usize, len: usize) -> io::Result<()> {
        debug_assert!(low >= self.start && low + len <= self.start + self.len);
        // SAFETY: the caller's promise, passed on.
        unsafe { discard_range(low, len) }
    }

    /// A huge page would make 2 MiB resident for the first byte of a stack.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn refuse_huge_pages(&self) {
        // SAFETY: advice on this object's own range; it changes no contents.
        // EINVAL comes from kernels without huge pages, where there is nothing to refuse.
        unsafe {
            libc::madvise(
                self.start as *mut libc::c_void,
                self.len,
                libc::MADV_NOHUGEPAGE,
            );
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn refuse_huge_pages(&self) {}
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range came from mmap in `new` and nothing of it is in use any more.
        let refused = unsafe { libc::munmap(self.start as *mut libc::c_void, self.len) } != 0;
        if refused {
            // The kernel merges neighbouring mappings and, at its limit of them, can not split
            // one again. Then the address space is lost, but the memory need not be.
            // SAFETY: as above.
            let _kept = unsafe { discard_range(self.start, self.len) };
        }
    }
}

// Never MAP_GROWSDOWN: the kernel would move the low end. MAP_STACK is what OpenBSD insists on.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "netbsd"))]
const MAP_FLAGS: libc::c_int =
    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
#[cfg(target_os = "openbsd")]
const MAP_FLAGS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_STACK;
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
const MAP_FLAGS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANON;

/// # Safety
///
/// As for [`Mapping::discard`].
#[cfg(any(target_os = "linux", target_os = "android"))]
unsafe fn discard_range(low: usize, len: usize) -> io::Result<()> {
    // SAFETY: the caller's promise, passed on.
    match unsafe { libc::madvise(low as *mut libc::c_void, len, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Elsewhere MADV_DONTNEED is a hint that may do nothing, so new pages are mapped over the old.
///
/// # Safety
///
/// As for [`Mapping::discard`]. The range holds no guard.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
unsafe fn discard_range(low: usize, len: usize) -> io::Result<()> {
    // SAFETY: the caller's promise, passed on.
    let result = unsafe {
        libc::mmap(
            low as *mut libc::c_void,
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            MAP_FLAGS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    if result == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A mapping of `count` stacks.
pub(crate) struct Slab {
    mapping: Mapping,
    first: usize,
    count: usize,
    /// Stacks below this index have a guard; those from it on were never used.
    fresh: usize,
    /// Free stacks without memory.
    cold: Vec<u32>,
    /// Stacks that will never be free again.
    leaked: Vec<u32>,
    /// How many of the guards count as mappings.
    mprotected: usize,
}

impl Slab {
    /// Maps room for `count` stacks, or fewer if the kernel refuses that much: a limit on address
    /// space (RLIMIT_AS) should cost large mappings, not stacks.
    pub(crate) fn new(layout: &Layout, mut count: usize) -> Result<Self, StackError> {
        loop {
            match Mapping::new(count * layout.size + layout.shift_room) {
                Ok(mapping) => {
                    let first = layout.first_slot(mapping.start());
                    return Ok(Self {
                        mapping,
                        first,
                        count,
                        fresh: 0,
                        cold: Vec::new(),
                        leaked: Vec::new(),
                        mprotected: 0,
                    });
                }
                Err(_) if count > 1 => count = count.div_ceil(4),
                Err(error) if is_map_limit(&error) => return Err(StackError::MapLimit),
                Err(error) => return Err(StackError::Map(error)),
            }
        }
    }

    /// How many stacks it has room for.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many free stacks it lists that were used before.
    pub(crate) fn cold(&self) -> usize {
        self.cold.len()
    }

    pub(crate) fn has_free(&self) -> bool {
        !self.cold.is_empty() || self.fresh < self.count
    }

    /// Whether no stack of it is out, kept warm, or leaked.
    pub(crate) fn is_idle(&self) -> bool {
        self.cold.len() == self.fresh
    }

    pub(crate) fn has_leaked(&self) -> bool {
        !self.leaked.is_empty()
    }

    /// Start of the slot of stack `index`.
    pub(crate) fn slot(&self, layout: &Layout, index: u32) -> usize {
        debug_assert!((index as usize) < self.count);
        self.first + index as usize * layout.size
    }

    /// Takes a free stack out. The caller saw [`Slab::has_free`].
    ///
    /// # Errors
    ///
    /// The guard of a fresh stack can not be installed. The stack stays free.
    pub(crate) fn take(&mut self, layout: &Layout, kind: GuardKind) -> Result<u32, StackError> {
        if let Some(index) = self.cold.pop() {
            return Ok(index);
        }
        debug_assert!(self.fresh < self.count);
        let index = self.fresh as u32;
        // SAFETY: the low end of a slot that nobody has used yet.
        unsafe { guard::install(kind, self.slot(layout, index), layout.guard)? };
        self.mprotected += usize::from(kind == GuardKind::Mprotect);
        self.fresh += 1;
        Ok(index)
    }

    /// Puts a stack back without its memory.
    ///
    /// # Safety
    ///
    /// Stack `index` was taken from this slab and nobody uses it any more.
    pub(crate) unsafe fn put(&mut self, layout: &Layout, index: u32) {
        let low = self.slot(layout, index) + layout.guard;
        // SAFETY: the whole stack but its guard, unused by the caller's promise.
        // Memory that the program has locked (mlockall) is refused. Then it costs what locking
        // costs, and nothing depends on its contents.
        let _refused = unsafe { self.mapping.discard(low, layout.size - layout.guard) };
        debug_assert!(!self.cold.contains(&index) || self.cold.len() > 64);
        self.cold.push(index);
    }

    /// Gives back what stack `index` used beyond its hot part, on both sides.
    ///
    /// # Safety
    ///
    /// Stack `index` is free: taken from this slab, with no live code on it.
    pub(crate) unsafe fn trim(&self, layout: &Layout, index: u32) {
        let slot = self.slot(layout, index);
        let low = slot + layout.guard;
        let len = slot + layout.size - layout.end_to_hot - low;
        if len > 0 {
            // SAFETY: below the hot part of a free stack, guard excluded. A refusal: see `put`.
            let _refused = unsafe { self.mapping.discard(low, len) };
        }
        let tail = layout.reserve_tail;
        if tail > 0 {
            // SAFETY: the far end of the reserved bytes, which have no owner now. A refusal: see `put`.
            let _refused = unsafe { self.mapping.discard(slot + layout.size - tail, tail) };
        }
    }

    /// Notes that stack `index` will never come back.
    pub(crate) fn leak(&mut self, index: u32) {
        self.leaked.push(index);
    }

    /// Ends the slab. Without leaked stacks it is unmapped. With one it stays mapped for ever, but
    /// the memory of the others goes back.
    ///
    /// # Safety
    ///
    /// No stack of it is in use but the leaked ones.
    pub(crate) unsafe fn close(self, layout: &Layout) {
        if !self.has_leaked() {
            guard::forget_mprotected(self.mprotected);
            return;
        }
        for index in (0..self.fresh as u32).filter(|index| !self.leaked.contains(index)) {
            let low = self.slot(layout, index) + layout.guard;
            // SAFETY: neither in use nor leaked. A refusal: see `put`.
            let _refused = unsafe { self.mapping.discard(low, layout.size - layout.guard) };
        }
        std::mem::forget(self.mapping);
    }
}

/// Whether `mmap` failed for the number of mappings rather than for the size asked for: then a
/// single page fails as well. What limits memory must not look the same: a page that can not be
/// touched counts for none of RLIMIT_DATA and the commit limit, and RLIMIT_AS is excluded.
fn is_map_limit(error: &io::Error) -> bool {
    if error.raw_os_error() != Some(libc::ENOMEM) {
        return false;
    }
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes the struct it is given.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    known && limit.rlim_cur == libc::RLIM_INFINITY && !one_page_can_be_mapped()
}

fn one_page_can_be_mapped() -> bool {
    let len = crate::config::page_size();
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let page = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, MAP_FLAGS, -1, 0) };
    if page == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: the page just mapped, which nobody knows. If it stays, it costs address space only.
    let _kept = unsafe { libc::munmap(page, len) };
    true
}
