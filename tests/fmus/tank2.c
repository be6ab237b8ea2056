/* A tank with a pump and an outlet, as an FMU 2.0 for co-simulation and for model exchange.

Macros choose what it does wrong:
FORGETS: its serialised state lacks the wear of the pump.  LEAKS: each instance keeps memory.
SEATS: it gives no instance while the file $TANK_SEAT exists.  NO_WEAR: its pump does not wear.  TICKS: seconds between the events of its clock.
CRASHES_AT, HANGS_AT, FAILS_AT, FATAL_AT, NAN_AT: the step at which it does so.  ENDS_AT: it ends itself. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "fmi2Functions.h"

#define HEIGHT 2.0
#define RATED 0.02 /* m3/s at 10 V */

enum { LEVEL, CHANGE, VOLTAGE, AREA, OUTLET, FLOW };

typedef struct {
    double time, values[6], before, wear;
    int steps, overflows, full, ticks, fatal;
} Tank;

static void compute(Tank *t) {
    double *v = t->values;
    v[FLOW] = RATED * v[VOLTAGE] / 10 * (1 - t->wear);
    v[CHANGE] = (v[FLOW] - v[OUTLET] * sqrt(fmax(v[LEVEL], 0))) / v[AREA];
}
static void limit(Tank *t) {
    int full = t->values[LEVEL] >= HEIGHT;
    if (full && !t->full) t->overflows++;
    t->full = full;
    if (full) t->values[LEVEL] = HEIGHT;
}

