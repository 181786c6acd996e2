//! `GreenCoroutine`: what `async_def` returns. A native awaitable and a full
//! `collections.abc.Coroutine`.
//!
//! The type is made with `PyType_FromSpec`, because a `#[pyclass]` has no
//! `am_send` slot, and its entry points are raw `extern "C"` functions, because
//! a `PyO3` trampoline must not stay open across a switch of stacks.

use core::ffi::{c_char, c_int, c_uint, c_void};
use core::mem::offset_of;
use core::ptr;

use pyo3::ffi::{self, PyObject, PySendResult, PyThreadState};

use crate::activation::{self, Activation, Incoming, Outcome};
use crate::errors::{self, raise};
use crate::runtime::{self, Runtime};
use crate::{eager, thread_state};

/// Arguments up to this many lie in the object itself.
const INLINE_ARGS: usize = 4;

/// Where a coroutine is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// Not begun: it has its function and arguments, and no stack.
    Created,
    /// It waits on its stack.
    Suspended,
    /// Its function runs now, or drives something that does.
    Running,
    /// It returned, raised, was closed or was given up.
    Ended,
}

/// The object behind `async_def(fn, ...)`.
#[repr(C)]
pub struct GreenCoroutine {
    ob_base: PyObject,
    state: State,
    assert_await_occurs: bool,
    /// Whether its function ever called `await_`.
    pub awaited: bool,
    nargs: u32,
    /// Valid while suspended or running on a stack of its own.
    activation: *mut Activation,
    /// The coroutine that awaits this one through the `await` statement on the
    /// stack it may share, borrowed, only compared (`run_on_this_stack`).
    awaiter: *mut PyObject,
    function: *mut PyObject,
    /// Names of the keyword arguments, which are the last of `args`, or null.
    keywords: *mut PyObject,
    /// `args[0]` is scratch space that the vectorcall protocol asks for; the
    /// arguments follow. Points to `inline_args` or to memory of its own.
    args: *mut *mut PyObject,
    inline_args: [*mut PyObject; 1 + INLINE_ARGS],
    name: *mut PyObject,
    qualname: *mut PyObject,
    origin: *mut PyObject,
    weak_references: *mut PyObject,
}

static mut TYPE: *mut ffi::PyTypeObject = ptr::null_mut();

/// Whether `object` is a `GreenCoroutine`.
#[inline]
pub fn check_exact(object: *mut PyObject) -> bool {
    // SAFETY: TYPE is written once, when the module is made, and `object` is live.
    unsafe { ffi::Py_TYPE(object) == TYPE }
}

// ---- making one -----------------------------------------------------------

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
        if ffi::PyCallable_Check(function) == 0 {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"async_def() needs a function, not %.200s; pass the function and its arguments apart: async_def(fn, *args)".as_ptr(),
                (*ffi::Py_TYPE(function)).tp_name,
            );
            return ptr::null_mut();
        }
        if let Some(runtime) = Runtime::get() {
            runtime.unwind_abandoned();
        }
        let this = spare::allocate(TYPE);
        if this.is_null() {
            return ptr::null_mut();
        }
        (*this).state = State::Created;
        (*this).assert_await_occurs = false;
        (*this).awaited = false;
        (*this).nargs = (nargs - 1) as u32;
        (*this).activation = ptr::null_mut();
        (*this).awaiter = ptr::null_mut();
        (*this).function = ffi::Py_NewRef(function);
        (*this).keywords = ptr::null_mut();
        (*this).args = GreenCoroutine::inline_args(this);
        (*this).name = ptr::null_mut();
        (*this).qualname = ptr::null_mut();
        (*this).origin = ptr::null_mut();
        (*this).weak_references = ptr::null_mut();
        if keywords.is_null() && nargs as usize <= 1 + INLINE_ARGS {
            for index in 1..nargs as usize {
                (*this).inline_args[index] = ffi::Py_NewRef(*args.add(index));
            }
        } else if !GreenCoroutine::keep_arguments(this, args, nargs as usize, keywords) {
            (*this).nargs = 0;
            ffi::Py_DECREF(this.cast());
            return ptr::null_mut();
        }
        if thread_state::origin_depth(ffi::PyThreadState_Get()) > 0 {
            GreenCoroutine::record_origin(this);
        }
        ffi::PyObject_GC_Track(this.cast());
        this.cast()
    }
}

