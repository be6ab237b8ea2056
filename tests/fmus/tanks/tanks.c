/* Two tanks in a row, as an FMU 2.0 for co-simulation: a pump fills the upper one, which runs into
the lower one. `zip -X -r tanks.fmu modelDescription.xml sources` packs it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "fmi2Functions.h"

#define HEIGHT 2.0  /* m */
#define AREA 0.5    /* m2, of each tank */
#define RATED 0.02  /* m3/s, of the pump at 10 V */
#define SLICES 10

enum { UPPER, LOWER, PUMP, WANTED, OUTLET, SPILT, COUNT };

typedef struct { double values[COUNT]; } Tanks;

const char *fmi2GetTypesPlatform(void) { return fmi2TypesPlatform; }
const char *fmi2GetVersion(void) { return fmi2Version; }
fmi2Status fmi2SetDebugLogging(fmi2Component c, fmi2Boolean on, size_t n, const fmi2String k[]) { return fmi2OK; }
fmi2Component fmi2Instantiate(fmi2String name, fmi2Type type, fmi2String guid, fmi2String place,
                              const fmi2CallbackFunctions *f, fmi2Boolean v, fmi2Boolean log) {
    Tanks *t = calloc(1, sizeof(Tanks));
    if (t == NULL) return NULL;
    t->values[UPPER] = t->values[LOWER] = 0.5, t->values[WANTED] = 0.6, t->values[OUTLET] = 0.01;
    return t;
}
void fmi2FreeInstance(fmi2Component c) { free(c); }
fmi2Status fmi2SetupExperiment(fmi2Component c, fmi2Boolean a, fmi2Real b, fmi2Real d, fmi2Boolean e, fmi2Real f) { return fmi2OK; }
fmi2Status fmi2EnterInitializationMode(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2ExitInitializationMode(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2Terminate(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2Reset(fmi2Component c) { return fmi2OK; }
fmi2Status fmi2GetReal(fmi2Component c, const fmi2ValueReference vr[], size_t n, fmi2Real value[]) {
    for (size_t i = 0; i < n; i++) {
        if (vr[i] >= COUNT) return fmi2Error;
        value[i] = ((Tanks *)c)->values[vr[i]];
    }
    return fmi2OK;
}
fmi2Status fmi2SetReal(fmi2Component c, const fmi2ValueReference vr[], size_t n, const fmi2Real value[]) {
    for (size_t i = 0; i < n; i++) {
        if (vr[i] >= SPILT) return fmi2Error;
        ((Tanks *)c)->values[vr[i]] = value[i];
    }
    return fmi2OK;
}
fmi2Status fmi2DoStep(fmi2Component c, fmi2Real now, fmi2Real size, fmi2Boolean b) {
    double *v = ((Tanks *)c)->values;
    int over = 0;
    for (int i = 0; i < SLICES; i++) {
        double between = 0.01 * sqrt(v[UPPER]), out = v[OUTLET] * sqrt(v[LOWER]);
        double upper = v[UPPER] + size / SLICES / AREA * (RATED * v[PUMP] / 10 - between);
        double lower = v[LOWER] + size / SLICES / AREA * (between - out);
        over += upper > HEIGHT || lower > HEIGHT;
        v[UPPER] = fmin(fmax(upper, 0), HEIGHT), v[LOWER] = fmin(fmax(lower, 0), HEIGHT);
    }
    v[SPILT] = (double)over / SLICES;
    return fmi2OK;
}

/* The state: a copy of the structure. */
fmi2Status fmi2GetFMUstate(fmi2Component c, fmi2FMUstate *s) {
    if (*s == NULL) *s = malloc(sizeof(Tanks));
    memcpy(*s, c, sizeof(Tanks));
    return fmi2OK;
}
fmi2Status fmi2SetFMUstate(fmi2Component c, fmi2FMUstate s) { memcpy(c, s, sizeof(Tanks)); return fmi2OK; }
fmi2Status fmi2FreeFMUstate(fmi2Component c, fmi2FMUstate *s) { free(*s); *s = NULL; return fmi2OK; }
fmi2Status fmi2SerializedFMUstateSize(fmi2Component c, fmi2FMUstate s, size_t *size) { *size = sizeof(Tanks); return fmi2OK; }
fmi2Status fmi2SerializeFMUstate(fmi2Component c, fmi2FMUstate s, fmi2Byte data[], size_t size) {
    memcpy(data, s, size);
    return fmi2OK;
}
fmi2Status fmi2DeSerializeFMUstate(fmi2Component c, const fmi2Byte data[], size_t size, fmi2FMUstate *s) {
    if (*s == NULL) *s = malloc(sizeof(Tanks));
    memcpy(*s, data, size);
    return fmi2OK;
}

/* What FMI needs, and this model does not have. */
fmi2Status fmi2GetStatus(fmi2Component c, const fmi2StatusKind k, fmi2Status *v) { *v = fmi2OK; return fmi2OK; }
fmi2Status fmi2GetRealStatus(fmi2Component c, const fmi2StatusKind k, fmi2Real *v) { *v = 0; return fmi2OK; }
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
fmi2Status fmi2GetInteger(fmi2Component c, const fmi2ValueReference vr[], size_t n, fmi2Integer v[]) { return fmi2Error; }
fmi2Status fmi2GetBoolean(fmi2Component c, const fmi2ValueReference vr[], size_t n, fmi2Boolean v[]) { return fmi2Error; }
