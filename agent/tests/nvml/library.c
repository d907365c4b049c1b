// A library with NVML's ABI that plays a script: lines of `GPU CALL[:PART] VALUES…`, `-` for the host.
// What a script does not say is not supported. Built by the test with SCRIPT, the path of the script, which
// is read anew at each call, so that a test can change what happens. Structures as in nvml.h of CUDA 12.
//
// Instead of a value: `error N` returns NVML's code N, `hang` waits for ever, `crash` aborts.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int code;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct { int index; int part; } device;

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10 };

static char words[8192];

// The values of a call, from the last line that has them.
static code find(int gpu, const char *call, const char *part, char **values) {
    char wanted[64], key[64] = "", line[4096];
    snprintf(wanted, sizeof wanted, part ? "%s:%s" : "%s", call, part);
    FILE *file = fopen(SCRIPT, "r");
    if (!file) return 999;
    int is_found = 0;
    while (fgets(line, sizeof line, file)) {
        char who[16];
        int at = 0;
        if (sscanf(line, "%15s %63s %n", who, key, &at) < 2 || strcmp(key, wanted)) continue;
        if (gpu < 0 ? strcmp(who, "-") : who[0] == '-' || atoi(who) != gpu) continue;
        line[strcspn(line, "\n")] = 0;
        strcpy(words, at ? line + at : "");
        is_found = 1;
    }
    fclose(file);
    if (!is_found) return NOT_SUPPORTED;
    if (!strcmp(words, "hang")) for (;;) pause();
    if (!strcmp(words, "crash")) abort();
    int error;
    if (sscanf(words, "error %d", &error) == 1) return error;
    *values = words;
    return OK;
}

static code text(int gpu, const char *call, char *to, u32 length) {
    char *values;
    code result = find(gpu, call, 0, &values);
    if (result == OK) snprintf(to, length, "%s", values);
    return result;
}

static code number(int gpu, const char *call, const char *part, u32 *to) {
    char *values;
    code result = find(gpu, call, part, &values);
    if (result == OK) *to = (u32)strtoull(values, 0, 0);
    return result;
}

static code large(int gpu, const char *call, const char *part, u64 *to) {
    char *values;
    code result = find(gpu, call, part, &values);
    if (result == OK) *to = strtoull(values, 0, 0);
    return result;
}

static const char *part_of(u32 part) {
    static char name[16];
    snprintf(name, sizeof name, "%u", part);
    return name;
}

// A device that was lost says so to each question.
static code alive(device *it) {
    char *values;
    return find(it->index, "lost", 0, &values) == OK ? 15 : OK;
}

#define ALIVE(it) do { code lost = alive(it); if (lost) return lost; } while (0)

code nvmlInit_v2(void) {
    char *values;
    code result = find(-1, "init", 0, &values);
    return result == NOT_SUPPORTED ? OK : result;
}
code nvmlShutdown(void) { return OK; }
code nvmlSystemGetDriverVersion(char *to, u32 length) { return text(-1, "driver", to, length); }
code nvmlSystemGetNVMLVersion(char *to, u32 length) { return text(-1, "nvml", to, length); }
code nvmlSystemGetCudaDriverVersion_v2(int *to) { return number(-1, "cuda", 0, (u32 *)to); }
code nvmlSystemGetProcessName(u32 pid, char *to, u32 length) {
    char *values;
    code result = find(-1, "ProcessName", part_of(pid), &values);
    if (result == OK) snprintf(to, length, "%s", values);
    return result == NOT_SUPPORTED ? NOT_FOUND : result;
}
code nvmlDeviceGetCount_v2(u32 *to) { return number(-1, "count", 0, to); }

static device devices[64];
code nvmlDeviceGetHandleByIndex_v2(u32 index, device **to) {
    char *values;
    if (index >= 64) return NOT_FOUND;
    code result = find((int)index, "handle", 0, &values);
    if (result != OK && result != NOT_SUPPORTED) return result;
    devices[index] = (device){(int)index, -1};
    *to = &devices[index];
    return OK;
}

#define TEXT(NAME) \
    code nvmlDeviceGet##NAME(device *it, char *to, u32 length) { ALIVE(it); return text(it->index, #NAME, to, length); }
TEXT(Serial)
TEXT(VbiosVersion)

static device parts[64][8];
// A part of a GPU has its own name, UUID and memory: `GPU Name:PART …`.
static code part_text(device *it, const char *call, char *to, u32 length) {
    char *values;
    ALIVE(it);
    code result = find(it->index, call, it->part < 0 ? 0 : part_of((u32)it->part), &values);
    if (result == OK) snprintf(to, length, "%s", values);
    return result;
}
code nvmlDeviceGetName(device *it, char *to, u32 length) { return part_text(it, "Name", to, length); }
code nvmlDeviceGetUUID(device *it, char *to, u32 length) { return part_text(it, "UUID", to, length); }