impl GreenCoroutine {
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
            let named = if keywords.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(keywords) as usize };
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
                        // What was kept so far is counted in `nargs`; the rest is not ours.
                        for index in 0..kept {
                            ffi::Py_DECREF(*(*this).args.add(nargs + index));
                        }
                        GreenCoroutine::release_positional(this);
                        return false;
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
                    for index in 0..kept {
                        ffi::Py_DECREF(*(*this).args.add(nargs + index));
                    }
                    GreenCoroutine::release_positional(this);
                    return false;
                }
                let mut next = 0;
                for index in (0..named).filter(|index| *index != position) {
                    let name = ffi::PyTuple_GET_ITEM(keywords, index as ffi::Py_ssize_t);
                    ffi::PyTuple_SET_ITEM(names, next, ffi::Py_NewRef(name));
                    next += 1;
                }
                (*this).keywords = names;
            }
            true
        }
    }

    unsafe fn release_positional(this: *mut Self) {
        // SAFETY: `nargs` positional references are held, from `args[1]` on.
        unsafe {
            for index in 0..(*this).nargs as usize {
                ffi::Py_DECREF(*(*this).args.add(1 + index));
            }
            (*this).nargs = 0;
        }
    }

    /// Drops function, arguments and their names. The function is kept when
    /// the coroutine's name is still to be read from it.
    unsafe fn release_call(this: *mut Self) {
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
            if (*this).qualname.is_null() {
                let (mut name, mut qualname) = (ptr::null_mut(), ptr::null_mut());
                if (*this).function.is_null()
                    || thread_state::function_names((*this).function, &raw mut name, &raw mut qualname) == 0
                {
                    return;
                }
                (*this).name = ffi::Py_NewRef(name);
                (*this).qualname = ffi::Py_NewRef(qualname);
            }
            let function = core::mem::replace(&mut (*this).function, ptr::null_mut());
            ffi::Py_XDECREF(function);
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
            let named = if keywords.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(keywords) as usize };
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

    /// Calls the function, on whatever stack runs now.
    ///
    /// # Safety
    ///
    /// The GIL is held and the coroutine is running for the first time.
    pub unsafe extern "C" fn call_function(this: *mut Self) -> *mut PyObject {
        // SAFETY: function and arguments are held by the object until it ends;
        // `args[0]` is the scratch slot that the offset flag promises.
        unsafe {
            ffi::PyObject_Vectorcall(
                (*this).function,
                (*this).args.add(1),
                (*this).nargs as usize | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                (*this).keywords,
            )
        }
    }

    // ---- stepping -----------------------------------------------------------

    /// One step: begin or resume with `value`, a borrowed reference.
    #[inline]
    unsafe fn send(this: *mut Self, value: *mut PyObject) -> Outcome {
        // SAFETY: the GIL is held; `this` is held by the caller.
        unsafe {
            let thread = ffi::PyThreadState_Get();
            match (*this).state {
                State::Created => {
                    if value != ffi::Py_None() {
                        return Outcome::Ended(raise(
                            ffi::PyExc_TypeError,
                            c"can't send non-None value to a just-started coroutine",
                        ));
                    }
                    Self::begin(this, thread)
                }
                State::Suspended => {
                    Self::resume(this, thread, Incoming::Value(ffi::Py_NewRef(value)))
                }
                State::Running | State::Ended => Outcome::Ended(Self::refuse_step(this)),
            }
        }
    }

    #[inline]
    unsafe fn begin(this: *mut Self, thread: *mut PyThreadState) -> Outcome {
        // SAFETY: the GIL is held and the coroutine has not begun.
        unsafe {
            let started = Runtime::get_or_init().and_then(|runtime| {
                runtime.unwind_abandoned();
                Ok((runtime, activation::start(runtime, thread, this)?))
            });
            match started {
                Ok((runtime, activation)) => {
                    (*this).activation = activation;
                    // Nobody reads what a function is begun with.
                    Self::run(this, runtime, thread, Incoming::Value(ptr::null_mut()))
                }
                // The coroutine stays as it was and can be awaited again.
                Err(error) => Outcome::Ended(errors::raise_no_stack(&error)),
            }
        }
    }

    #[inline]
    unsafe fn resume(this: *mut Self, thread: *mut PyThreadState, incoming: Incoming) -> Outcome {
        // SAFETY: the GIL is held and the coroutine is suspended.
        unsafe {
            let runtime = Runtime::get();
            match runtime {
                Some(runtime) if Activation::belongs_to((*this).activation, thread) => {
                    Self::run(this, runtime, thread, incoming)
                }
                _ => {
                    let (Incoming::Value(object) | Incoming::Exception(object)) = incoming;
                    ffi::Py_DECREF(object);
                    Outcome::Ended(errors::raise_wrong_thread(Self::qualname(this)))
                }
            }
        }
    }

    #[inline]
    unsafe fn run(
        this: *mut Self,
        runtime: &Runtime,
        thread: *mut PyThreadState,
        incoming: Incoming,
    ) -> Outcome {
        // SAFETY: the activation belongs to this thread and is not running.
        unsafe {
            (*this).state = State::Running;
            eager::note_resumer((*this).activation, thread);
            match Activation::resume((*this).activation, runtime, thread, incoming) {
                Outcome::Yielded(value) => {
                    (*this).state = State::Suspended;
                    Outcome::Yielded(value)
                }
                Outcome::Ended(result) => {
                    (*this).activation = ptr::null_mut();
                    Outcome::Ended(Self::finish(this, result))
                }
            }
        }
    }

    /// The function has ended with `result`, or with an exception if null.
    #[inline]
    unsafe fn finish(this: *mut Self, mut result: *mut PyObject) -> *mut PyObject {
        // SAFETY: the GIL is held; an exception is set if `result` is null.
        unsafe {
            (*this).state = State::Ended;
            if result.is_null() {
                errors::replace_stop_iteration(|| Self::qualname(this));
                // Releasing may run code that must not see the exception.
                let exception = errors::take();
                Self::release_call(this);
                errors::restore(exception);
            } else {
                if (*this).assert_await_occurs && !(*this).awaited {
                    ffi::Py_DECREF(result);
                    result = errors::raise_no_await_occurred();
                    return result;
                }
                Self::release_call(this);
            }
            result
        }
    }

    /// Runs the function of a coroutine that is awaited on `stack` right on
    /// that stack: there is nobody between the two who could see it suspend.
    unsafe fn run_on_this_stack(this: *mut Self, stack: *mut Activation) -> *mut PyObject {
        // SAFETY: the GIL is held; `stack` runs now, and `this` has not begun
        // and is held by the frame that awaits it.
        unsafe {
            (*this).state = State::Running;
            let outer = core::mem::replace(&mut (*stack).innermost, this);
            let result = Self::call_function(this);
            (*stack).innermost = outer;
            Self::finish(this, result)
        }
    }

    #[cold]
    unsafe fn refuse_step(this: *mut Self) -> *mut PyObject {
        // SAFETY: the GIL is held.
        unsafe {
            if (*this).state == State::Running {
                raise(ffi::PyExc_ValueError, c"coroutine already executing")
            } else {
                raise(ffi::PyExc_RuntimeError, c"cannot reuse already awaited coroutine")
            }
        }
    }

    /// Throws `exception` (a new reference, an exception instance) in.
    unsafe fn throw(this: *mut Self, exception: *mut PyObject) -> Outcome {
        // SAFETY: the GIL is held; `this` is held by the caller.
        unsafe {
            match (*this).state {
                State::Created => {
                    (*this).state = State::Ended;
                    Self::release_call(this);
                    errors::restore(exception);
                    errors::replace_stop_iteration(|| Self::qualname(this));
                    Outcome::Ended(ptr::null_mut())
                }
                State::Suspended => {
                    Self::resume(this, ffi::PyThreadState_Get(), Incoming::Exception(exception))
                }
                State::Running | State::Ended => {
                    ffi::Py_DECREF(exception);
                    Outcome::Ended(Self::refuse_step(this))
                }
            }
        }
    }

    /// Ends the coroutine as `coroutine.close` does. False with an exception
    /// set when it could not be ended, or ended with another exception.
    pub unsafe fn close(this: *mut Self) -> bool {
        // SAFETY: the GIL is held; `this` is held by the caller.
        unsafe {
            match (*this).state {
                State::Created => {
                    (*this).state = State::Ended;
                    Self::release_call(this);
                    true
                }
                State::Ended => true,
                State::Running => {
                    Self::refuse_step(this);
                    false
                }
                State::Suspended => {
                    let exit = ffi::PyObject_CallNoArgs(ffi::PyExc_GeneratorExit);
                    if exit.is_null() {
                        return false;
                    }
                    match Self::throw(this, exit) {
                        Outcome::Yielded(value) => {
                            ffi::Py_DECREF(value);
                            raise(ffi::PyExc_RuntimeError, c"coroutine ignored GeneratorExit");
                            false
                        }
                        Outcome::Ended(result) if !result.is_null() => {
                            ffi::Py_DECREF(result);
                            true
                        }
                        Outcome::Ended(_) => {
                            let expected = ffi::PyErr_ExceptionMatches(ffi::PyExc_GeneratorExit) != 0;
                            if expected {
                                ffi::PyErr_Clear();
                            }
                            expected
                        }
                    }
                }
            }
        }
    }

    // ---- being awaited -------------------------------------------------------

    /// What `await_(this)` returns on `stack`: nobody can see the function
    /// suspend there, so it runs on that stack.
    ///
    /// # Safety
    ///
    /// The GIL is held, `stack` runs now, `this` is held by the caller.
    #[inline]
    pub unsafe fn await_here(this: *mut Self, stack: *mut Activation) -> *mut PyObject {
        // SAFETY: as above.
        unsafe {
            match (*this).state {
                State::Created => Self::run_on_this_stack(this, stack),
                State::Suspended | State::Running => {
                    raise(ffi::PyExc_RuntimeError, c"coroutine is being awaited already")
                }
                State::Ended => Self::refuse_step(this),
            }
        }
    }

    // ---- looking at one ------------------------------------------------------

    /// The qualified name, borrowed; the function's as long as nobody set it.
    unsafe fn qualname(this: *mut Self) -> *mut PyObject {
        // SAFETY: the GIL is held.
        unsafe {
            if (*this).qualname.is_null() {
                Self::read_names(this);
            }
            (*this).qualname
        }
    }

    unsafe fn name(this: *mut Self) -> *mut PyObject {
        // SAFETY: the GIL is held.
        unsafe {
            if (*this).name.is_null() {
                Self::read_names(this);
            }
            (*this).name
        }
    }

    /// Reads the names that are still missing. Leaves no exception.
    #[cold]
    unsafe fn read_names(this: *mut Self) {
        // SAFETY: the GIL is held. While a name is missing, `function` is held.
        unsafe {
            let exception = errors::take();
            let (mut name, mut qualname) = (ptr::null_mut(), ptr::null_mut());
            let function = (*this).function;
            if thread_state::function_names(function, &raw mut name, &raw mut qualname) != 0 {
                ffi::Py_INCREF(name);
                ffi::Py_INCREF(qualname);
            } else {
                name = read_text(function, c"__name__");
                if name.is_null() {
                    let class = ffi::Py_TYPE(function).cast::<PyObject>();
                    name = read_text(class, c"__name__");
                }
                qualname = read_text(function, c"__qualname__");
                if qualname.is_null() {
                    qualname = ffi::Py_XNewRef(name);
                }
            }
            if (*this).name.is_null() {
                (*this).name = name;
            } else {
                ffi::Py_XDECREF(name);
            }
            if (*this).qualname.is_null() {
                (*this).qualname = qualname;
            } else {
                ffi::Py_XDECREF(qualname);
            }
            errors::restore(exception);
        }
    }

    /// Where it was made, as `sys.set_coroutine_origin_tracking_depth` asks.
    #[cold]
    unsafe fn record_origin(this: *mut Self) {
        // SAFETY: the GIL is held; `this` is new.
        unsafe {
            let depth = thread_state::origin_depth(ffi::PyThreadState_Get());
            (*this).origin = errors::call_stack(depth);
            if (*this).origin.is_null() {
                ffi::PyErr_Clear();
            }
        }
    }

    /// The innermost Python frame: while suspended, the line that waits, whose
    /// `f_back` walks the whole stack.
    unsafe fn frame(this: *mut Self) -> *mut PyObject {
        // SAFETY: the GIL is held.
        unsafe {
            let thread = ffi::PyThreadState_Get();
            let found = match (*this).state {
                State::Created => return thread_state::unstarted_frame(thread, (*this).function),
                State::Ended => ptr::null_mut(),
                State::Suspended => Activation::suspended_frame((*this).activation, thread),
                State::Running => Self::running_frame(this, thread),
            };
            if found.is_null() && ffi::PyErr_Occurred().is_null() {
                return ffi::Py_NewRef(ffi::Py_None());
            }
            found
        }
    }

    /// The innermost frame of a running function, or null: it runs on another
    /// thread, or shares the stack of the coroutine that awaits it.
    unsafe fn running_frame(this: *mut Self, thread: *mut PyThreadState) -> *mut PyObject {
        // SAFETY: the GIL is held; the chain of drivers is this thread's.
        unsafe {
            let Some(runtime) = Runtime::get() else {
                return ptr::null_mut();
            };
            let mut inner: *mut Activation = ptr::null_mut();
            let mut activation = runtime.current.get();
            while !activation.is_null() {
                if activation == (*this).activation {
                    return if inner.is_null() {
                        ffi::PyThreadState_GetFrame(thread).cast()
                    } else {
                        Activation::driving_frame(inner, thread)
                    };
                }
                inner = activation;
                activation = (*activation).driver;
            }
            ptr::null_mut()
        }
    }

    // ---- the end -----------------------------------------------------------------

    /// Nobody holds the coroutine any more, but its function waits: unwind it
    /// here, or on its own thread, or give it up and say so.
    #[cold]
    unsafe fn abandon(this: *mut Self) {
        // SAFETY: the GIL is held; `this` is alive for the time of the call.
        unsafe {
            let activation = (*this).activation;
            if !Activation::belongs_to(activation, ffi::PyThreadState_Get()) {
                // Kept alive for its thread, or for ever.
                ffi::Py_INCREF(this.cast());
                if !runtime::post_abandoned((*activation).runtime, this) {
                    Self::give_up(this, false);
                    errors::warn_leaked(
                        Self::qualname(this),
                        c"function '%V' was abandoned while it waited, and the thread it waited on has ended: its finally blocks can't run and its native stack is leaked. Let functions end, or close them, before their thread ends.",
                    );
                }
                return;
            }
            if Self::close(this) {
                return;
            }
            if (*this).state == State::Suspended {
                ffi::PyErr_Clear();
                ffi::Py_INCREF(this.cast());
                Self::give_up(this, true);
                errors::warn_leaked(
                    Self::qualname(this),
                    c"function '%V' was abandoned and waits again after GeneratorExit: its native stack is leaked. Let GeneratorExit pass, or await the function to its end.",
                );
            } else {
                ffi::PyErr_WriteUnraisable(this.cast());
            }
        }
    }

    unsafe fn give_up(this: *mut Self, same_thread: bool) {
        // SAFETY: suspended. The frames on the stack borrow function and
        // arguments from this object, which the caller has leaked.
        unsafe {
            Activation::leak((*this).activation, same_thread);
            (*this).activation = ptr::null_mut();
            (*this).state = State::Ended;
        }
    }
}

