//! The records of waits on a stack that has greenlets on it.
//!
//! A record lies in the C frame that waits, and the records of a stack form a
//! list. greenlet moves C frames away and puts others in their place, and waits
//! of different greenlets do not end in the order they began. Then a record is
//! kept on the heap, and taken out of the list wherever it is.

use super::carrier;
use crate::activation::{Activation, AwaitRecord};
use crate::runtime::Runtime;

/// Puts a record into the stack's list: a copy of it on the heap, if C frames may
/// move. Returns what [`release`] wants.
///
/// # Safety
///
/// The GIL is held, and `stack` is the running one.
#[inline(always)]
pub unsafe fn keep(stack: *mut Activation, record: &AwaitRecord) -> *const AwaitRecord {
    // SAFETY: as above.
    unsafe {
        let moves =
            super::IS_MET && (carrier::is_chosen() || Runtime::get().is_some_and(super::is_active));
        let kept: *const AwaitRecord = if moves {
            Box::into_raw(Box::new(AwaitRecord { ..*record }))
        } else {
            record
        };
        (*stack).awaits = kept;
        kept
    }
}

/// Takes it out.
///
/// # Safety
///
/// As for [`keep`], which returned `kept` for `record`.
#[inline(always)]
pub unsafe fn release(stack: *mut Activation, record: &AwaitRecord, kept: *const AwaitRecord) {
    // SAFETY: as above.
    unsafe {
        if (*stack).awaits == kept {
            (*stack).awaits = (*kept).outer;
        } else {
            take_out(stack, kept);
        }
        if !core::ptr::eq(record, kept) {
            drop(Box::from_raw(kept.cast_mut()));
        }
    }
}

#[cold]
unsafe fn take_out(stack: *mut Activation, kept: *const AwaitRecord) {
    // SAFETY: records of the list are live: on the heap, or in frames that stay.
    unsafe {
        let mut inner = (*stack).awaits.cast_mut();
        while !inner.is_null() {
            if (*inner).outer == kept {
                (*inner).outer = (*kept).outer;
                return;
            }
            inner = (*inner).outer.cast_mut();
        }
    }
}
