//! What a pool is asked for, and the layout of one stack that follows from it.
//!
//! ```text
//!   high  +------------------+  <- end of the slot
//!         |       ...        |
//!         | reserved         |     the owner's `Config::reserve` bytes
//!         +------------------+
//!         | header, 64 bytes |     the pool's own words (stack.rs)
//!         +------------------+  <- base: code starts here and grows down
//!         | hot part         |     kept when a deep stack is trimmed, HOT_BYTES
//!         |                  |
//!         | canary page      |     CANARY_DEPTH below the base's page
//!         |       ...        |
//!         +------------------+  <- limit: lowest usable address
//!         | guard            |     GUARD_BYTES, any access is SIGSEGV
//!   low   +------------------+  <- start of the slot, the next lower stack's end
//! ```
//!
//! Header, the first reserved bytes and the first frames share one page, so a simple suspended
//! function costs one page of memory. An owner that reserves more than a page has room to grow
//! upwards, which costs nothing until it is touched.

use crate::error::StackError;
use crate::guard::GuardKind;
use crate::stack::Header;

/// What a [`Pool`](crate::Pool) hands out and how much it keeps.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address space of one stack in bytes, its guard included. A multiple of the page size. Only
    /// the pages that are touched cost memory. The default is 8 MiB, the depth of a main thread.
    pub stack_size: usize,
    /// Bytes above each stack's base that belong to the owner, see
    /// [`Stack::reserved`](crate::Stack::reserved). Rounded up to a multiple of 64. With 64 bytes
    /// more, for the pool, it decides where in its page the base lies: the remainder by the page
    /// size is what the owner takes of the page that the first frames are on.
    pub reserve: usize,
    /// Most stacks in one mapping. The first mapping holds 16 and each further one four times as
    /// many, up to this, so that an idle program reserves little.
    pub stacks_per_slab: usize,
    /// Free stacks that keep their memory. Those beyond are given back to the kernel at once.
    pub warm: usize,
    /// How the low end of a stack is guarded.
    pub guard: GuardKind,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stack_size: 8 << 20,
            reserve: 0,
            stacks_per_slab: 512,
            warm: 256,
            guard: GuardKind::Auto,
        }
    }
}

/// Length of a guard: 16 pages of 4 KiB. Wide enough that a frame which skips one page without
/// touching it still lands in it.
const GUARD_BYTES: usize = 64 << 10;

/// Part on either side of the base's page that a trim leaves alone. The next function will touch it anyway.
const HOT_BYTES: usize = 16 << 10;

/// How deep a stack must have gone to be trimmed on release. 256 warm stacks of this depth are
/// 16 MiB; what is used again and again should not be faulted in again and again.
const CANARY_DEPTH: usize = 64 << 10;

/// Least room for code on a stack.
const MIN_USABLE: usize = 16 << 10;

/// Bytes that one entry of the second-lowest page-table level covers, a page table's reach.
const PAGE_TABLE_REACH: usize = 2 << 20;

/// A [`Config`] that was checked, as offsets from the end of a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) size: usize,
    pub(crate) guard: usize,
    /// From the end of the slot down to the base: the reserved bytes and the header.
    pub(crate) end_to_base: usize,
    /// From the base down to the canary words; 0 when the stack is too small to have any.
    pub(crate) base_to_canary: usize,
    /// From the end of the slot down to where a trim stops.
    pub(crate) end_to_hot: usize,
    /// From the end of the slot down to where the part above the base begins that a trim gives back.
    pub(crate) reserve_tail: usize,
    /// Head room in front of the first stack of a slab, see [`Layout::first_slot`].
    pub(crate) shift_room: usize,
}

impl Layout {
    pub(crate) fn new(config: &Config) -> Result<Self, StackError> {
        let page = page_size();
        if config.stack_size == 0 || config.stack_size % page != 0 {
            return Err(StackError::BadConfig(
                "stack_size is not a multiple of the page size; round it up",
            ));
        }
        if config.stacks_per_slab == 0 {
            return Err(StackError::BadConfig(
                "stacks_per_slab is 0; a mapping must hold at least one stack",
            ));
        }
        let fits = |count: usize| {
            count
                .checked_mul(config.stack_size)
                .is_some_and(|bytes| bytes <= isize::MAX as usize / 2)
        };
        if !fits(config.stacks_per_slab) {
            return Err(StackError::BadConfig(
                "stacks_per_slab stacks of stack_size exceed the address space; lower one of them",
            ));
        }

        let guard = GUARD_BYTES.next_multiple_of(page);
        // Both terms are far from overflow: stack_size was checked, the rest are constants.
        let taken = config
            .reserve
            .min(config.stack_size)
            .next_multiple_of(Header::SIZE)
            + Header::SIZE;
        if config.stack_size < guard + taken + MIN_USABLE {
            return Err(StackError::BadConfig(
                "stack_size leaves less than 16 KiB for code beside the guard and `reserve`; \
                 raise stack_size or lower reserve",
            ));
        }

        let usable = config.stack_size - guard;
        let base_page = taken.next_multiple_of(page);
        let end_to_canary = base_page + CANARY_DEPTH.next_multiple_of(page);
        Ok(Self {
            size: config.stack_size,
            guard,
            end_to_base: taken,
            base_to_canary: if end_to_canary <= usable {
                end_to_canary - taken
            } else {
                0
            },
            end_to_hot: (base_page + HOT_BYTES.next_multiple_of(page)).min(usable),
            reserve_tail: (taken / page * page).saturating_sub(HOT_BYTES.next_multiple_of(page)),
            shift_room: if config.stack_size % PAGE_TABLE_REACH == 0 {
                PAGE_TABLE_REACH
            } else {
                0
            },
        })
    }

    /// Where the first stack of a mapping starts.
    ///
    /// Stacks whose ends lie on 2 MiB boundaries need two page tables each: one for the base, one
    /// for the guard. Shifted by half of that, one stack's base and the next one's guard share a
    /// table, which saves 4 KiB of kernel memory a stack.
    pub(crate) fn first_slot(&self, mapping: usize) -> usize {
        if self.shift_room == 0 {
            return mapping;
        }
        let half = PAGE_TABLE_REACH / 2;
        (mapping + half).next_multiple_of(PAGE_TABLE_REACH) - half
    }
}

/// The size of a page, as the kernel tells it.
pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("sysconf(_SC_PAGESIZE) never fails on Unix")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_slot_is_half_a_page_table_off_and_inside_the_room() {
        let layout = Layout::new(&Config::default()).unwrap();
        for mapping in (0..8 << 20).step_by(4096) {
            let first = layout.first_slot(mapping);
            assert_eq!(first % PAGE_TABLE_REACH, PAGE_TABLE_REACH / 2);
            assert!(first >= mapping && first - mapping < layout.shift_room);
        }
    }

    #[test]
    fn small_stacks_have_no_canary_and_their_hot_part_ends_at_the_limit() {
        let layout = Layout::new(&Config {
            stack_size: 96 << 10,
            ..Config::default()
        })
        .unwrap();
        assert_eq!(layout.base_to_canary, 0);
        assert!(layout.end_to_hot <= layout.size - layout.guard);
    }
}