unsafe fn read_text(object: *mut PyObject, attribute: &core::ffi::CStr) -> *mut PyObject {
    // SAFETY: the GIL is held and `object` is live.
    unsafe {
        let text = ffi::PyObject_GetAttrString(object, attribute.as_ptr());
        if text.is_null() {
            ffi::PyErr_Clear();
        } else if ffi::PyUnicode_Check(text) == 0 {
            ffi::Py_DECREF(text);
            return ptr::null_mut();
        }
        text
    }
}

// ---- slots and methods ------------------------------------------------------

/// A step on behalf of an `await` statement, a task, or whoever else drives.
#[inline]
unsafe fn step(coroutine: *mut GreenCoroutine, value: *mut PyObject) -> Outcome {
    // SAFETY: the GIL is held and both objects are live.
    unsafe {
        if !(*coroutine).awaiter.is_null()
            && let Some(stack) = shared_stack(coroutine, value)
        {
            return Outcome::Ended(GreenCoroutine::run_on_this_stack(coroutine, stack));
        }
        GreenCoroutine::send(coroutine, value)
    }
}

unsafe extern "C" fn am_send(
    this: *mut PyObject,
    value: *mut PyObject,
    result: *mut *mut PyObject,
) -> PySendResult {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        match step(this.cast(), value) {
            Outcome::Yielded(value) => {
                *result = value;
                PySendResult::PYGEN_NEXT
            }
            Outcome::Ended(value) => {
                *result = value;
                if value.is_null() { PySendResult::PYGEN_ERROR } else { PySendResult::PYGEN_RETURN }
            }
        }
    }
}

