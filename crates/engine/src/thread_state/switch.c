/* Saving and restoring the thread state around a switch: see switch.h. */
#include "switch.h"
#include "tools.h"

#if PY_VERSION_HEX < 0x030c0000
#  define TRASH_NESTING(ts) ((ts)->trash_delete_nesting)
#elif PY_VERSION_HEX < 0x030d0000
#  define TRASH_NESTING(ts) ((ts)->trash.delete_nesting)
#endif

#if PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030e0000
#  ifdef Py_C_RECURSION_LIMIT
#    define FRESH_C_RECURSION Py_C_RECURSION_LIMIT
#  else
#    define FRESH_C_RECURSION C_RECURSION_LIMIT
#  endif
#endif

#if PY_VERSION_HEX >= 0x030e0000
#  define IMPL(ts) ((_PyThreadStateImpl *)(ts))
#endif

/* The code object of base frames up to 3.13. */
static PyObject *base_code;

int vg_check_interpreter(void); /* shared.c */

/* Checks what the offsets in this build promise against the running
 * interpreter, once, at import. Returns 0, or -1 with ImportError set. */
int vg_init(void)
{
    if (vg_check_interpreter() < 0) {
        return -1;
    }
    base_code = (PyObject *)PyCode_NewEmpty("<verdigris>", "async_def", 0);
    if (base_code == NULL) {
        return -1;
    }
#if PY_VERSION_HEX >= 0x030e0000
    /* The bounds of this thread's stack must enclose this very frame. */
    _PyThreadStateImpl *impl = IMPL(PyThreadState_Get());
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (!(impl->c_stack_hard_limit < impl->c_stack_soft_limit &&
          impl->c_stack_soft_limit < here && here <= impl->c_stack_top)) {
        PyErr_Format(PyExc_ImportError,
                     "verdigris was built for CPython %s, whose thread state differs "
                     "from that of the running %s; rebuild it for this interpreter",
                     PY_VERSION, Py_GetVersion());
        return -1;
    }
#endif
    return 0;
}

uint64_t vg_thread_id(PyThreadState *ts)
{
    return ts->id;
}

/* Whether the thread state with this id still exists. Asked with the GIL held,
 * without which no thread state goes away. */
int vg_thread_lives(uint64_t id)
{
    PyThreadState *ts = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    while (ts != NULL && ts->id != id) {
        ts = PyThreadState_Next(ts);
    }
    return ts != NULL;
}

/* Whether f_back goes on from a stack into its driver's frames. */
int vg_frames_are_linked = 1;

/* From 3.12 on greenlet rewrites the links of all frames below a greenlet that it
 * leaves, so that they can be looked at. It would follow ours into the frames of
 * the event loop, which go on running. So with greenlet loaded there are none. */
void vg_stop_linking_frames(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    vg_frames_are_linked = 0;
#endif
}

/* The same for a stack that runs. */
void vg_unlink_frames(vg_stack *s)
{
    if (!vg_frames_are_linked) {
        s->base_frame.previous = NULL;
    }
}

/* Whether a stack that waits can be entered and unwound here, and call what its `finally` blocks
 * call: at the recursion limit it can't. */
int vg_has_room(PyThreadState *ts, vg_stack *s)
{
    return VG_RECURSION_REMAINING(ts) - s->depth > 100;
}

/* The stack will never be resumed: trace functions that are open on it never
 * return. */
void vg_give_up(PyThreadState *ts, vg_stack *s)
{
    ts->tracing -= s->tracing;
}

/* Whether the code that runs now is inside an except block on its own stack or
 * in its own generator: what a thrown exception is chained to. */
int vg_is_handling(PyThreadState *ts)
{
    PyObject *handled = ts->exc_info->exc_value;
    return handled != NULL && handled != Py_None;
}

int vg_origin_depth(PyThreadState *ts)
{
    return ts->coroutine_origin_tracking_depth;
}

/* The part of a stack's state that a suspension changes, as it is at the start. */
static void reset(vg_stack *s)
{
    _PyStackChunk *root = s->datastack_root;
    s->left = 0;
    s->datastack_chunk = root;
    s->datastack_top = &root->data[1];
    s->datastack_limit = (PyObject **)((char *)root + root->size);
    s->exc_top = &s->exc_bottom;
    s->context_outermost = NULL;
    Py_CLEAR(s->context);
    Py_CLEAR(s->context_of_greenlet);
    s->depth = 1; /* the stack itself counts: nesting without end must end */
    s->generators_marked = 0;
    s->tracing = 0;
    if (s->calls != NULL) {
        vg_forget_calls(s);
    }
#if PY_VERSION_HEX < 0x030d0000
    s->base_cframe.current_frame = &s->base_frame;
    s->cframe = &s->base_cframe;
    s->trash_nesting = 0;
#else
    s->current_frame = &s->base_frame;
#endif
#if PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030e0000
    s->c_recursion_remaining = FRESH_C_RECURSION;
#endif
#if PY_VERSION_HEX >= 0x030d0000 && PY_VERSION_HEX < 0x030e0000
    s->previous_executor = NULL;
#endif
#if PY_VERSION_HEX >= 0x030e0000
    Py_CLEAR(s->current_executor);
#endif
#if PY_VERSION_HEX >= 0x030f0000
    s->jit_exit = NULL;
#endif
}

