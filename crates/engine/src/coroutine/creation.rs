//! `async_def`: making a coroutine, and keeping its function and arguments
//! until they are called and dropped.

use core::ptr;

use pyo3::ffi::{self, PyObject};

use super::{GreenCoroutine, INLINE_ARGS, State, Work, spare};
use crate::errors::raise;
use crate::portal::{self, Portal};
use crate::thread_state;

/// `async_def(fn, /, *args, assert_await_occurs=False, **kwargs)`.
pub unsafe extern "C" fn async_def(
    _module: *mut PyObject,
    args: *const *mut PyObject,
    nargs: ffi::Py_ssize_t,
    keywords: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with `nargs` positional and as many keyword
    // arguments behind them as `keywords` has names; the GIL is held.
    unsafe {
        if nargs < 1 {
            return raise(
                ffi::PyExc_TypeError,
                c"async_def() needs a function: async_def(fn, *args, **kwargs)",
            );
        }
        let function = *args;
        if (*ffi::Py_TYPE(function)).tp_call.is_none() {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"async_def() needs a function, not %.200s; pass the function and its arguments apart: async_def(fn, *args)".as_ptr(),
                (*ffi::Py_TYPE(function)).tp_name,
            );
            return ptr::null_mut();
        }
        let this = spare::allocate();
        if this.is_null() {
            return ptr::null_mut();
        }
        GreenCoroutine::fill(this, Work::Call, function, (nargs - 1) as u32);
        if keywords.is_null() && nargs as usize <= 1 + INLINE_ARGS {
            for index in 1..nargs as usize {
                (*this).inline_args[index] = ffi::Py_NewRef(*args.add(index));
            }
        } else if !GreenCoroutine::keep_arguments(this, args, nargs as usize, keywords) {
            (*this).nargs = 0;
            (*this).state = State::Ended; // nobody got it, so nobody failed to await it
            GreenCoroutine::release_call(this);
            ffi::Py_DECREF(this.cast());
            return ptr::null_mut();
        }
        if thread_state::origin_depth(ffi::PyThreadState_Get()) > 0 {
            GreenCoroutine::record_origin(this);
        }
        // A plain function without arguments can be part of no cycle before it
        // waits: then the collector is told of it (`track`).
        let in_no_cycle =
            nargs == 1 && keywords.is_null() && thread_state::is_plain_function(function);
        if !in_no_cycle {
            GreenCoroutine::track(this);
        }
        this.cast()
    }
}

impl GreenCoroutine {
    /// Writes the fields of a new object. The arguments are left to the caller.
    #[inline(always)]
    unsafe fn fill(this: *mut Self, work: Work, function: *mut PyObject, nargs: u32) {
        // SAFETY: the GIL is held; `this` is new and nobody else sees it.
        unsafe {
            (*this).state = State::Created;
            (*this).work = work;
            (*this).yielded = false;
            (*this).assert_await_occurs = false;
            (*this).awaited = false;
            (*this).left_behind = false;
            (*this).tracked = false;
            (*this).finalized = false;
            (*this).nargs = nargs;
            (*this).activation = ptr::null_mut();
            (*this).awaiter = ptr::null_mut();
            (*this).portal = ptr::null_mut();
            (*this).function = ffi::Py_NewRef(function);
            (*this).keywords = ptr::null_mut();
            (*this).args = Self::inline_args(this);
            (*this).name = ptr::null_mut();
            (*this).qualname = ptr::null_mut();
            (*this).origin = ptr::null_mut();
            (*this).weak_references = ptr::null_mut();
        }
    }