/// `await` calls this, and then steps what it returns from the same frame.
unsafe extern "C" fn am_await(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        match (*coroutine).state {
            State::Created => {
                if let Some(runtime) = Runtime::get()
                    && !runtime.current.get().is_null()
                {
                    (*coroutine).awaiter = thread_state::current_coroutine(ffi::PyThreadState_Get());
                }
            }
            State::Ended => {}
            State::Suspended | State::Running => {
                return raise(ffi::PyExc_RuntimeError, c"coroutine is being awaited already");
            }
        }
        ffi::Py_NewRef(this)
    }
}

unsafe extern "C" fn tp_iternext(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        match step(this.cast(), ffi::Py_None()) {
            Outcome::Yielded(value) => value,
            Outcome::Ended(result) => {
                if result == ffi::Py_None() {
                    // The iterator protocol: an end without StopIteration is None.
                    ffi::Py_DECREF(result);
                } else if !result.is_null() {
                    errors::raise_stop_iteration(result);
                }
                ptr::null_mut()
            }
        }
    }
}

/// The running stack, if the function may run right on it.
///
/// That is so when the `await_` innermost on the stack drives a coroutine which
/// awaits this one by an `await` statement: then whatever this function yields
/// passes through that coroutine unseen, so it may as well suspend the whole
/// stack. A coroutine that steps this one by hand, or hands it to a task, did
/// not come by `am_await` from its own frame and gets a stack of its own.
unsafe fn shared_stack(coroutine: *mut GreenCoroutine, value: *mut PyObject) -> Option<*mut Activation> {
    // SAFETY: the GIL is held; the records of the running stack are in live frames.
    unsafe {
        let awaiter = core::mem::replace(&mut (*coroutine).awaiter, ptr::null_mut());
        if (*coroutine).state != State::Created || value != ffi::Py_None() {
            return None;
        }
        let stack = Runtime::get()?.current.get();
        let shared = !stack.is_null()
            && !(*stack).awaits.is_null()
            && (*(*stack).awaits).iterator == awaiter
            && thread_state::current_coroutine(ffi::PyThreadState_Get()) == awaiter;
        shared.then_some(stack)
    }
}