/* The frame below the first one. */
void vg_make_base_frame(vg_stack *s)
{
    struct _PyInterpreterFrame *base = &s->base_frame;
    base->previous = NULL;
    base->frame_obj = NULL;
    base->f_globals = NULL;
    base->f_builtins = NULL;
    base->f_locals = NULL;
#if PY_VERSION_HEX < 0x030c0000
    base->f_func = NULL;
    base->f_code = (PyCodeObject *)base_code;
    base->prev_instr = _PyCode_CODE(base->f_code) - 1; /* "incomplete" */
    base->stacktop = 0;
    base->is_entry = false;
    base->owner = FRAME_OWNED_BY_THREAD;
#elif PY_VERSION_HEX < 0x030d0000
    base->f_funcobj = NULL;
    base->f_code = (PyCodeObject *)base_code;
    base->prev_instr = _PyCode_CODE(base->f_code) - 1; /* "incomplete" */
    base->stacktop = 0;
    base->return_offset = 0;
    base->owner = FRAME_OWNED_BY_THREAD;
#elif PY_VERSION_HEX < 0x030e0000
    /* Not FRAME_OWNED_BY_CSTACK: the eval loop's own entry frame comes next, and
     * faulthandler crashes on two such frames in a row. */
    base->f_funcobj = NULL;
    base->f_executable = base_code;
    base->instr_ptr = _PyCode_CODE((PyCodeObject *)base_code) - 1; /* "incomplete" */
    base->stacktop = 0;
    base->return_offset = 0;
    base->owner = FRAME_OWNED_BY_THREAD;
#else
    base->f_funcobj = PyStackRef_NULL;
    base->f_executable = PyStackRef_None;
    base->instr_ptr = NULL;
    base->stackpointer = base->localsplus;
    base->return_offset = 0;
    base->owner = FRAME_OWNED_BY_INTERPRETER;
    base->visited = 0;
#endif
}

/* Makes the state of a stack, if its memory holds none yet. `chunk` is the memory
 * of its root data-stack chunk; `low` and `top` are the bounds of its C stack. */
void vg_make(vg_stack *s, void *chunk, size_t chunk_size, uintptr_t low, uintptr_t top)
{
    if (s->ready == VG_READY) {
        return;
    }
    _PyStackChunk *root = chunk;
    root->previous = NULL;
    root->size = chunk_size;
    root->top = 0;
    s->datastack_root = root;
    s->exc_bottom.exc_value = NULL;
    s->exc_bottom.previous_item = NULL;
    s->context = NULL;
    s->context_of_greenlet = NULL;
    s->calls = NULL;

    vg_make_base_frame(s);
#if PY_VERSION_HEX < 0x030d0000
    s->base_cframe.previous = NULL;
#endif
#if PY_VERSION_HEX >= 0x030e0000
    s->c_stack_top = top;
    s->c_stack_hard_limit = low + _PyOS_STACK_MARGIN_BYTES;
    s->c_stack_soft_limit = low + 2 * _PyOS_STACK_MARGIN_BYTES;
    s->current_executor = NULL;
#else
    (void)low;
    (void)top;
#endif
    reset(s);
    s->ready = VG_READY;
}

/* Readies a stack to begin. */
void vg_begin(PyThreadState *ts, vg_stack *s)
{
#if PY_VERSION_HEX >= 0x030c0000
    s->instrumentation = vg_instrumentation(ts); /* no frames yet, so up to date */
#else
    (void)ts;
    (void)s;
#endif
}

/* A Context.run is open on the stack: put its contexts back on top of what is
 * the driver's context now, which need not be what it was. That one's reference
 * is handed out to be dropped. */
PyContext *__attribute__((noinline))
vg_enter_open_context(PyThreadState *ts, vg_stack *s)
{
    PyContext *before = s->context_outermost->ctx_prev;
    s->context_outermost->ctx_prev = (PyContext *)ts->context;
    ts->context = s->context;
    ts->context_ver++;
    s->context = NULL;
    s->context_outermost = NULL;
    return before;
}

/* The outermost context that was entered on top of the driver's, or NULL: the
 * thread's context is not on top of that one. */