    /// One step of a portal's coroutine: `object`, a borrowed reference, is sent
    /// or thrown, or the coroutine is closed. Null with an exception set.
    ///
    /// # Safety
    ///
    /// The GIL is held and all objects are live.
    #[inline(always)]
    pub unsafe fn of_step(
        portal: *mut Portal,
        coroutine: *mut PyObject,
        work: Work,
        object: *mut PyObject,
    ) -> *mut Self {
        // SAFETY: as above.
        unsafe {
            let mut this = spare::take_step();
            if this.is_null() {
                this = spare::allocate();
                if this.is_null() {
                    return this;
                }
                Self::fill(this, work, coroutine, 1);
            } else {
                (*this).state = State::Created;
                (*this).work = work;
                (*this).yielded = false;
                (*this).nargs = 1;
                (*this).function = ffi::Py_NewRef(coroutine);
            }
            (*this).portal = portal;
            (*this).inline_args[1] = ffi::Py_NewRef(object);
            this
        }
    }

    /// Drops the reference to a step that has ended.
    ///
    /// # Safety
    ///
    /// The GIL is held; the reference is the caller's.
    #[inline(always)]
    pub unsafe fn drop_step(this: *mut Self) {
        // SAFETY: as above.
        unsafe {
            // Nobody has seen one that never waited. Its names were asked for if it
            // had to be spoken of.
            let unseen = !(*this).tracked && (*this).name.is_null() && (*this).qualname.is_null();
            if unseen && spare::keep_step(this) {
                let coroutine = core::mem::replace(&mut (*this).function, ptr::null_mut());
                ffi::Py_DECREF(coroutine);
            } else {
                ffi::Py_DECREF(this.cast());
            }
        }
    }

    /// The general case of keeping arguments: keywords, or more than fit inline.
    #[cold]
    unsafe fn keep_arguments(
        this: *mut Self,
        args: *const *mut PyObject,
        nargs: usize,
        keywords: *mut PyObject,
    ) -> bool {
        // SAFETY: the GIL is held; `this` is new and nobody else sees it;
        // `args` holds nargs + len(keywords) references.
        unsafe {
            let named = if keywords.is_null() {
                0
            } else {
                ffi::PyTuple_GET_SIZE(keywords) as usize
            };
            let total = nargs - 1 + named;
            if total > INLINE_ARGS {
                let memory = ffi::PyMem_Malloc((1 + total) * size_of::<*mut PyObject>());
                if memory.is_null() {
                    ffi::PyErr_NoMemory();
                    return false;
                }
                (*this).args = memory.cast();
            }
            for index in 1..nargs {
                *(*this).args.add(index) = ffi::Py_NewRef(*args.add(index));
            }
            if named == 0 {
                return true;
            }
            // Our own keyword is taken out of the names, the rest is kept.
            let ours = c"assert_await_occurs";
            let mut kept = 0;
            let mut position = named;
            for index in 0..named {
                let name = ffi::PyTuple_GET_ITEM(keywords, index as ffi::Py_ssize_t);
                let value = *args.add(nargs + index);
                if ffi::PyUnicode_CompareWithASCIIString(name, ours.as_ptr()) == 0 {
                    let truth = ffi::PyObject_IsTrue(value);
                    if truth < 0 {
                        return GreenCoroutine::drop_arguments(this, kept);
                    }
                    (*this).assert_await_occurs = truth != 0;
                    position = index;
                } else {
                    *(*this).args.add(nargs + kept) = ffi::Py_NewRef(value);
                    kept += 1;
                }
            }
            if kept == named {
                (*this).keywords = ffi::Py_NewRef(keywords);
            } else if kept > 0 {
                let names = ffi::PyTuple_New(kept as ffi::Py_ssize_t);
                if names.is_null() {
                    return GreenCoroutine::drop_arguments(this, kept);
                }
                let others = (0..named).filter(|index| *index != position);
                for (next, index) in others.enumerate() {
                    let name = ffi::PyTuple_GET_ITEM(keywords, index as ffi::Py_ssize_t);
                    ffi::PyTuple_SET_ITEM(names, next as ffi::Py_ssize_t, ffi::Py_NewRef(name));
                }
                (*this).keywords = names;
            }
            true
        }
    }

