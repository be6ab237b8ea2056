/* Two tanks in a row as an FMU 3.0: arrays, an event, early return, a serialised state. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "fmi3Functions.h"

#define HEIGHT 2.0
enum { LEVELS = 1, VALVES, AREA, FULL, OVERFLOWS, CHANGES };

typedef struct {
    double time, levels[2], valves[2], changes[2], area;
    int full, overflows, events, early, stepping;
} Tanks;

static void compute(Tanks *t) {
    double between = 0.01 * sqrt(fmax(t->levels[0], 0));
    t->changes[0] = (0.02 * t->valves[0] - between) / t->area;
    t->changes[1] = (between - 0.02 * t->valves[1] * sqrt(fmax(t->levels[1], 0))) / t->area;
}
static void settle(Tanks *t) {
    int full = t->levels[0] >= HEIGHT;
    if (full && !t->full) t->overflows++;
    t->full = full;
}

const char *fmi3GetVersion(void) { return fmi3Version; }
fmi3Status fmi3SetDebugLogging(fmi3Instance i, fmi3Boolean on, size_t n, const fmi3String k[]) { return fmi3OK; }
static Tanks *made(void) {
    Tanks *t = calloc(1, sizeof(Tanks));
    t->levels[0] = 1, t->levels[1] = 0.5, t->area = 1;
    return t;
}
fmi3Instance fmi3InstantiateModelExchange(fmi3String n, fmi3String token, fmi3String path, fmi3Boolean v, fmi3Boolean l,
                                          fmi3InstanceEnvironment e, fmi3LogMessageCallback log) { return made(); }
fmi3Instance fmi3InstantiateCoSimulation(fmi3String n, fmi3String token, fmi3String path, fmi3Boolean v, fmi3Boolean l,
                                         fmi3Boolean events, fmi3Boolean early, const fmi3ValueReference r[], size_t nr,
                                         fmi3InstanceEnvironment e, fmi3LogMessageCallback log, fmi3IntermediateUpdateCallback u) {
    Tanks *t = made();
    t->events = events, t->early = early;
    return t;
}
fmi3Instance fmi3InstantiateScheduledExecution(fmi3String n, fmi3String token, fmi3String path, fmi3Boolean v, fmi3Boolean l,
                                               fmi3InstanceEnvironment e, fmi3LogMessageCallback log, fmi3ClockUpdateCallback c,
                                               fmi3LockPreemptionCallback k, fmi3UnlockPreemptionCallback u) { return NULL; }
void fmi3FreeInstance(fmi3Instance i) { free(i); }
fmi3Status fmi3EnterInitializationMode(fmi3Instance i, fmi3Boolean a, fmi3Float64 b, fmi3Float64 start, fmi3Boolean d, fmi3Float64 e) {
    ((Tanks *)i)->time = start;
    return fmi3OK;
}
fmi3Status fmi3ExitInitializationMode(fmi3Instance i) { compute(i); return fmi3OK; }
fmi3Status fmi3EnterEventMode(fmi3Instance i) { ((Tanks *)i)->stepping = 0; return fmi3OK; }
fmi3Status fmi3Terminate(fmi3Instance i) { return fmi3OK; }
fmi3Status fmi3Reset(fmi3Instance i) { return fmi3OK; }

static double *place(Tanks *t, fmi3ValueReference r, size_t *n) {
    *n = r == AREA ? 1 : 2;
    return r == LEVELS ? t->levels : r == VALVES ? t->valves : r == AREA ? &t->area : r == CHANGES ? t->changes : NULL;
}
fmi3Status fmi3GetFloat64(fmi3Instance i, const fmi3ValueReference r[], size_t nr, fmi3Float64 v[], size_t nv) {
    compute(i);
    for (size_t k = 0, at = 0, n; k < nr; k++, at += n) {
        double *p = place(i, r[k], &n);
        if (p == NULL || at + n > nv) return fmi3Error;
        memcpy(v + at, p, n * sizeof(double));
    }
    return fmi3OK;
}
fmi3Status fmi3SetFloat64(fmi3Instance i, const fmi3ValueReference r[], size_t nr, const fmi3Float64 v[], size_t nv) {
    for (size_t k = 0, at = 0, n; k < nr; k++, at += n) {
        double *p = place(i, r[k], &n);
        if (p == NULL || at + n > nv) return fmi3Error;
        if (((Tanks *)i)->stepping) return fmi3Error; /* a jump of an input belongs into event mode */
        memcpy(p, v + at, n * sizeof(double));
    }
    return fmi3OK;
}
fmi3Status fmi3GetBoolean(fmi3Instance i, const fmi3ValueReference r[], size_t nr, fmi3Boolean v[], size_t nv) { v[0] = ((Tanks *)i)->full; return fmi3OK; }
fmi3Status fmi3GetInt32(fmi3Instance i, const fmi3ValueReference r[], size_t nr, fmi3Int32 v[], size_t nv) { v[0] = ((Tanks *)i)->overflows; return fmi3OK; }

