/* Questions about frames and generators that only CPython's internal headers
 * answer: which references a suspended stack owns (for the garbage collector),
 * what its innermost frame is, and what state a coroutine is in. */
#include "switch.h"
#include <frameobject.h>

#if PY_VERSION_HEX >= 0x030e0000
typedef struct _PyGenObject vg_generator;
#else
typedef PyGenObject vg_generator;
#endif

#if PY_VERSION_HEX < 0x030d0000
#  define SUSPENDED_TOP(s) ((s)->cframe->current_frame)
#  define CURRENT_FRAME(ts) ((ts)->cframe->current_frame)
#else
#  define SUSPENDED_TOP(s) ((s)->current_frame)
#  define CURRENT_FRAME(ts) ((ts)->current_frame)
#endif

typedef struct _PyInterpreterFrame frame;

static int is_generator(PyObject *op)
{
    return PyGen_CheckExact(op) || PyCoro_CheckExact(op) || PyAsyncGen_CheckExact(op);
}

/* A coroutine between two steps: something awaits it, or it was stepped by hand.
 * One that has not started, is running or has ended answers for itself. */
int vg_coroutine_is_suspended(PyObject *coroutine)
{
    int state = ((vg_generator *)coroutine)->gi_frame_state;
#if PY_VERSION_HEX >= 0x030d0000
    return FRAME_STATE_SUSPENDED(state);
#else
    return state == FRAME_SUSPENDED;
#endif
}

static int is_executing(PyObject *op)
{
    return is_generator(op) && ((vg_generator *)op)->gi_frame_state == FRAME_EXECUTING;
}

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
static PyObject *frame_object(PyThreadState *ts, frame *top)
{
    frame *real = CURRENT_FRAME(ts);
    CURRENT_FRAME(ts) = top;
    PyObject *found = (PyObject *)PyThreadState_GetFrame(ts);
    CURRENT_FRAME(ts) = real;
    return found;
}

PyObject *vg_suspended_frame(PyThreadState *ts, vg_stack *s)
{
    return frame_object(ts, SUSPENDED_TOP(s));
}

/* The innermost frame of a stack that is driving another one, `inner`. */
PyObject *vg_driving_frame(PyThreadState *ts, vg_stack *inner)
{
    return frame_object(ts, inner->base_frame.previous);
}

/* ---- garbage collection ------------------------------------------------ */

typedef struct {
    visitproc visit;
    void *arg;
} visitor;

/* A generator that runs on the suspended stack is held by whoever resumed it,
 * and by something the collector can see besides. It must look alive, or its
 * finalizer would be called while it executes. */
static int visit_owned(PyObject *op, visitor *v)
{
    if (op == NULL || is_executing(op)) {
        return 0;
    }
    return v->visit(op, v->arg);
}

#define VISIT(op)                                                                  \
    do {                                                                           \
        int failed = visit_owned((PyObject *)(op), v);                             \
        if (failed) return failed;                                                 \
    } while (0)

#if PY_VERSION_HEX >= 0x030e0000

static int visit_slot(_PyStackRef ref, visitor *v)
{
    if (PyStackRef_IsNullOrInt(ref) || !PyStackRef_RefcountOnObject(ref)) {
        return 0; /* nothing, a tagged integer, or a borrowed reference */
    }
    return visit_owned(PyStackRef_AsPyObjectBorrow(ref), v);
}

static int visit_frame(frame *f, PyObject *const *innermost_args, visitor *v)
{
    (void)innermost_args;
    if (f->owner != FRAME_OWNED_BY_THREAD || f->stackpointer == NULL) {
        return 0;
    }
    VISIT(f->frame_obj);
    VISIT(f->f_locals);
    int failed = visit_slot(f->f_funcobj, v);
    if (!failed) {
        failed = visit_slot(f->f_executable, v);
    }
    for (_PyStackRef *slot = f->localsplus; !failed && slot < f->stackpointer; slot++) {
        failed = visit_slot(*slot, v);
    }
    return failed;
}

#else

/* Up to 3.13 a frame that calls C does not store its stack pointer. Where the
 * frame called another Python function it did; for the innermost frame, the
 * arguments of `await_` tell, which lie on top of its evaluation stack. In
 * between (C code that called back into Python) only the locals are known to
 * be owned. Visiting less than is owned keeps garbage alive; visiting more
 * would free what lives. */
static int visit_frame(frame *f, PyObject *const *innermost_args, visitor *v)
{
    if (f->owner != FRAME_OWNED_BY_THREAD) {
        return 0;
    }
#if PY_VERSION_HEX >= 0x030d0000
    PyCodeObject *code = (PyCodeObject *)f->f_executable;
    PyObject *function = f->f_funcobj;
#elif PY_VERSION_HEX >= 0x030c0000
    PyCodeObject *code = f->f_code;
    PyObject *function = f->f_funcobj;
#else
    PyCodeObject *code = f->f_code;
    PyObject *function = (PyObject *)f->f_func;
    if (f->prev_instr < _PyCode_CODE(code)) {
        return 0; /* a base frame */
    }
#endif
    PyObject **stack = f->localsplus + code->co_nlocalsplus;
    PyObject **end = stack;
    if (f->stacktop >= code->co_nlocalsplus) {
        end = f->localsplus + f->stacktop;
    }
    else if (innermost_args >= (PyObject *const *)stack &&
             innermost_args < (PyObject *const *)stack + code->co_stacksize) {
        end = (PyObject **)innermost_args + 1;
    }
    VISIT(f->frame_obj);
    VISIT(f->f_locals);
    VISIT(function);
    VISIT(code);
    for (PyObject **slot = f->localsplus; slot < end; slot++) {
        VISIT(*slot);
    }
    return 0;
}

#endif

/* Visits what the frames of a suspended stack own. `innermost_args` points to
 * the arguments of the `await_` that suspended it. */
int vg_visit_frames(vg_stack *s, PyObject *const *innermost_args, visitproc visit, void *arg)
{
    visitor v = {visit, arg};
    int failed = visit_owned(s->exc_bottom.exc_value, &v);
    for (frame *f = SUSPENDED_TOP(s); !failed && f != &s->base_frame; f = f->previous) {
        failed = visit_frame(f, innermost_args, &v);
        innermost_args = NULL;
    }
    return failed;
}

/* Visits one reference that C code on a suspended stack owns. */
int vg_visit_owned(PyObject *op, visitproc visit, void *arg)
{
    visitor v = {visit, arg};
    return visit_owned(op, &v);
}

/* ---- who awaits -------------------------------------------------------- */

/* The coroutine whose frame is the thread's current one, borrowed, or NULL. */
PyObject *vg_current_coroutine(PyThreadState *ts)
{
    frame *f = CURRENT_FRAME(ts);
    if (f == NULL || f->owner != FRAME_OWNED_BY_GENERATOR) {
        return NULL;
    }
    PyObject *generator = (PyObject *)((char *)f - offsetof(vg_generator, gi_iframe));
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
