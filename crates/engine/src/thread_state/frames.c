/* Questions about frames and generators that only CPython's internal headers
 * answer: which references a suspended stack owns (for the garbage collector),
 * what its innermost frame is, and what state a coroutine is in. */
#include "switch.h"
#include "tools.h"
#include "wait.h"
#include <frameobject.h>

#if PY_VERSION_HEX >= 0x030e0000
typedef struct _PyGenObject vg_generator;
#else
typedef PyGenObject vg_generator;
#endif

#if PY_VERSION_HEX < 0x030d0000
#  define SUSPENDED_TOP(s) ((s)->cframe->current_frame)
#else
#  define SUSPENDED_TOP(s) ((s)->current_frame)
#endif

typedef struct _PyInterpreterFrame frame;

/* What Rust looks at too often to call for it. */
const vg_layout vg_layouts = {
    .coroutine_state = offsetof(vg_generator, gi_frame_state),
#if PY_VERSION_HEX >= 0x030f0000
    .first_suspended = FRAME_SUSPENDED,
    .last_suspended = FRAME_SUSPENDED_YIELD_FROM_LOCKED,
#elif PY_VERSION_HEX >= 0x030d0000
    .first_suspended = FRAME_SUSPENDED,
    .last_suspended = FRAME_SUSPENDED_YIELD_FROM,
#else
    .first_suspended = FRAME_SUSPENDED,
    .last_suspended = FRAME_SUSPENDED,
#endif
    .function_closure = offsetof(PyFunctionObject, func_closure),
    .function_defaults = offsetof(PyFunctionObject, func_defaults),
    .function_kwdefaults = offsetof(PyFunctionObject, func_kwdefaults),
    .exception_bottom = offsetof(PyThreadState, exc_state.exc_value),
};

int vg_is_iterable_coroutine(PyObject *op)
{
    if (!PyGen_CheckExact(op)) {
        return 0;
    }
#if PY_VERSION_HEX < 0x030c0000
    int flags = ((PyGenObject *)op)->gi_code->co_flags;
#else
    PyCodeObject *code = PyGen_GetCode((PyGenObject *)op);
    int flags = code->co_flags;
    Py_DECREF(code);
#endif
    return (flags & CO_ITERABLE_COROUTINE) != 0;
}

/* Borrowed references to a function's name and qualified name, or 0. */
int vg_function_names(PyObject *fn, PyObject **name, PyObject **qualname)
{
    if (PyMethod_Check(fn)) {
        fn = PyMethod_GET_FUNCTION(fn);
    }
    if (!PyFunction_Check(fn)) {
        return 0;
    }
    *name = ((PyFunctionObject *)fn)->func_name;
    *qualname = ((PyFunctionObject *)fn)->func_qualname;
    return 1;
}

/* Borrowed code of a Python function or bound method, or NULL. */
PyObject *vg_function_code(PyObject *fn)
{
    if (PyMethod_Check(fn)) {
        fn = PyMethod_GET_FUNCTION(fn);
    }
    return PyFunction_Check(fn) ? PyFunction_GET_CODE(fn) : NULL;
}

/* A frame object for a function that has not begun, as a fresh coroutine has. */
PyObject *vg_unstarted_frame(PyThreadState *ts, PyObject *fn)
{
    PyObject *code = vg_function_code(fn);
    if (code == NULL) {
        Py_RETURN_NONE;
    }
    if (PyMethod_Check(fn)) {
        fn = PyMethod_GET_FUNCTION(fn);
    }
    return (PyObject *)PyFrame_New(ts, (PyCodeObject *)code, PyFunction_GET_GLOBALS(fn), NULL);
}

/* The frame object (new reference) of the innermost Python frame at or below
 * `top`, or NULL without an exception. CPython has public access to the frame
 * object of the thread's current frame only, so `top` is that for a moment;
 * what the allocation may run (a collection) starts and ends above it. */
PyObject *vg_frame_object(PyThreadState *ts, frame *top)
{
    frame *real = VG_CURRENT_FRAME(ts);
    VG_CURRENT_FRAME(ts) = top;
    PyObject *found = (PyObject *)PyThreadState_GetFrame(ts);
    VG_CURRENT_FRAME(ts) = real;
    return found;
}

