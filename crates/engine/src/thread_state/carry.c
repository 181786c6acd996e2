/* The thread state around a switch of greenlets, for a function that greenlet
 * carries in place of a native stack.
 *
 * greenlet itself exchanges frames, handled exceptions, recursion depths and
 * contexts, which makes a greenlet an island. What makes it a part of whoever
 * drives it is done here: its context is the driver's, what the driver handles
 * it sees as handled, its recursion counts on top, and the collector finds its
 * frames.
 *
 *     driver                                    greenlet
 *        |  vg_carry_park: note what the driver has
 *        |------------------- switch ------------------->|
 *        |            vg_carry_begin or vg_carry_arrive: take it over
 *        |             vg_carry_leave or vg_carry_end: let go of it
 *        |<------------------ switch --------------------|
 *
 * What waits may be another greenlet than the function's first one, `is_base`
 * tells. That one has a context and handled exceptions of its own. */
#include "switch.h"

/* Makes the state, once, in fresh memory. */
void vg_carry_make(vg_stack *s)
{
    vg_make_base_frame(s);
#if PY_VERSION_HEX < 0x030d0000
    s->base_cframe.previous = NULL;
    s->base_cframe.current_frame = NULL;
    s->cframe = &s->base_cframe; /* the real one moves with the C stack */
#else
    s->current_frame = NULL;
#endif
}

/* What the collector visits while the function waits. */
void vg_carry_note_frames(PyThreadState *ts, vg_stack *s)
{
#if PY_VERSION_HEX < 0x030d0000
    s->base_cframe.current_frame = VG_CURRENT_FRAME(ts);
#else
    s->current_frame = VG_CURRENT_FRAME(ts);
#endif
#if PY_VERSION_HEX >= 0x030c0000
    s->instrumentation = vg_instrumentation(ts);
#endif
}

void vg_carry_park(PyThreadState *ts, vg_stack *s, vg_driver *d)
{
    if (s->generators_marked) {
        vg_unmark_generators(s);
    }
#if PY_VERSION_HEX >= 0x030c0000
    if (s->left && s->instrumentation != vg_instrumentation(ts)) {
        vg_refresh_instrumentation(ts, s);
    }
#endif
    if (ts->context == NULL) {
        vg_make_context(ts);
    }
    d->context = ts->context; /* held by the driver's greenlet all the while */
    d->exc_info = ts->exc_info;
    d->handled = ts->exc_state.exc_value;
    d->depth = VG_RECURSION_LIMIT(ts) - VG_RECURSION_REMAINING(ts);
    d->tracing = ts->tracing;
    s->base_frame.previous = vg_frames_are_linked ? VG_CURRENT_FRAME(ts) : NULL;
}

void vg_carry_arrive(PyThreadState *ts, vg_stack *s, const vg_driver *d, int is_base)
{
    PyContext *dropped = NULL;
    if (s->keeps_context) {
        s->keeps_context = 0;
    }
    else {
        Py_XSETREF(ts->context, Py_XNewRef(d->context));
        if (s->context_outermost != NULL) {
            dropped = vg_enter_open_context(ts, s);
        }
        ts->context_ver++;
    }
    s->exc_bottom.previous_item = d->exc_info;
    if (is_base) {
        /* The driver's chain ends in the thread state, whose item greenlet has
         * exchanged. Nothing else is in there: ours is `exc_bottom`. */
        Py_XSETREF(ts->exc_state.exc_value, Py_XNewRef(d->handled));
    }
    VG_RECURSION_REMAINING(ts) = VG_RECURSION_LIMIT(ts) - d->depth - s->depth;
#if PY_VERSION_HEX < 0x030c0000
    vg_refresh_use_tracing(ts);
#endif
    Py_XDECREF(dropped);
}

/* Before the first frame. */
void vg_carry_begin(PyThreadState *ts, vg_stack *s, const vg_driver *d)
{
    s->left = 0;
    s->depth = 1;
    s->tracing = 0;
    s->generators_marked = 0;
    s->keeps_context = 0;
    s->context_outermost = NULL;
    Py_CLEAR(s->context);
    s->exc_bottom.exc_value = NULL;
    ts->exc_info = &s->exc_bottom;
#if PY_VERSION_HEX < 0x030c0000
    VG_CURRENT_FRAME(ts) = &s->base_frame;
#endif
    vg_carry_arrive(ts, s, d, 1);
}

/* Nothing of the driver's may be found from the function any more. */
void vg_carry_let_go(vg_stack *s)
{
    s->exc_bottom.previous_item = NULL;
    s->base_frame.previous = NULL;
}

void vg_carry_leave(PyThreadState *ts, vg_stack *s, const vg_driver *d, int is_base)
{
    s->left = 1;
    if (ts->context == d->context) {
        Py_CLEAR(ts->context); /* the driver's greenlet has another reference */
    }
    else {
        s->context_outermost = vg_outermost_open_context(ts, d->context);
        if (s->context_outermost != NULL) {
            s->context = ts->context;
            ts->context = NULL;
        }
        else {
            s->keeps_context = 1;
        }
    }
    ts->context_ver++;
    if (is_base) {
        Py_CLEAR(ts->exc_state.exc_value);
    }
    s->depth = VG_RECURSION_LIMIT(ts) - VG_RECURSION_REMAINING(ts) - d->depth;
    s->tracing += ts->tracing - d->tracing;
    vg_carry_note_frames(ts, s);
    vg_carry_let_go(s);
}

/* After the last frame, on the function's first greenlet. */
void vg_carry_end(PyThreadState *ts, vg_stack *s)
{
    vg_carry_let_go(s);
#if PY_VERSION_HEX < 0x030c0000
    VG_CURRENT_FRAME(ts) = NULL;
#endif
    vg_carry_note_frames(ts, s);
    ts->exc_info = &ts->exc_state;
    Py_CLEAR(ts->context);
    ts->context_ver++;
    Py_CLEAR(ts->exc_state.exc_value);
    Py_CLEAR(s->exc_bottom.exc_value);
}