PyContext *vg_outermost_open_context(PyThreadState *ts, PyObject *driver_context)
{
    PyContext *outermost = (PyContext *)ts->context;
    while (outermost != NULL && (PyObject *)outermost->ctx_prev != driver_context) {
        outermost = outermost->ctx_prev;
    }
    return outermost;
}

static void __attribute__((noinline))
leave_changed_context(PyThreadState *ts, vg_stack *s, const vg_driver *d)
{
    PyContext *outermost = vg_outermost_open_context(ts, d->context);
    if (outermost == NULL) {
        s->context_of_greenlet = ts->context;
    }
    else {
        s->context = ts->context;
        s->context_outermost = outermost;
    }
    ts->context = d->context;
    ts->context_ver++;
}

/* Made by hand, as the first ContextVar.set would: then a context that differs
 * later can only mean an open Context.run. */
void __attribute__((noinline)) vg_make_context(PyThreadState *ts)
{
    ts->context = PyContext_New();
    if (ts->context == NULL) {
        PyErr_Clear();
    }
    ts->context_ver++;
}

/* Whether there is a tracer or a profiler; from 3.12 on, whether there ever was one. */
static inline int was_instrumented(PyThreadState *ts)
{
#if PY_VERSION_HEX >= 0x030c0000
    return vg_instrumentation(ts) != 0;
#else
    return ts->cframe->use_tracing;
#endif
}

static void __attribute__((noinline)) enter_instrumented(PyThreadState *ts, vg_stack *s)
{
#if PY_VERSION_HEX >= 0x030c0000
    if (s->instrumentation != vg_instrumentation(ts)) {
        vg_refresh_instrumentation(ts, s);
    }
#endif
    vg_tools_enter(ts, s);
}

void vg_enter(PyThreadState *ts, vg_stack *s, vg_driver *d)
{
    if (s->generators_marked) {
        vg_unmark_generators(s);
    }
    if (was_instrumented(ts)) {
        enter_instrumented(ts, s);
    }
    if (ts->context == NULL) {
        vg_make_context(ts);
    }
    /* Up to here code of others may have run (a collection). From here on none
     * does until all is switched. */
    PyObject *dropped = NULL;
    d->context = Py_XNewRef(ts->context);
    if (s->context_outermost != NULL) {
        dropped = (PyObject *)vg_enter_open_context(ts, s);
    }
    else if (s->context_of_greenlet != NULL) {
        dropped = ts->context; /* one of two: nothing ends yet */
        ts->context = s->context_of_greenlet;
        ts->context_ver++;
        s->context_of_greenlet = NULL;
    }

    d->exc_info = ts->exc_info;
    s->exc_bottom.previous_item = ts->exc_info;
    ts->exc_info = s->exc_top;

    d->datastack_chunk = ts->datastack_chunk;
    d->datastack_top = ts->datastack_top;
    d->datastack_limit = ts->datastack_limit;
    ts->datastack_chunk = s->datastack_chunk;
    ts->datastack_top = s->datastack_top;
    ts->datastack_limit = s->datastack_limit;

    /* Depths, not remainders: sys.setrecursionlimit may be called meanwhile. */
    d->depth = VG_RECURSION_LIMIT(ts) - VG_RECURSION_REMAINING(ts);
    VG_RECURSION_REMAINING(ts) -= s->depth;
    d->tracing = ts->tracing;

    if (vg_frames_are_linked) {
        s->base_frame.previous = VG_CURRENT_FRAME(ts);
    }
#if PY_VERSION_HEX < 0x030d0000
    d->cframe = ts->cframe;
    ts->cframe = s->cframe;
    d->trash_nesting = TRASH_NESTING(ts);
    TRASH_NESTING(ts) = s->trash_nesting;
#else
    d->current_frame = ts->current_frame;
    ts->current_frame = s->current_frame;
#endif
#if PY_VERSION_HEX < 0x030c0000
    vg_refresh_use_tracing(ts);
#endif
#if PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030e0000
    d->c_recursion_remaining = ts->c_recursion_remaining;
    ts->c_recursion_remaining = s->c_recursion_remaining;
#endif
#if PY_VERSION_HEX >= 0x030d0000 && PY_VERSION_HEX < 0x030e0000
    d->previous_executor = ts->previous_executor;
    ts->previous_executor = s->previous_executor;
#endif
#if PY_VERSION_HEX >= 0x030e0000
    _PyThreadStateImpl *impl = IMPL(ts);
    d->c_stack_top = impl->c_stack_top;
    d->c_stack_soft_limit = impl->c_stack_soft_limit;
    d->c_stack_hard_limit = impl->c_stack_hard_limit;
    impl->c_stack_top = s->c_stack_top;
    impl->c_stack_soft_limit = s->c_stack_soft_limit;
    impl->c_stack_hard_limit = s->c_stack_hard_limit;
    d->current_executor = ts->current_executor;
    /* Still held, until the next suspension: the trace that is being returned
     * into may have been invalidated while the stack was away. */
    ts->current_executor = s->current_executor;
#endif
#if PY_VERSION_HEX >= 0x030f0000
    d->jit_exit = ts->jit_exit;
    ts->jit_exit = s->jit_exit;
#endif
    Py_XDECREF(dropped);
}