PyObject *vg_suspended_frame(PyThreadState *ts, vg_stack *s)
{
    return vg_frame_object(ts, SUSPENDED_TOP(s));
}

/* The frames of a suspended stack that are Python's, innermost first; NULL ends them. */
static frame *python_frame(vg_stack *s, frame *f)
{
    while (f != NULL && f != &s->base_frame) {
#if PY_VERSION_HEX >= 0x030e0000
        if (f->owner < FRAME_OWNED_BY_INTERPRETER) {
            return f;
        }
#elif PY_VERSION_HEX >= 0x030c0000
        if (f->owner != FRAME_OWNED_BY_CSTACK) {
            return f;
        }
#else
        return f;
#endif
        f = f->previous;
    }
    return NULL;
}

frame *vg_innermost_frame(vg_stack *s)
{
    return python_frame(s, SUSPENDED_TOP(s));
}

frame *vg_next_frame(vg_stack *s, frame *f)
{
    return python_frame(s, f->previous);
}

/* The innermost frame of a stack that is driving another one, `inner`. */
PyObject *vg_driving_frame(PyThreadState *ts, vg_stack *inner)
{
    return vg_frame_object(ts, inner->base_frame.previous);
}

/* ---- garbage collection ------------------------------------------------ */

typedef struct {
    visitproc visit;
    void *arg;
    const vg_wait *wait; /* the innermost whose frame is still to come */
} visitor;

#define VISIT(op)                                                                  \
    do {                                                                           \
        PyObject *visited = (PyObject *)(op);                                      \
        if (visited != NULL) {                                                     \
            int failed = v->visit(visited, v->arg);                                \
            if (failed) return failed;                                             \
        }                                                                          \
    } while (0)

static PyObject *generator_of(frame *f)
{
    return (PyObject *)((char *)f - offsetof(vg_generator, gi_iframe));
}

#if PY_VERSION_HEX >= 0x030e0000

/* From 3.14 on a frame stores its stack pointer around every call, so all of it
 * is known. A generator's frame is visited by the generator. */
static int visit_frame(frame *f, visitor *v)
{
    if (f->owner != FRAME_OWNED_BY_THREAD || f->stackpointer == NULL) {
        return 0;
    }
    VISIT(f->frame_obj);
    VISIT(f->f_locals);
#define VISIT_SLOT(ref)                                                            \
    do {                                                                           \
        _PyStackRef slot_ref = (ref); /* may be borrowed, or a tagged integer */   \
        if (!PyStackRef_IsNullOrInt(slot_ref) &&                                   \
            PyStackRef_RefcountOnObject(slot_ref)) {                               \
            VISIT(PyStackRef_AsPyObjectBorrow(slot_ref));                          \
        }                                                                          \
    } while (0)
    VISIT_SLOT(f->f_funcobj);
    VISIT_SLOT(f->f_executable);
    for (_PyStackRef *slot = f->localsplus; slot < f->stackpointer; slot++) {
        VISIT_SLOT(*slot);
    }
    return 0;
}

#else

/* Where the part of an evaluation stack ends that surely holds references.
 *
 * Up to 3.13 a frame stores its stack pointer when it calls a Python function,
 * but not when it calls C. If that C is a wait of ours, then either the
 * arguments of `await_` lie on top of the stack, or what is awaited lies there;
 * the lowest slot with it is then at or below the top. In any other case only
 * the locals count. Visiting less than is owned keeps garbage alive; visiting
 * more would free what lives. */
static PyObject **end_of_stack(frame *f, PyCodeObject *code, visitor *v)
{
    PyObject **stack = f->localsplus + code->co_nlocalsplus;
    const vg_wait *wait = v->wait;
    if (f->stacktop >= code->co_nlocalsplus) {
        return f->localsplus + f->stacktop;
    }
    if (wait == NULL) {
        return stack;
    }
    PyObject **limit = stack + code->co_stacksize;
    if (wait->args != NULL) {
        PyObject **argument = (PyObject **)wait->args;
        if (argument < stack || argument >= limit) {
            return stack;
        }
        v->wait = wait->outer;
        return argument + 1;
    }
    if (f->owner != FRAME_OWNED_BY_GENERATOR || generator_of(f) != wait->awaiter) {
        return stack;
    }
    v->wait = wait->outer;
    for (PyObject **slot = stack; slot < limit; slot++) {
        if (*slot == wait->awaited) {
            return slot + 1;
        }
    }
    return stack;
}