#define NUMBER(NAME) \
    code nvmlDeviceGet##NAME(device *it, u32 *to) { ALIVE(it); return number(it->index, #NAME, 0, to); }
NUMBER(MinorNumber)
NUMBER(PowerUsage)
NUMBER(PowerManagementLimit)
NUMBER(EnforcedPowerLimit)
NUMBER(PowerManagementDefaultLimit)
NUMBER(PerformanceState)
NUMBER(CurrPcieLinkGeneration)
NUMBER(MaxPcieLinkGeneration)
NUMBER(CurrPcieLinkWidth)
NUMBER(MaxPcieLinkWidth)
NUMBER(PcieReplayCounter)
NUMBER(PersistenceMode)
NUMBER(DisplayActive)
NUMBER(DisplayMode)
NUMBER(ComputeMode)
NUMBER(AccountingMode)
NUMBER(AccountingBufferSize)
NUMBER(RetiredPagesPendingStatus)
NUMBER(MaxMigDeviceCount)
code nvmlDeviceGetIndex(device *it, u32 *to) { *to = (u32)it->index; return OK; }

#define LARGE(NAME) \
    code nvmlDeviceGet##NAME(device *it, u64 *to) { ALIVE(it); return large(it->index, #NAME, 0, to); }
LARGE(TotalEnergyConsumption)
LARGE(CurrentClocksThrottleReasons)
LARGE(SupportedClocksThrottleReasons)
LARGE(SupportedEventTypes)

#define OF_PART(NAME) \
    code nvmlDeviceGet##NAME(device *it, u32 part, u32 *to) { ALIVE(it); return number(it->index, #NAME, part_of(part), to); }
OF_PART(Temperature)
OF_PART(FanSpeed_v2)
OF_PART(ClockInfo)
OF_PART(MaxClockInfo)
OF_PART(PcieThroughput)
OF_PART(NvLinkState)

// Several numbers in one line.
static code several(device *it, const char *call, u32 *to[], int count) {
    char *values;
    ALIVE(it);
    code result = find(it->index, call, 0, &values);
    for (int i = 0; result == OK && i < count; i++) *to[i] = (u32)strtoull(values, &values, 0);
    return result;
}
#define TWO(NAME) \
    code nvmlDeviceGet##NAME(device *it, u32 *a, u32 *b) { u32 *to[] = {a, b}; return several(it, #NAME, to, 2); }
TWO(EncoderUtilization)
TWO(DecoderUtilization)
TWO(PowerManagementLimitConstraints)
TWO(EccMode)
TWO(CudaComputeCapability)
TWO(MigMode)
code nvmlDeviceGetEncoderStats(device *it, u32 *a, u32 *b, u32 *c) {
    u32 *to[] = {a, b, c};
    return several(it, "EncoderStats", to, 3);
}
code nvmlDeviceGetUtilizationRates(device *it, struct { u32 gpu, memory; } *rates) {
    u32 *to[] = {&rates->gpu, &rates->memory};
    return several(it, "UtilizationRates", to, 2);
}
code nvmlDeviceGetMemoryInfo_v2(device *it, struct { u32 version; u64 total, reserved, free, used; } *info) {
    char *values;
    ALIVE(it);
    code result = find(it->index, "MemoryInfo", it->part < 0 ? 0 : part_of((u32)it->part), &values);
    if (result == OK)
        sscanf(values, "%llu %llu %llu %llu", &info->total, &info->reserved, &info->free, &info->used);
    return result;
}
code nvmlDeviceGetBAR1MemoryInfo(device *it, struct { u64 total, free, used; } *info) {
    char *values;
    ALIVE(it);
    code result = find(it->index, "BAR1MemoryInfo", 0, &values);
    if (result == OK) sscanf(values, "%llu %llu %llu", &info->total, &info->free, &info->used);
    return result;
}
code nvmlDeviceGetTotalEccErrors(device *it, u32 kind, u32 counter, u64 *to) {
    char part[16];
    ALIVE(it);
    snprintf(part, sizeof part, "%u,%u", kind, counter);
    return large(it->index, "TotalEccErrors", part, to);
}
code nvmlDeviceGetRetiredPages(device *it, u32 cause, u32 *count, u64 *addresses) {
    (void)addresses;
    ALIVE(it);
    return number(it->index, "RetiredPages", part_of(cause), count);
}
code nvmlDeviceGetRetiredPages_v2(device *it, u32 cause, u32 *count, u64 *addresses, u64 *times) {
    code result = nvmlDeviceGetRetiredPages(it, cause, count, 0);
    for (u32 i = 0; result == OK && i < *count; i++) addresses[i] = times[i] = i;
    return result;
}
code nvmlDeviceGetPciInfo_v3(device *it, struct { char old[16]; u32 domain, bus, device, id, sub; char bus_id[32]; } *pci) {
    char *values;
    ALIVE(it);
    code result = find(it->index, "PciInfo", 0, &values);
    if (result == OK) {
        memset(pci, 0, sizeof *pci);
        sscanf(values, "%31s %x %x", pci->bus_id, &pci->id, &pci->sub);
    }
    return result;
}

