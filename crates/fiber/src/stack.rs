//! One stack, owned. Dropping it gives it back to its pool.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use crate::config::Layout;
use crate::pool::{self, Shared};

/// The pool's own words just above the base. Written whenever a stack gets its memory anew;
/// a stack that waits without memory has none.
#[repr(C, align(64))]
pub(crate) struct Header {
    /// The pool to go back to. It outlives every stack that is out or warm.
    pub(crate) pool: NonNull<Shared>,
    /// Lowest usable address.
    pub(crate) limit: usize,
    /// Which slab, and which stack of it.
    pub(crate) slab: u32,
    pub(crate) index: u32,
    /// Offset down to the canary words, 0 for none: see [`RawStack::went_deep`].
    pub(crate) to_canary: u32,
}

impl Header {
    /// A cache line, so that the owner's reserved bytes above begin with one.
    pub(crate) const SIZE: usize = size_of::<Self>();
}

const _: () = assert!(Header::SIZE == 64);

/// A stack without its owner: what the pool keeps in its lists.
#[derive(Clone, Copy)]
pub(crate) struct RawStack {
    /// Its address is the base, where code starts.
    header: NonNull<Header>,
}

impl RawStack {
    /// Writes the header of the stack in `slot` and returns a handle to it.
    ///
    /// # Safety
    ///
    /// `slot` is the start of a slot with memory and guard that nobody uses.
    #[inline]
    pub(crate) unsafe fn init(
        layout: &Layout,
        pool: NonNull<Shared>,
        slot: usize,
        slab: u32,
        index: u32,
    ) -> Self {
        let header = (slot + layout.size - layout.end_to_base) as *mut Header;
        // SAFETY: inside the slot, whose end is page-aligned, so aligned to 64; writable and unused.
        unsafe {
            header.write(Header {
                pool,
                limit: slot + layout.guard,
                slab,
                index,
                to_canary: layout.base_to_canary as u32,
            });
        }
        #[cfg(feature = "valgrind")]
        crate::valgrind::register_stack(slot + layout.guard, header as usize);
        Self {
            header: NonNull::new(header).expect("a mapping is never at address 0"),
        }
    }

    /// Where code starts and grows down from.
    #[inline]
    fn base(&self) -> NonZeroUsize {
        self.header.addr()
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: written by `init`, and the memory stays while a handle exists: stacks go cold
        // only by giving up their handle.
        unsafe { self.header.as_ref() }
    }

    /// Whether code went deeper than the canary since the memory was last given back.
    ///
    /// Reading a page that was never written maps the kernel's shared zero page, which costs no
    /// memory. Eight words that are still zero say that no frame was there. Code may jump over
    /// them or leave zeros, so this is a hint; the pool's sweep finds what it misses.
    #[inline]
    pub(crate) fn went_deep(&self) -> bool {
        let to_canary = self.header().to_canary as usize;
        if to_canary == 0 {
            return false;
        }
        let words = (self.header.as_ptr() as usize - to_canary) as *const u64;
        let mut seen = 0;
        for line in 0..2 {
            for word in 0..4 {
                // SAFETY: inside the canary page, which is above `limit`, below the base, and belongs
                // to this free stack. Volatile, as compiled code wrote it behind Rust's back.
                seen |= unsafe { words.add(line * 64 + word).read_volatile() };
            }
        }
        seen != 0
    }
}

// SAFETY: `limit` to `base` is mapped, writable, at least 16 KiB (config.rs checks), aligned to 64
// at the base and to a page at the low end, and ends in a guard. A fiber holds the `Stack` that
// owns all this beside its coroutine.
unsafe impl corosensei::stack::Stack for RawStack {
    #[inline]
    fn base(&self) -> NonZeroUsize {
        RawStack::base(self)
    }

    /// Unlike [`Stack::limit`] this counts the guard in, as the trait demands.
    #[inline]
    fn limit(&self) -> NonZeroUsize {
        let header = self.header();
        // SAFETY: the pool outlives every stack that is out.
        let guard = unsafe { header.pool.as_ref() }.layout().guard;
        NonZeroUsize::new(header.limit - guard).expect("a mapping is never at address 0")
    }
}

/// An owned stack, ready for a [`Fiber`](crate::Fiber). Dropping it gives it back to its pool,
/// even if the last [`Pool`](crate::Pool) handle is gone by then.
pub struct Stack {
    raw: RawStack,
}

impl Stack {
    #[inline]
    pub(crate) fn from_raw(raw: RawStack) -> Self {
        Self { raw }
    }

    #[inline]
    pub(crate) fn raw(&self) -> RawStack {
        self.raw
    }

    /// The [`Config::reserve`](crate::Config::reserve) bytes above the base of the stack, 64 bytes
    /// above where code runs. Aligned to 64.
    ///
    /// They belong to the owner of the stack for as long as it is out. They hold zeros or what an
    /// earlier owner left there.
    #[inline]
    pub fn reserved(&self) -> NonNull<u8> {
        // SAFETY: the header is followed by the reserved bytes, in one mapping.
        unsafe { self.raw.header.add(1).cast() }
    }

    /// Where the stack of running code begins. Aligned to 64.
    #[inline]
    pub fn base(&self) -> usize {
        self.raw.base().get()
    }

    /// The lowest usable address. The guard lies below.
    #[inline]
    pub fn limit(&self) -> usize {
        self.raw.header().limit
    }

    #[inline]
    pub(crate) fn went_deep(&self) -> bool {
        self.raw.went_deep()
    }

    /// Gives the stack up for ever: it is not reused, and its memory stays as it is, even when the
    /// pool has gone. For code that can never finish but that others may still point into.
    #[inline]
    pub fn leak(self) {
        let raw = self.raw;
        std::mem::forget(self);
        // SAFETY: the handle was owned and is forgotten.
        unsafe { pool::leak(raw) }
    }
}

impl Drop for Stack {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle is owned and ends here. No code is on the stack: a fiber gives its
        // stack out only when it is done.
        unsafe { pool::release(self.raw) }
    }
}

// SAFETY: as for `RawStack`, and it is owned.
unsafe impl corosensei::stack::Stack for Stack {
    #[inline]
    fn base(&self) -> NonZeroUsize {
        corosensei::stack::Stack::base(&self.raw)
    }

    #[inline]
    fn limit(&self) -> NonZeroUsize {
        corosensei::stack::Stack::limit(&self.raw)
    }
}