/* What both ways back to the driver have in common. */
static inline void give_back(PyThreadState *ts, vg_stack *s, const vg_driver *d)
{
    s->exc_bottom.previous_item = NULL;
    ts->exc_info = d->exc_info;
    ts->datastack_chunk = d->datastack_chunk;
    ts->datastack_top = d->datastack_top;
    ts->datastack_limit = d->datastack_limit;
    VG_RECURSION_REMAINING(ts) = VG_RECURSION_LIMIT(ts) - d->depth;
#if PY_VERSION_HEX < 0x030d0000
    ts->cframe = d->cframe;
    TRASH_NESTING(ts) = d->trash_nesting;
#else
    ts->current_frame = d->current_frame;
#endif
    s->base_frame.previous = NULL;
#if PY_VERSION_HEX < 0x030c0000
    vg_refresh_use_tracing(ts);
#endif
#if PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030e0000
    ts->c_recursion_remaining = d->c_recursion_remaining;
#endif
#if PY_VERSION_HEX >= 0x030d0000 && PY_VERSION_HEX < 0x030e0000
    ts->previous_executor = d->previous_executor;
#endif
#if PY_VERSION_HEX >= 0x030e0000
    _PyThreadStateImpl *impl = IMPL(ts);
    impl->c_stack_top = d->c_stack_top;
    impl->c_stack_soft_limit = d->c_stack_soft_limit;
    impl->c_stack_hard_limit = d->c_stack_hard_limit;
    ts->current_executor = d->current_executor;
#endif
#if PY_VERSION_HEX >= 0x030f0000
    ts->jit_exit = d->jit_exit;
#endif
}

/* The function waits: back to the driver, keeping what is the stack's. */
void vg_leave(PyThreadState *ts, vg_stack *s, const vg_driver *d)
{
    s->left = 1;
    s->exc_top = ts->exc_info;
    if (ts->context != d->context) {
        leave_changed_context(ts, s, d);
    }
    else {
        Py_XDECREF(d->context); /* the thread state has another reference */
    }
    s->datastack_chunk = ts->datastack_chunk;
    s->datastack_top = ts->datastack_top;
    s->datastack_limit = ts->datastack_limit;
    s->depth = VG_RECURSION_LIMIT(ts) - VG_RECURSION_REMAINING(ts) - d->depth;
    s->tracing += ts->tracing - d->tracing;
#if PY_VERSION_HEX < 0x030d0000
    s->cframe = ts->cframe;
    s->trash_nesting = TRASH_NESTING(ts);
#else
    s->current_frame = ts->current_frame;
#endif
#if PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030e0000
    s->c_recursion_remaining = ts->c_recursion_remaining;
#endif
#if PY_VERSION_HEX >= 0x030c0000
    s->instrumentation = vg_instrumentation(ts);
#endif
#if PY_VERSION_HEX >= 0x030d0000 && PY_VERSION_HEX < 0x030e0000
    s->previous_executor = ts->previous_executor;
#endif
#if PY_VERSION_HEX >= 0x030e0000
    Py_XSETREF(s->current_executor, Py_XNewRef(ts->current_executor));
#endif
#if PY_VERSION_HEX >= 0x030f0000
    s->jit_exit = ts->jit_exit;
#endif
    give_back(ts, s, d);
    if (was_instrumented(ts)) {
        vg_tools_leave(ts, s);
    }
}

/* The function has ended: back to the driver, and the stack is as it was made. */
void vg_end(PyThreadState *ts, vg_stack *s, const vg_driver *d)
{
#ifdef Py_DEBUG
    /* Every frame popped, every except block left, every call counted out. */
    assert(ts->exc_info == &s->exc_bottom);
    assert(ts->datastack_chunk == s->datastack_root);
    assert(ts->datastack_top == &s->datastack_root->data[1]);
    /* Not the depth: greenlet restores what it was when a greenlet was left. */
    assert(VG_CURRENT_FRAME(ts) == &s->base_frame);
    assert(s->tracing + ts->tracing - d->tracing == 0);
#endif
    if (ts->context != d->context) {
        leave_changed_context(ts, s, d); /* C code left a Context.run open */
        s->left = 1;
    }
    else {
        Py_XDECREF(d->context);
    }
    give_back(ts, s, d);
    /* Leaving an except block restores "nothing is handled" as None, counted. */
    Py_CLEAR(s->exc_bottom.exc_value);
    if (s->left) {
        reset(s);
    }
}