/* With events, the step returns early when the first tank is full, if that is allowed. */
fmi3Status fmi3EnterStepMode(fmi3Instance i) { ((Tanks *)i)->stepping = 1; return fmi3OK; }
fmi3Status fmi3DoStep(fmi3Instance i, fmi3Float64 now, fmi3Float64 size, fmi3Boolean b, fmi3Boolean *event, fmi3Boolean *end,
                      fmi3Boolean *early, fmi3Float64 *last) {
    Tanks *t = i;
    *event = *end = *early = fmi3False;
    for (double left = size; left > 1e-9;) {
        double part = fmin(left, size / 10);
        compute(t);
        for (int k = 0; k < 2; k++) t->levels[k] = fmin(fmax(t->levels[k] + part * t->changes[k], 0), HEIGHT);
        left -= part;
        t->time = now + size - left;
        if ((t->levels[0] >= HEIGHT) != t->full) {
            if (!t->events) settle(t);
            else {
                *event = fmi3True;
                if (t->early) { *early = left > 1e-9; break; }
            }
        }
    }
    *last = t->time;
    return fmi3OK;
}
fmi3Status fmi3UpdateDiscreteStates(fmi3Instance i, fmi3Boolean *need, fmi3Boolean *end, fmi3Boolean *nominals, fmi3Boolean *values,
                                    fmi3Boolean *timed, fmi3Float64 *next) {
    *need = *end = *nominals = *values = *timed = fmi3False;
    settle(i);
    return fmi3OK;
}

fmi3Status fmi3GetFMUState(fmi3Instance i, fmi3FMUState *s) {
    if (*s == NULL) *s = malloc(sizeof(Tanks));
    memcpy(*s, i, sizeof(Tanks));
    return fmi3OK;
}
fmi3Status fmi3SetFMUState(fmi3Instance i, fmi3FMUState s) { memcpy(i, s, sizeof(Tanks)); return fmi3OK; }
fmi3Status fmi3FreeFMUState(fmi3Instance i, fmi3FMUState *s) { free(*s); *s = NULL; return fmi3OK; }
fmi3Status fmi3SerializedFMUStateSize(fmi3Instance i, fmi3FMUState s, size_t *size) { *size = sizeof(Tanks); return fmi3OK; }
fmi3Status fmi3SerializeFMUState(fmi3Instance i, fmi3FMUState s, fmi3Byte d[], size_t n) { memcpy(d, s, n); return fmi3OK; }
fmi3Status fmi3DeserializeFMUState(fmi3Instance i, const fmi3Byte d[], size_t n, fmi3FMUState *s) {
    if (*s == NULL) *s = malloc(sizeof(Tanks));
    memcpy(*s, d, n);
    return fmi3OK;
}

