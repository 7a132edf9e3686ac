/* Timing events, and where they lie on CLOCK_MONOTONIC.
 *
 * Two bounds hold for every event: it executed after it was recorded and before it was seen done. Whenever one of
 * them is hurt, the clocks have drifted, and the base moves by that much; so the error stays below the time that a
 * record or a query takes, over hours. */
#include "pacing/stream.h"

/* cuEventElapsedTime gives a float of milliseconds: after a second its step is 60 ns, after an hour 250 us. */
#define REBASE_NS 1e9

CUevent pacing_event_take(struct pacing_context *context) {
    CUevent event = NULL;
    memory_lock_take(&context->lock);
    if (context->event_count > 0)
        event = context->events[--context->event_count];
    memory_lock_give(&context->lock);
    if (event)
        return event;
    bool entered = pacing_context_enter(context->handle); /* an event is the current context's */
    if (real.cuEventCreate(&event, CU_EVENT_DEFAULT) != CUDA_SUCCESS)
        event = NULL;
    pacing_context_leave(entered);
    return event;
}

void pacing_event_give(struct pacing_context *context, CUevent event) {
    memory_lock_take(&context->lock);
    if (context->event_count < PACING_EVENTS) {
        context->events[context->event_count++] = event;
        event = NULL;
    }
    memory_lock_give(&context->lock);
    if (event)
        real.cuEventDestroy_v2(event);
}

static void rebase(struct pacing_context *context, CUevent event, double at_ns) {
    if (context->base)
        pacing_event_give(context, context->base);
    context->base = event;
    context->base_ns = at_ns;
}

uint64_t pacing_event_time(struct pacing_context *context, const struct pacing_marker *marker, uint64_t now_ns) {
    float elapsed_ms;
    if (!context->base || real.cuEventElapsedTime(&elapsed_ms, context->base, marker->event) != CUDA_SUCCESS) {
        rebase(context, marker->event, (double)marker->recorded_ns);
        return marker->recorded_ns;
    }
    double elapsed_ns = (double)elapsed_ms * 1e6, at_ns = context->base_ns + elapsed_ns;
    double bounded_ns = at_ns > (double)now_ns ? (double)now_ns : at_ns;
    bounded_ns = bounded_ns < (double)marker->recorded_ns ? (double)marker->recorded_ns : bounded_ns;
    context->base_ns += bounded_ns - at_ns;
    if (elapsed_ns > REBASE_NS)
        rebase(context, marker->event, bounded_ns);
    else
        pacing_event_give(context, marker->event);
    return (uint64_t)bounded_ns;
}