unsafe fn method_result(outcome: Outcome) -> *mut PyObject {
    match outcome {
        Outcome::Yielded(value) => value,
        Outcome::Ended(result) => {
            if !result.is_null() {
                // SAFETY: the GIL is held; the reference is given away.
                unsafe { errors::raise_stop_iteration(result) };
            }
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn method_send(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and live objects.
    unsafe { method_result(GreenCoroutine::send(this.cast(), value)) }
}

unsafe extern "C" fn method_throw(
    this: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and `nargs` live objects.
    unsafe {
        let exception = errors::exception_to_throw(args, nargs);
        if exception.is_null() {
            return ptr::null_mut();
        }
        method_result(GreenCoroutine::throw(this.cast(), exception))
    }
}

unsafe extern "C" fn method_close(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        if GreenCoroutine::close(this.cast()) {
            ffi::Py_NewRef(ffi::Py_None())
        } else {
            ptr::null_mut()
        }
    }
}

/// `__await__()` called by hand: as the slot, but it promises nothing about
/// who will step the result.
unsafe extern "C" fn method_await(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        let result = am_await(this);
        (*this.cast::<GreenCoroutine>()).awaiter = ptr::null_mut();
        result
    }
}

unsafe extern "C" fn tp_repr(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        let qualname = GreenCoroutine::qualname(this.cast());
        if qualname.is_null() {
            return ffi::PyUnicode_FromFormat(c"<green_coroutine object at %p>".as_ptr(), this);
        }
        ffi::PyUnicode_FromFormat(c"<green_coroutine object %U at %p>".as_ptr(), qualname, this)
    }
}