/* Model exchange. */
fmi3Status fmi3EnterContinuousTimeMode(fmi3Instance i) { return fmi3OK; }
fmi3Status fmi3CompletedIntegratorStep(fmi3Instance i, fmi3Boolean b, fmi3Boolean *event, fmi3Boolean *end) { *event = *end = fmi3False; return fmi3OK; }
fmi3Status fmi3SetTime(fmi3Instance i, fmi3Float64 time) { ((Tanks *)i)->time = time; return fmi3OK; }
fmi3Status fmi3SetContinuousStates(fmi3Instance i, const fmi3Float64 x[], size_t n) { memcpy(((Tanks *)i)->levels, x, n * sizeof(double)); return fmi3OK; }
fmi3Status fmi3GetContinuousStates(fmi3Instance i, fmi3Float64 x[], size_t n) { memcpy(x, ((Tanks *)i)->levels, n * sizeof(double)); return fmi3OK; }
fmi3Status fmi3GetNominalsOfContinuousStates(fmi3Instance i, fmi3Float64 x[], size_t n) { for (size_t k = 0; k < n; k++) x[k] = 1; return fmi3OK; }
fmi3Status fmi3GetContinuousStateDerivatives(fmi3Instance i, fmi3Float64 x[], size_t n) { compute(i); memcpy(x, ((Tanks *)i)->changes, n * sizeof(double)); return fmi3OK; }
fmi3Status fmi3GetEventIndicators(fmi3Instance i, fmi3Float64 z[], size_t n) { return fmi3OK; }
fmi3Status fmi3GetNumberOfEventIndicators(fmi3Instance i, size_t *n) { *n = 0; return fmi3OK; }
fmi3Status fmi3GetNumberOfContinuousStates(fmi3Instance i, size_t *n) { *n = 2; return fmi3OK; }

/* What FMI wants to be there. */
#define NONE(name, type) \
    fmi3Status fmi3Get##name(fmi3Instance i, const fmi3ValueReference r[], size_t nr, fmi3##type v[], size_t nv) { return fmi3Error; }
#define NO_SET(name, type) \
    fmi3Status fmi3Set##name(fmi3Instance i, const fmi3ValueReference r[], size_t nr, const fmi3##type v[], size_t nv) { return fmi3Error; }
#define NEITHER(name) NONE(name, name) NO_SET(name, name)
NEITHER(Float32) NEITHER(Int8) NEITHER(UInt8) NEITHER(Int16) NEITHER(UInt16) NEITHER(UInt32) NEITHER(Int64) NEITHER(UInt64) NEITHER(String)
NO_SET(Boolean, Boolean) NO_SET(Int32, Int32)
#define REST(name, ...) fmi3Status fmi3##name(fmi3Instance i, ##__VA_ARGS__) { return fmi3Error; }
typedef const fmi3ValueReference *Refs;
REST(GetBinary, Refs r, size_t nr, size_t s[], fmi3Binary v[], size_t nv)
REST(SetBinary, Refs r, size_t nr, const size_t s[], const fmi3Binary v[], size_t nv)
REST(GetClock, Refs r, size_t nr, fmi3Clock v[])
REST(SetClock, Refs r, size_t nr, const fmi3Clock v[])
REST(GetNumberOfVariableDependencies, fmi3ValueReference r, size_t *n)
REST(GetVariableDependencies, fmi3ValueReference r, size_t e[], fmi3ValueReference d[], size_t f[], fmi3DependencyKind k[], size_t n)
REST(GetDirectionalDerivative, Refs u, size_t nu, Refs k, size_t nk, const fmi3Float64 s[], size_t ns, fmi3Float64 o[], size_t no)
REST(GetAdjointDerivative, Refs u, size_t nu, Refs k, size_t nk, const fmi3Float64 s[], size_t ns, fmi3Float64 o[], size_t no)
REST(EnterConfigurationMode)
REST(ExitConfigurationMode)
REST(GetIntervalDecimal, Refs r, size_t n, fmi3Float64 v[], fmi3IntervalQualifier q[])
REST(GetIntervalFraction, Refs r, size_t n, fmi3UInt64 c[], fmi3UInt64 s[], fmi3IntervalQualifier q[])
REST(GetShiftDecimal, Refs r, size_t n, fmi3Float64 v[])
REST(GetShiftFraction, Refs r, size_t n, fmi3UInt64 c[], fmi3UInt64 s[])
REST(SetIntervalDecimal, Refs r, size_t n, const fmi3Float64 v[])
REST(SetIntervalFraction, Refs r, size_t n, const fmi3UInt64 c[], const fmi3UInt64 s[])
REST(SetShiftDecimal, Refs r, size_t n, const fmi3Float64 v[])
REST(SetShiftFraction, Refs r, size_t n, const fmi3UInt64 c[], const fmi3UInt64 s[])
REST(EvaluateDiscreteStates)
REST(GetOutputDerivatives, Refs r, size_t n, const fmi3Int32 o[], fmi3Float64 v[], size_t nv)
REST(ActivateModelPartition, fmi3ValueReference r, fmi3Float64 t)
