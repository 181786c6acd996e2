/* What one switch of native stacks saves of CPython's thread state, and the
 * few questions about frames that only CPython's own headers can answer.
 *
 * `struct _ts` changes with every minor version, and debug builds move its
 * fields, so this shim is compiled against the headers of the interpreter that
 * will load it. Rust never sees an offset that was written by hand.
 *
 * Two parties take part in a switch:
 *
 *     driver                                    green stack
 *     (event loop, task, coroutine)             (the function async_def runs)
 *        |  vg_enter: park the driver's fields in vg_driver,
 *        |            install the stack's from vg_stack
 *        |---------------- native switch ----------------->|
 *        |<--------------- native switch ------------------|
 *        |  vg_leave if it waits, vg_end if it has ended: the other way round
 *
 * Both run on the driver's side: between them and the native switch no Python
 * code runs, so the green side has nothing to save.
 *
 * Left alone on purpose: the exception being raised (it crosses a switch when
 * the function ends with it), `delete_later` (whoever unwinds next may free
 * what is queued there), `datastack_cached_chunk` (a spare that belongs to
 * the thread), the asyncio fields of 3.14+, `c_stack_init_*`,
 * `jit_tracer_state`, `last_profiled_frame` and `lazy_imports`.
 */
#ifndef VERDIGRIS_SWITCH_H
#define VERDIGRIS_SWITCH_H

#define Py_BUILD_CORE 1
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include "internal/pycore_context.h"
#include "internal/pycore_frame.h"
#include "internal/pycore_gc.h"
#if PY_VERSION_HEX >= 0x030c0000
#  include "internal/pycore_ceval.h"
#  include "internal/pycore_interp.h"
#endif
#if PY_VERSION_HEX >= 0x030e0000
#  include "internal/pycore_interpframe.h"
#  include "internal/pycore_interpframe_structs.h"
#  include "internal/pycore_pythonrun.h"
#  include "internal/pycore_stackref.h"
#  include "internal/pycore_tstate.h"
#endif

#if PY_VERSION_HEX < 0x030b0000 || PY_VERSION_HEX >= 0x03100000
#  error "verdigris knows the thread state of CPython 3.11 to 3.15 only"
#endif
#ifdef Py_GIL_DISABLED
#  error "verdigris does not support free-threaded builds of CPython"
#endif

/* What a green stack owns while it is away. */
typedef struct {
    /* Whether this memory holds a stack that is ready to begin: VG_READY. Fresh
     * memory is zero. A stack that ends leaves all this as it was made, so that
     * beginning again costs next to nothing. */
    uint64_t ready;
    /* Whether the stack was ever left before its end. */
    int left;
    /* all: the stack's own bottom of the exception-info chain, linked to the
     * driver's while the stack runs, as a generator's is; and its top. */
    _PyErr_StackItem exc_bottom;
    _PyErr_StackItem *exc_top;
    /* all: set only while a Context.run is open across the suspension: the
     * innermost open context, and the outermost, whose `ctx_prev` is the
     * driver's context and follows it. */
    PyObject *context;
    PyContext *context_outermost;
    /* all: set only while a greenlet on the stack, with a context of its own, is
     * suspended: that context. */
    PyObject *context_of_greenlet;
    /* all: the same for a function on a greenlet (carry.c): greenlet keeps it. */
    int keeps_context;
    /* all: frames and evaluation stacks. The root chunk lies in the stack's own
     * mapping; CPython never frees a root whose `top` skips its first word. */
    _PyStackChunk *datastack_root;
    _PyStackChunk *datastack_chunk;
    PyObject **datastack_top;
    PyObject **datastack_limit;
    /* all: Python calls open on this stack. Counted on top of the driver's, so
     * that recursion through any number of stacks still ends. */
    int depth;
    /* all: whether the collector marked generators on this stack (frames.c). */
    int generators_marked;
    /* all: trace functions open on this stack (a debugger prompt that waits).
     * They count for the thread all the while: nothing is traced before they
     * return, or the prompt would open again in the event loop. */
    int tracing;
    /* all: calls that a profiler has open on this stack (profile_lsprof.c), or NULL. */
    struct vg_calls *calls;
#if PY_VERSION_HEX < 0x030d0000
    /* 3.11, 3.12: the C-stack side of the current frame. */
    _PyCFrame base_cframe;
    _PyCFrame *cframe;
    /* 3.11, 3.12: deallocations nested on this stack. */
    int trash_nesting;
#else
    /* 3.13+ */
    struct _PyInterpreterFrame *current_frame;
#endif
#if PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030e0000
    /* 3.12, 3.13: C recursion belongs to the C stack it happens on. */
    int c_recursion_remaining;
#endif
#if PY_VERSION_HEX >= 0x030c0000
    /* 3.12+: what the code of these frames is instrumented for. */
    uintptr_t instrumentation;
#endif
#if PY_VERSION_HEX >= 0x030d0000 && PY_VERSION_HEX < 0x030e0000
    PyObject *previous_executor; /* 3.13: the JIT's, with its reference */
#endif
#if PY_VERSION_HEX >= 0x030e0000
    /* 3.14+: bounds that CPython checks the C stack pointer against. */
    uintptr_t c_stack_top, c_stack_soft_limit, c_stack_hard_limit;
    PyObject *current_executor; /* 3.14+: strong while the stack is away */
#endif
#if PY_VERSION_HEX >= 0x030f0000
    struct _PyExitData *jit_exit; /* 3.15+ */
#endif
    /* all: a frame below the function's first, which is no Python frame and is
     * skipped by every walker. Its `previous` is the driver's frame while the
     * stack runs, so that f_back goes on into the event loop, and NULL while
     * it is suspended. */
    struct _PyInterpreterFrame base_frame;
} vg_stack;