unsafe extern "C" fn tp_finalize(this: *mut PyObject) {
    // SAFETY: called by CPython with the GIL held and a live object. An
    // exception in flight is put aside, as finalizers must.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        match (*coroutine).state {
            State::Created => {
                let exception = errors::take();
                errors::warn_never_awaited(this, GreenCoroutine::qualname(coroutine));
                errors::restore(exception);
            }
            State::Suspended => {
                let exception = errors::take();
                GreenCoroutine::abandon(coroutine);
                errors::restore(exception);
            }
            State::Running | State::Ended => {}
        }
    }
}

unsafe extern "C" fn tp_traverse(
    this: *mut PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with the GIL held and a live object.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        macro_rules! visit {
            ($object:expr) => {
                let object: *mut PyObject = $object;
                if !object.is_null() {
                    let failed = visit(object, arg);
                    if failed != 0 {
                        return failed;
                    }
                }
            };
        }
        visit!(ffi::Py_TYPE(this).cast());
        visit!((*coroutine).function);
        visit!((*coroutine).keywords);
        visit!((*coroutine).name);
        visit!((*coroutine).qualname);
        visit!((*coroutine).origin);
        let named = if (*coroutine).keywords.is_null() {
            0
        } else {
            ffi::PyTuple_GET_SIZE((*coroutine).keywords) as usize
        };
        for index in 1..=(*coroutine).nargs as usize + named {
            visit!(*(*coroutine).args.add(index));
        }
        if (*coroutine).state == State::Suspended {
            return Activation::traverse((*coroutine).activation, visit, arg);
        }
        0
    }
}

unsafe extern "C" fn tp_clear(this: *mut PyObject) -> c_int {
    // SAFETY: called by the collector with the GIL held and a live object. A
    // running function's arguments are in use; a suspended one was ended by
    // the finalizer, which the collector calls first.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        if matches!((*coroutine).state, State::Created | State::Ended) {
            (*coroutine).state = State::Ended;
            GreenCoroutine::release_call(coroutine);
        }
        0
    }
}

unsafe extern "C" fn tp_dealloc(this: *mut PyObject) {
    // SAFETY: called by CPython with the GIL held, when no reference is left.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        ffi::PyObject_GC_UnTrack(this.cast());
        if !(*coroutine).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(this);
        }
        if (*coroutine).state != State::Ended {
            ffi::PyObject_GC_Track(this.cast());
            if ffi::PyObject_CallFinalizerFromDealloc(this) < 0 {
                return;
            }
            ffi::PyObject_GC_UnTrack(this.cast());
        }
        GreenCoroutine::release_call(coroutine);
        ffi::Py_XDECREF((*coroutine).function);
        ffi::Py_XDECREF((*coroutine).name);
        ffi::Py_XDECREF((*coroutine).qualname);
        ffi::Py_XDECREF((*coroutine).origin);
        let class = ffi::Py_TYPE(this);
        spare::free(coroutine);
        ffi::Py_DECREF(class.cast());
    }
}

/// A few freed objects, kept to be made again: an `async_def` that does not
/// wait then allocates nothing.
mod spare {
    use core::ptr;

    use pyo3::ffi::{self, PyObject};

    use super::GreenCoroutine;

    /// None in debug builds of `CPython`, which account for every block.
    const LIMIT: usize = if cfg!(py_sys_config = "Py_REF_DEBUG") { 0 } else { 64 };

    /// Chained through `function`.
    static mut FIRST: *mut GreenCoroutine = ptr::null_mut();
    static mut COUNT: usize = 0;