const char *fmi2GetTypesPlatform(void) { return fmi2TypesPlatform; }
const char *fmi2GetVersion(void) { return fmi2Version; }
fmi2Status fmi2SetDebugLogging(fmi2Component c, fmi2Boolean on, size_t n, const fmi2String k[]) { return fmi2OK; }
fmi2Component fmi2Instantiate(fmi2String name, fmi2Type type, fmi2String guid, fmi2String place,
                              const fmi2CallbackFunctions *f, fmi2Boolean v, fmi2Boolean log) {
#ifdef SEATS
    if (access(getenv("TANK_SEAT"), F_OK) == 0) return NULL;
#endif
    Tank *t = calloc(1, sizeof(Tank));
    t->values[LEVEL] = 1.0, t->values[AREA] = 1.0, t->values[OUTLET] = 0.01;
#ifdef LEAKS
    memset(malloc(1 << 20), 1, 1 << 20);
#endif
    return t;
}
void fmi2FreeInstance(fmi2Component c) {
    if (((Tank *)c)->fatal) abort();
    free(c);
}
fmi2Status fmi2SetupExperiment(fmi2Component c, fmi2Boolean a, fmi2Real b, fmi2Real start, fmi2Boolean d, fmi2Real e) {
    ((Tank *)c)->time = start;
    return fmi2OK;
}
fmi2Status fmi2EnterInitializationMode(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2ExitInitializationMode(fmi2Component c) { compute(c); return fmi2OK; }
fmi2Status fmi2Terminate(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2Reset(fmi2Component c) { return fmi2OK; }

fmi2Status fmi2GetReal(fmi2Component c, const fmi2ValueReference vr[], size_t n, fmi2Real value[]) {
    Tank *t = c;
    compute(t);
    for (size_t i = 0; i < n; i++) {
        if (vr[i] > FLOW) return fmi2Error;
        value[i] = t->values[vr[i]];
#ifdef NAN_AT
        if (t->steps >= NAN_AT && vr[i] == LEVEL) value[i] = NAN;
#endif
    }
    return fmi2OK;
}
fmi2Status fmi2GetInteger(fmi2Component c, const fmi2ValueReference vr[], size_t n, fmi2Integer value[]) {
    for (size_t i = 0; i < n; i++) value[i] = ((Tank *)c)->overflows;
    return fmi2OK;
}
fmi2Status fmi2GetBoolean(fmi2Component c, const fmi2ValueReference vr[], size_t n, fmi2Boolean value[]) {
    for (size_t i = 0; i < n; i++) value[i] = ((Tank *)c)->full;
    return fmi2OK;
}
fmi2Status fmi2SetReal(fmi2Component c, const fmi2ValueReference vr[], size_t n, const fmi2Real value[]) {
    for (size_t i = 0; i < n; i++) {
        if (vr[i] == CHANGE || vr[i] >= FLOW) return fmi2Error;
        ((Tank *)c)->values[vr[i]] = value[i];
    }
    return fmi2OK;
}
fmi2Status fmi2DoStep(fmi2Component c, fmi2Real now, fmi2Real size, fmi2Boolean b) {
    Tank *t = c;
    if (fabs(now - t->time) > 1e-9) return fmi2Error; /* a step begins where the last one ended */
    t->steps++;
#ifdef CRASHES_AT
    if (t->steps == CRASHES_AT) raise(SIGSEGV);
#endif
#ifdef HANGS_AT
    while (t->steps == HANGS_AT) sleep(1);
#endif
#ifdef FAILS_AT
    if (t->steps == FAILS_AT) return fmi2Error;
#endif
#ifdef FATAL_AT
    t->fatal = t->steps == FATAL_AT;
    if (t->fatal) return fmi2Fatal;
#endif
#ifdef ENDS_AT
    if (t->steps == ENDS_AT) return fmi2Discard;
#endif
    for (int i = 0; i < 10; i++) {
        compute(t);
        t->values[LEVEL] = fmax(t->values[LEVEL] + size / 10 * t->values[CHANGE], 0);
#ifndef NO_WEAR
        t->wear = fmin(t->wear + 1e-6 * t->values[VOLTAGE] * size, 0.5);
#endif
        limit(t);
    }
    t->time = now + size;
    return fmi2OK;
}

/* The state: a copy of the structure. */
fmi2Status fmi2GetFMUstate(fmi2Component c, fmi2FMUstate *s) {
    if (*s == NULL) *s = malloc(sizeof(Tank));
    memcpy(*s, c, sizeof(Tank));
    return fmi2OK;
}
fmi2Status fmi2SetFMUstate(fmi2Component c, fmi2FMUstate s) { memcpy(c, s, sizeof(Tank)); return fmi2OK; }
fmi2Status fmi2FreeFMUstate(fmi2Component c, fmi2FMUstate *s) { free(*s); *s = NULL; return fmi2OK; }
fmi2Status fmi2SerializedFMUstateSize(fmi2Component c, fmi2FMUstate s, size_t *size) { *size = sizeof(Tank); return fmi2OK; }
fmi2Status fmi2SerializeFMUstate(fmi2Component c, fmi2FMUstate s, fmi2Byte data[], size_t size) {
    memcpy(data, s, size);
#ifdef FORGETS
    ((Tank *)data)->wear = 0;
#endif
    return fmi2OK;
}
fmi2Status fmi2DeSerializeFMUstate(fmi2Component c, const fmi2Byte data[], size_t size, fmi2FMUstate *s) {
    if (*s == NULL) *s = malloc(sizeof(Tank));
    memcpy(*s, data, size);
    return fmi2OK;
}

/* Model exchange: one state, one event (the tank is full). */
fmi2Status fmi2SetTime(fmi2Component c, fmi2Real time) { ((Tank *)c)->time = time; return fmi2OK; }
fmi2Status fmi2SetContinuousStates(fmi2Component c, const fmi2Real x[], size_t n) { ((Tank *)c)->values[LEVEL] = x[0]; return fmi2OK; }
fmi2Status fmi2GetContinuousStates(fmi2Component c, fmi2Real x[], size_t n) { x[0] = ((Tank *)c)->values[LEVEL]; return fmi2OK; }
fmi2Status fmi2GetNominalsOfContinuousStates(fmi2Component c, fmi2Real x[], size_t n) { x[0] = 1; return fmi2OK; }
fmi2Status fmi2GetDerivatives(fmi2Component c, fmi2Real dx[], size_t n) {
    compute(c);
    dx[0] = ((Tank *)c)->full ? fmin(((Tank *)c)->values[CHANGE], 0) : ((Tank *)c)->values[CHANGE];
    return fmi2OK;
}
fmi2Status fmi2GetEventIndicators(fmi2Component c, fmi2Real z[], size_t n) {
    z[0] = ((Tank *)c)->values[LEVEL] - HEIGHT + (((Tank *)c)->full ? 1e-9 : -1e-9);
    return fmi2OK;
}
fmi2Status fmi2EnterEventMode(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2NewDiscreteStates(fmi2Component c, fmi2EventInfo *e) {
    memset(e, 0, sizeof(*e));
    limit(c);
#ifdef TICKS
    Tank *t = c;
    while (t->time >= t->ticks * TICKS) t->ticks++;
    t->overflows = t->ticks;
    e->nextEventTimeDefined = fmi2True, e->nextEventTime = t->ticks * TICKS;
#endif
    return fmi2OK;
}
fmi2Status fmi2EnterContinuousTimeMode(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2CompletedIntegratorStep(fmi2Component c, fmi2Boolean b, fmi2Boolean *event, fmi2Boolean *end) {
    *event = *end = fmi2False;
    return fmi2OK;
}

/* What FMI wants to be there. */
fmi2Status fmi2GetStatus(fmi2Component c, const fmi2StatusKind k, fmi2Status *v) { *v = fmi2OK; return fmi2OK; }
fmi2Status fmi2GetRealStatus(fmi2Component c, const fmi2StatusKind k, fmi2Real *v) { *v = ((Tank *)c)->time; return fmi2OK; }
fmi2Status fmi2GetIntegerStatus(fmi2Component c, const fmi2StatusKind k, fmi2Integer *v) { return fmi2Discard; }
fmi2Status fmi2GetBooleanStatus(fmi2Component c, const fmi2StatusKind k, fmi2Boolean *v) { *v = fmi2True; return fmi2OK; }
fmi2Status fmi2GetStringStatus(fmi2Component c, const fmi2StatusKind k, fmi2String *v) { return fmi2Discard; }
fmi2Status fmi2CancelStep(fmi2Component c) { return fmi2Error; }
fmi2Status fmi2GetString(fmi2Component c, const fmi2ValueReference vr[], size_t n, fmi2String v[]) { return fmi2Error; }
fmi2Status fmi2SetInteger(fmi2Component c, const fmi2ValueReference vr[], size_t n, const fmi2Integer v[]) { return fmi2Error; }
fmi2Status fmi2SetBoolean(fmi2Component c, const fmi2ValueReference vr[], size_t n, const fmi2Boolean v[]) { return fmi2Error; }
fmi2Status fmi2SetString(fmi2Component c, const fmi2ValueReference vr[], size_t n, const fmi2String v[]) { return fmi2Error; }
fmi2Status fmi2GetDirectionalDerivative(fmi2Component c, const fmi2ValueReference u[], size_t nu, const fmi2ValueReference k[],
                                        size_t nk, const fmi2Real dk[], fmi2Real du[]) { return fmi2Error; }
fmi2Status fmi2SetRealInputDerivatives(fmi2Component c, const fmi2ValueReference vr[], size_t n, const fmi2Integer o[], const fmi2Real v[]) { return fmi2Error; }
fmi2Status fmi2GetRealOutputDerivatives(fmi2Component c, const fmi2ValueReference vr[], size_t n, const fmi2Integer o[], fmi2Real v[]) { return fmi2Error; }