/* What the driver gets back. */
typedef struct {
    _PyErr_StackItem *exc_info;
    /* Counted: a greenlet may take the thread state's reference, and end. */
    PyObject *context;
    PyObject *handled; /* carry.c: the bottom of the handled exceptions, borrowed */
    _PyStackChunk *datastack_chunk;
    PyObject **datastack_top;
    PyObject **datastack_limit;
    int depth;
    int tracing;
#if PY_VERSION_HEX < 0x030d0000
    _PyCFrame *cframe;
    int trash_nesting;
#else
    struct _PyInterpreterFrame *current_frame;
#endif
#if PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030e0000
    int c_recursion_remaining;
#endif
#if PY_VERSION_HEX >= 0x030d0000 && PY_VERSION_HEX < 0x030e0000
    PyObject *previous_executor;
#endif
#if PY_VERSION_HEX >= 0x030e0000
    uintptr_t c_stack_top, c_stack_soft_limit, c_stack_hard_limit;
    PyObject *current_executor;
#endif
#if PY_VERSION_HEX >= 0x030f0000
    struct _PyExitData *jit_exit;
#endif
} vg_driver;

#if PY_VERSION_HEX >= 0x030c0000
#  define VG_RECURSION_LIMIT(ts) ((ts)->py_recursion_limit)
#  define VG_RECURSION_REMAINING(ts) ((ts)->py_recursion_remaining)
#else
#  define VG_RECURSION_LIMIT(ts) ((ts)->recursion_limit)
#  define VG_RECURSION_REMAINING(ts) ((ts)->recursion_remaining)
#endif

#if PY_VERSION_HEX < 0x030d0000
#  define VG_CURRENT_FRAME(ts) ((ts)->cframe->current_frame)
#else
#  define VG_CURRENT_FRAME(ts) ((ts)->current_frame)
#endif

#define VG_READY UINT64_C(0x7665726469677269)

/* Rust keeps both as opaque words of these sizes (thread_state/mod.rs). */
#define VG_STACK_WORDS 50
#define VG_DRIVER_WORDS 20
_Static_assert(sizeof(vg_stack) <= VG_STACK_WORDS * 8, "VG_STACK_WORDS");
_Static_assert(sizeof(vg_driver) <= VG_DRIVER_WORDS * 8, "VG_DRIVER_WORDS");

/* frames.c: offsets and values of this interpreter. */
typedef struct {
    size_t coroutine_state;
    int8_t first_suspended;
    int8_t last_suspended;
    size_t function_closure;
    size_t function_defaults;
    size_t function_kwdefaults;
    size_t exception_bottom;
} vg_layout;

/* instrumentation.c */
#if PY_VERSION_HEX >= 0x030c0000
/* The version of what the interpreter reports to tracers. */
static inline uintptr_t vg_instrumentation(PyThreadState *ts)
{
#  if PY_VERSION_HEX >= 0x030d0000
    return ts->eval_breaker & ~(uintptr_t)_PY_EVAL_EVENTS_MASK;
#  else
    return (uintptr_t)ts->interp->monitoring_version;
#  endif
}

void vg_refresh_instrumentation(PyThreadState *ts, vg_stack *s);
#endif

/* profile_lsprof.c */
void vg_forget_calls(vg_stack *s);

/* frames.c */
void vg_unmark_generators(vg_stack *s);

/* switch.c, for carry.c */
extern int vg_frames_are_linked;
void vg_make_base_frame(vg_stack *s);
PyContext *vg_enter_open_context(PyThreadState *ts, vg_stack *s);
PyContext *vg_outermost_open_context(PyThreadState *ts, PyObject *driver_context);
void vg_make_context(PyThreadState *ts);

#if PY_VERSION_HEX < 0x030c0000
/* 3.11 keeps "is anything traced" in the innermost cframe. */
static inline void vg_refresh_use_tracing(PyThreadState *ts)
{
    ts->cframe->use_tracing =
        ts->tracing == 0 && (ts->c_tracefunc || ts->c_profilefunc) ? 255 : 0;
}
#endif

#endif