    #[inline]
    pub unsafe fn allocate(class: *mut ffi::PyTypeObject) -> *mut GreenCoroutine {
        // SAFETY: the GIL is held, which guards the chain. A spare object is
        // untracked, and its collector's header is as the allocator left it.
        unsafe {
            let first = FIRST;
            if first.is_null() {
                return ffi::PyObject_GC_New(class);
            }
            FIRST = (*first).function.cast();
            COUNT -= 1;
            ffi::PyObject_Init(first.cast(), class).cast()
        }
    }

    #[inline]
    pub unsafe fn free(this: *mut GreenCoroutine) {
        // SAFETY: the GIL is held; nothing refers to `this`, it is untracked
        // and its fields are released. One that the collector has finalized
        // keeps that mark, and is not used again.
        unsafe {
            if COUNT < LIMIT && ffi::PyObject_GC_IsFinalized(this.cast()) == 0 {
                (*this).function = FIRST.cast::<PyObject>();
                FIRST = this;
                COUNT += 1;
            } else {
                ffi::PyObject_GC_Del(this.cast());
            }
        }
    }
}

// ---- attributes ---------------------------------------------------------------

unsafe extern "C" fn get_running(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe { ffi::PyBool_FromLong(((*this.cast::<GreenCoroutine>()).state == State::Running).into()) }
}

unsafe extern "C" fn get_suspended(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { ffi::PyBool_FromLong(((*this.cast::<GreenCoroutine>()).state == State::Suspended).into()) }
}

unsafe extern "C" fn get_frame(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { GreenCoroutine::frame(this.cast()) }
}

/// The code of `cr_frame` while suspended, so that file and line belong
/// together wherever the two are read; the function's own code otherwise.
unsafe extern "C" fn get_code(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        if (*coroutine).state == State::Suspended {
            let thread = ffi::PyThreadState_Get();
            let frame = Activation::suspended_frame((*coroutine).activation, thread);
            if !frame.is_null() {
                let code = ffi::PyFrame_GetCode(frame.cast());
                ffi::Py_DECREF(frame);
                return code.cast();
            }
            if !ffi::PyErr_Occurred().is_null() {
                return ptr::null_mut();
            }
        }
        let function = (*coroutine).function;
        let code = if function.is_null() { ptr::null_mut() } else { thread_state::function_code(function) };
        ffi::Py_NewRef(if code.is_null() { ffi::Py_None() } else { code })
    }
}

unsafe extern "C" fn get_awaited(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        let mut awaited = ffi::Py_None();
        if (*coroutine).state == State::Suspended {
            let record = (*(*coroutine).activation).awaits;
            if !record.is_null() {
                awaited = (*record).iterator;
            }
        }
        ffi::Py_NewRef(awaited)
    }
}

unsafe extern "C" fn get_origin(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let origin = (*this.cast::<GreenCoroutine>()).origin;
        ffi::Py_NewRef(if origin.is_null() { ffi::Py_None() } else { origin })
    }
}

unsafe extern "C" fn get_name(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { text_or_empty(GreenCoroutine::name(this.cast())) }
}

unsafe extern "C" fn get_qualname(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { text_or_empty(GreenCoroutine::qualname(this.cast())) }
}

unsafe fn text_or_empty(text: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held.
    unsafe {
        if text.is_null() { ffi::PyUnicode_FromString(c"".as_ptr()) } else { ffi::Py_NewRef(text) }
    }
}

unsafe extern "C" fn set_name(this: *mut PyObject, value: *mut PyObject, _: *mut c_void) -> c_int {
    // SAFETY: as above; the missing name is read first, since the function may go.
    unsafe {
        GreenCoroutine::name(this.cast());
        set_text(&raw mut (*this.cast::<GreenCoroutine>()).name, value, c"__name__ must be set to a string object")
    }
}

unsafe extern "C" fn set_qualname(this: *mut PyObject, value: *mut PyObject, _: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe {
        GreenCoroutine::qualname(this.cast());
        set_text(&raw mut (*this.cast::<GreenCoroutine>()).qualname, value, c"__qualname__ must be set to a string object")
    }
}

unsafe fn set_text(field: *mut *mut PyObject, value: *mut PyObject, refusal: &core::ffi::CStr) -> c_int {
    // SAFETY: the GIL is held and `field` is a name of a live object.
    unsafe {
        if value.is_null() || ffi::PyUnicode_Check(value) == 0 {
            raise(ffi::PyExc_TypeError, refusal);
            return -1;
        }
        let old = core::mem::replace(&mut *field, ffi::Py_NewRef(value));
        ffi::Py_XDECREF(old);
        0
    }
}

// ---- the type -------------------------------------------------------------------

const DOC: &core::ffi::CStr = c"A synchronous function that can wait, as a coroutine.

Made by `async_def`. Await it, or give it to anything that takes a coroutine:
asyncio.create_task, asyncio.run, TaskGroup, trio.run, a nursery.