static int visit_frame(frame *f, visitor *v)
{
#if PY_VERSION_HEX >= 0x030c0000
    if (f->owner == FRAME_OWNED_BY_CSTACK) {
        return 0;
    }
#endif
#if PY_VERSION_HEX >= 0x030d0000
    PyCodeObject *code = (PyCodeObject *)f->f_executable;
    PyObject *function = f->f_funcobj;
#elif PY_VERSION_HEX >= 0x030c0000
    PyCodeObject *code = f->f_code;
    PyObject *function = f->f_funcobj;
#else
    PyCodeObject *code = f->f_code;
    PyObject *function = (PyObject *)f->f_func;
#endif
    int stored = f->stacktop >= 0;
    PyObject **end = end_of_stack(f, code, v);
    if (f->owner == FRAME_OWNED_BY_GENERATOR) {
        /* The generator visits its frame, but for what it has no stack pointer to. */
        if (stored) {
            return 0;
        }
    }
    else {
        VISIT(f->frame_obj);
        VISIT(f->f_locals);
        VISIT(function);
        VISIT(code);
    }
    for (PyObject **slot = f->localsplus; slot < end; slot++) {
        VISIT(*slot);
    }
    return 0;
}

#endif

/* A generator that runs on the suspended stack may be garbage together with it.
 * Unwinding the stack ends it; its own finalizer would only find it "already
 * executing" and complain. So it is marked as finalized, until the stack is
 * resumed (vg_unmark_generators). */
static void mark_generator(frame *f, vg_stack *s)
{
    PyObject *generator = generator_of(f);
    if (!PyObject_GC_IsFinalized(generator)) {
        _PyGC_SET_FINALIZED(generator);
        s->generators_marked = 1;
    }
}

void vg_unmark_generators(vg_stack *s)
{
    s->generators_marked = 0;
    for (frame *f = SUSPENDED_TOP(s); f != NULL && f != &s->base_frame; f = f->previous) {
        if (f->owner == FRAME_OWNED_BY_GENERATOR) {
            PyGC_Head *head = _Py_AS_GC(generator_of(f));
            head->_gc_prev &= ~(uintptr_t)_PyGC_PREV_MASK_FINALIZED;
        }
    }
}

/* Visits what a suspended stack owns: its frames, and its waits. */
int vg_visit_stack(vg_stack *s, const vg_wait *innermost, visitproc visit, void *arg)
{
    visitor visitor = {visit, arg, innermost}, *v = &visitor;
    VISIT(s->exc_bottom.exc_value);
    for (frame *f = SUSPENDED_TOP(s); f != NULL && f != &s->base_frame; f = f->previous) {
        int failed = visit_frame(f, v);
        if (failed) {
            return failed;
        }
        if (f->owner == FRAME_OWNED_BY_GENERATOR) {
            mark_generator(f, s);
        }
    }
    for (const vg_wait *wait = innermost; wait != NULL; wait = wait->outer) {
        if (wait->owned) {
            VISIT(wait->awaited);
        }
    }
    return 0;
}

/* ---- who awaits -------------------------------------------------------- */

/* The coroutine whose frame is the thread's current one, borrowed, or NULL. */
PyObject *vg_current_coroutine(PyThreadState *ts)
{
    frame *f = VG_CURRENT_FRAME(ts);
    if (f == NULL || f->owner != FRAME_OWNED_BY_GENERATOR) {
        return NULL;
    }
    PyObject *generator = generator_of(f);
    return PyCoro_CheckExact(generator) ? generator : NULL;
}

/* asyncio's current task on this thread, borrowed, or NULL. Known from 3.14 on;
 * before that asyncio keeps it in a dict of its own. */
PyObject *vg_running_task(PyThreadState *ts)
{
#if PY_VERSION_HEX >= 0x030e0000
    return ((_PyThreadStateImpl *)ts)->asyncio_running_task;
#else
    (void)ts;
    return NULL;
#endif
}
