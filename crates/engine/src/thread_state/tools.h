/* Tools that keep a stack of calls of their own.
 *
 * A tracer or profiler hears of a thread's calls and returns. Most tools look at the frame that comes
 * with each. Some push an entry of their own at a call, and pop it at a return, whichever function
 * it is that returns. To these, two functions that wait in turns are one tangle: what one of them
 * does goes to the account of the other. So their entries for a stack are taken off when the stack
 * is left, and put back when it is resumed.
 *
 *     trace_coverage.c     coverage.py's tracers: told of returns and calls, as by generators
 *     profile_lsprof.c     cProfile: the entries themselves are taken and put back
 *     profile_memray.c     memray: told of returns and calls
 */
#ifndef VERDIGRIS_TOOLS_H
#define VERDIGRIS_TOOLS_H

#include "switch.h"

/* Both run in the driver's state: before the stack's is installed, and after it was parked. */
void vg_tools_enter(PyThreadState *ts, vg_stack *s);
void vg_tools_leave(PyThreadState *ts, vg_stack *s);

/* frames.c: the stack's Python frames, innermost first. */
struct _PyInterpreterFrame *vg_innermost_frame(vg_stack *s);
struct _PyInterpreterFrame *vg_next_frame(vg_stack *s, struct _PyInterpreterFrame *f);
PyObject *vg_frame_object(PyThreadState *ts, struct _PyInterpreterFrame *f);

/* trace_coverage.c */
void vg_coverage_enter(PyThreadState *ts, vg_stack *s);
void vg_coverage_leave(PyThreadState *ts, vg_stack *s);

/* profile_lsprof.c */
void vg_lsprof_enter(PyThreadState *ts, vg_stack *s);
void vg_lsprof_leave(PyThreadState *ts, vg_stack *s);

/* profile_memray.c */
void vg_memray_enter(PyThreadState *ts, vg_stack *s);
void vg_memray_leave(PyThreadState *ts, vg_stack *s);

#endif