While it is suspended, `cr_frame` is the frame that waits, and its `f_back`
walks the function's whole stack; `cr_await` is what it waits for.";

struct Table<T>(T);
// SAFETY: the tables are written here and only read by CPython, under the GIL.
unsafe impl<T> Sync for Table<T> {}

const fn method(
    name: &'static core::ffi::CStr,
    pointer: ffi::PyMethodDefPointer,
    flags: c_int,
    doc: &'static core::ffi::CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef { ml_name: name.as_ptr(), ml_meth: pointer, ml_flags: flags, ml_doc: doc.as_ptr() }
}

const fn attribute(
    name: &'static core::ffi::CStr,
    get: ffi::getter,
    set: Option<ffi::setter>,
    doc: &'static core::ffi::CStr,
) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef { name: name.as_ptr(), get: Some(get), set, doc: doc.as_ptr(), closure: ptr::null_mut() }
}

static METHODS: Table<[ffi::PyMethodDef; 6]> = Table([
    method(c"send", ffi::PyMethodDefPointer { PyCFunction: method_send }, ffi::METH_O,
        c"send(value, /)\n--\n\nResume with value; return what it yields next or raise StopIteration."),
    method(c"throw", ffi::PyMethodDefPointer { PyCFunctionFast: method_throw }, ffi::METH_FASTCALL,
        c"throw(value, /)\nthrow(type, value=None, traceback=None, /)\n\nRaise an exception where it waits; return what it yields next or raise StopIteration."),
    method(c"close", ffi::PyMethodDefPointer { PyCFunction: method_close }, ffi::METH_NOARGS,
        c"close()\n--\n\nRaise GeneratorExit where it waits, and let it end."),
    method(c"__await__", ffi::PyMethodDefPointer { PyCFunction: method_await }, ffi::METH_NOARGS,
        c"__await__()\n--\n\nReturn an iterator to be used in an await expression."),
    method(c"__class_getitem__", ffi::PyMethodDefPointer { PyCFunction: ffi::Py_GenericAlias },
        ffi::METH_O | ffi::METH_CLASS, c"GreenCoroutine[T] for annotations."),
    ffi::PyMethodDef::zeroed(),
]);

static ATTRIBUTES: Table<[ffi::PyGetSetDef; 9]> = Table([
    attribute(c"__name__", get_name, Some(set_name), c"The function's name."),
    attribute(c"__qualname__", get_qualname, Some(set_qualname), c"The function's qualified name."),
    attribute(c"cr_await", get_awaited, None, c"What it waits for, or None."),
    attribute(c"cr_code", get_code, None, c"The code of cr_frame."),
    attribute(c"cr_frame", get_frame, None, c"The innermost frame, or None when it has ended."),
    attribute(c"cr_origin", get_origin, None, c"Where it was made, if that is tracked."),
    attribute(c"cr_running", get_running, None, c"Whether it runs now."),
    attribute(c"cr_suspended", get_suspended, None, c"Whether it waits now."),
    // SAFETY: all fields of a sentinel are null.
    unsafe { core::mem::zeroed() },
]);

static MEMBERS: Table<[ffi::PyMemberDef; 2]> = Table([
    ffi::PyMemberDef {
        name: c"__weaklistoffset__".as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset_of!(GreenCoroutine, weak_references) as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null::<c_char>(),
    },
    // SAFETY: all fields of a sentinel are null.
    unsafe { core::mem::zeroed() },
]);

/// Makes the type. Called once, when the module is made.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn make_type() -> *mut PyObject {
    let mut slots = [
        ffi::PyType_Slot { slot: ffi::Py_tp_doc, pfunc: DOC.as_ptr() as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_am_send, pfunc: am_send as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_am_await, pfunc: am_await as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_iternext, pfunc: tp_iternext as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_repr, pfunc: tp_repr as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_finalize, pfunc: tp_finalize as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_traverse, pfunc: tp_traverse as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_clear, pfunc: tp_clear as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_dealloc, pfunc: tp_dealloc as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_methods, pfunc: METHODS.0.as_ptr() as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_getset, pfunc: ATTRIBUTES.0.as_ptr() as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_members, pfunc: MEMBERS.0.as_ptr() as *mut c_void },
        ffi::PyType_Slot { slot: 0, pfunc: ptr::null_mut() },
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"verdigris.GreenCoroutine".as_ptr(),
        basicsize: size_of::<GreenCoroutine>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT
            | ffi::Py_TPFLAGS_HAVE_GC
            | ffi::Py_TPFLAGS_IMMUTABLETYPE
            | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION) as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec and its tables are complete; the tables are static, and
    // the GIL is held, so nobody reads TYPE meanwhile.
    unsafe {
        let class = ffi::PyType_FromSpec(&raw mut spec);
        TYPE = class.cast();
        class
    }
}