    /// Keeping the arguments failed: drops the positional ones and the `kept`
    /// named ones behind them. False, for the caller to return.
    unsafe fn drop_arguments(this: *mut Self, kept: usize) -> bool {
        // SAFETY: so many references are held, from `args[1]` on.
        unsafe {
            for index in 1..=(*this).nargs as usize + kept {
                ffi::Py_DECREF(*(*this).args.add(index));
            }
            (*this).nargs = 0;
        }
        false
    }

    /// Drops function and arguments. What keeps no data alive stays, for the
    /// sake of its name, which then costs nothing unless it is asked for; so
    /// does what is no Python function and would have to be asked right now.
    #[inline(always)]
    pub(super) unsafe fn release_call(this: *mut Self) {
        // SAFETY: the GIL is held.
        unsafe {
            if (*this).work == Work::Call {
                Self::release_function_and_arguments(this);
            } else if core::mem::replace(&mut (*this).nargs, 0) != 0 {
                // The coroutine of a step stays, for the sake of its name.
                ffi::Py_DECREF((*this).inline_args[1]);
            }
        }
    }

    #[inline]
    unsafe fn release_function_and_arguments(this: *mut Self) {
        // SAFETY: the GIL is held. Fields are cleared before references are
        // dropped, since dropping may run code that looks at this object.
        unsafe {
            if (*this).keywords.is_null() && (*this).args == Self::inline_args(this) {
                while (*this).nargs > 0 {
                    let index = (*this).nargs as usize;
                    (*this).nargs -= 1;
                    ffi::Py_DECREF((*this).inline_args[index]);
                }
            } else {
                Self::release_many(this);
            }
            let function = (*this).function;
            if !function.is_null()
                && !thread_state::is_plain_function(function)
                && Self::copy_names(this)
            {
                (*this).function = ptr::null_mut();
                ffi::Py_DECREF(function);
            }
        }
    }

    #[inline]
    unsafe fn inline_args(this: *mut Self) -> *mut *mut PyObject {
        // SAFETY: a place inside a live object.
        unsafe { (&raw mut (*this).inline_args).cast() }
    }

    /// The general case of dropping arguments.
    #[cold]
    unsafe fn release_many(this: *mut Self) {
        // SAFETY: as for `release_call`.
        unsafe {
            let args = (*this).args;
            let inline = args == Self::inline_args(this);
            let keywords = core::mem::replace(&mut (*this).keywords, ptr::null_mut());
            let named = if keywords.is_null() {
                0
            } else {
                ffi::PyTuple_GET_SIZE(keywords) as usize
            };
            let total = core::mem::replace(&mut (*this).nargs, 0) as usize + named;
            let mut few = [ptr::null_mut(); 1 + INLINE_ARGS];
            let taken: *mut *mut PyObject = if inline {
                ptr::copy_nonoverlapping(args, few.as_mut_ptr(), 1 + total);
                few.as_mut_ptr()
            } else {
                (*this).args = Self::inline_args(this);
                args
            };
            for index in 1..=total {
                ffi::Py_DECREF(*taken.add(index));
            }
            if !inline {
                ffi::PyMem_Free(args.cast());
            }
            ffi::Py_XDECREF(keywords);
        }
    }

    /// Does its work, on whatever stack runs now.
    ///
    /// # Safety
    ///
    /// The GIL is held and the coroutine is running for the first time.
    #[inline(always)]
    pub unsafe fn run_work(this: *mut Self) -> *mut PyObject {
        // SAFETY: function and arguments are held by the object until it ends;
        // `args[0]` is the scratch slot that the offset flag promises.
        unsafe {
            if (*this).work != Work::Call {
                let (coroutine, object) = ((*this).function, (*this).inline_args[1]);
                return portal::step_coroutine(
                    (*this).activation,
                    coroutine,
                    (*this).work,
                    object,
                    &mut (*this).yielded,
                );
            }
            ffi::PyObject_Vectorcall(
                (*this).function,
                (*this).args.add(1),
                (*this).nargs as usize | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                (*this).keywords,
            )
        }
    }
}