typedef struct { u32 field, scope; long long time, latency; u32 type; code result; union { double d; u64 u; } value; } field;
code nvmlDeviceGetFieldValues(device *it, int count, field *fields) {
    ALIVE(it);
    for (int i = 0; i < count; i++) {
        fields[i].type = 3; // an unsigned long long
        fields[i].result = large(it->index, "Field", part_of(fields[i].field), &fields[i].value.u);
    }
    return OK;
}

// Processes: `GPU Process:NTH KIND PID MEMORY [INSTANCE]`, one after the other from 0.
typedef struct { u32 pid; u64 memory; u32 gpu_instance, compute_instance; } process;
static code processes(device *it, char kind, u32 *count, process *to) {
    u32 found = 0;
    char *values;
    ALIVE(it);
    for (u32 i = 0; find(it->index, "Process", part_of(i), &values) == OK; i++) {
        process each = {0, 0, 0xFFFFFFFF, 0xFFFFFFFF};
        char which;
        sscanf(values, "%c %u %llu %u", &which, &each.pid, &each.memory, &each.gpu_instance);
        if (which != kind) continue;
        if (to && found < *count) to[found] = each;
        found++;
    }
    code result = found > (to ? *count : 0) ? TOO_SMALL : OK;
    *count = found;
    return result;
}
code nvmlDeviceGetComputeRunningProcesses_v3(device *it, u32 *count, process *to) { return processes(it, 'C', count, to); }
code nvmlDeviceGetGraphicsRunningProcesses_v3(device *it, u32 *count, process *to) { return processes(it, 'G', count, to); }

// What they use: `GPU Sample:NTH PID TIME SM MEMORY ENCODER DECODER`.
typedef struct { u32 pid; u64 time; u32 sm, memory, encoder, decoder; } sample;
code nvmlDeviceGetProcessUtilization(device *it, sample *to, u32 *count, u64 since) {
    u32 found = 0;
    char *values;
    ALIVE(it);
    for (u32 i = 0; find(it->index, "Sample", part_of(i), &values) == OK; i++) {
        sample each = {0};
        sscanf(values, "%u %llu %u %u %u %u", &each.pid, &each.time, &each.sm, &each.memory, &each.encoder, &each.decoder);
        if (each.time <= since) continue;
        if (to && found < *count) to[found] = each;
        found++;
    }
    code result = found > (to ? *count : 0) ? TOO_SMALL : OK;
    *count = found;
    return result;
}

// MIG: `GPU Part:NTH INSTANCE`.
code nvmlDeviceGetMigDeviceHandleByIndex(device *it, u32 index, device **to) {
    char *values;
    ALIVE(it);
    code result = index < 8 ? find(it->index, "Part", part_of(index), &values) : NOT_FOUND;
    if (result == NOT_SUPPORTED) result = NOT_FOUND;
    if (result == OK) {
        parts[it->index][index] = (device){it->index, (int)index};
        *to = &parts[it->index][index];
    }
    return result;
}
code nvmlDeviceGetGpuInstanceId(device *it, u32 *to) {
    return it->part < 0 ? NOT_SUPPORTED : number(it->index, "Part", part_of((u32)it->part), to);
}

// Critical errors: `GPU Xid:NTH XID`, each told once.
static int set, told[64];
code nvmlEventSetCreate(int **to) { *to = &set; return OK; }
code nvmlEventSetFree(int *it) { (void)it; return OK; }
code nvmlDeviceRegisterEvents(device *it, u64 types, int *to) { (void)it; (void)types; (void)to; return OK; }
code nvmlEventSetWait_v2(int *it, struct { device *device; u64 type, data; u32 gpu, compute; } *to, u32 wait) {
    (void)it;
    (void)wait;
    for (int gpu = 0; gpu < 64; gpu++) {
        u64 xid;
        if (large(gpu, "Xid", part_of((u32)told[gpu]), &xid) != OK) continue;
        told[gpu]++;
        devices[gpu] = (device){gpu, -1};
        to->device = &devices[gpu];
        to->type = 8;
        to->data = xid;
        return OK;
    }
    return TIMEOUT;
}
