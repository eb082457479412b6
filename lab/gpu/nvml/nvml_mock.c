/* Copyright (c) 2026, homelab.gpu contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A library with the name and the calls of NVIDIA's libnvidia-ml.so.1. Its GPUs are those of a text file, which every call reads anew;
 * lab/gpu/state.py writes it and tells what the lines mean. Which GPUs there are is fixed at the first nvmlInit, as it is with a driver. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "nvml_abi.h"

#define MOST_GPUS 8
#define MOST_HANDLES 64
#define LOOK_AGAIN_MICROSECONDS 20000
/* The whole file is written, and read, in one call of this size, so nobody sees half of it */
#define STATE_BYTES 4096

struct gpu {
    bool present, lost, persistence;
    int minor, cc_major, cc_minor;
    unsigned long long memory_mib, used_mib, xid, xid_number;
    unsigned int pci_id, pci_subsystem;
    char name[96], uuid[80], bus_id[32];
};

struct state {
    int init_error, wait_error;
    bool hang;
    int cuda, count;
    char driver[32];
    struct gpu gpus[MOST_GPUS];
};

struct handle {
    char uuid[80];
};

struct event_set {
    int count;
    char uuid[MOST_GPUS][80];
    unsigned long long seen[MOST_GPUS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct handle handles[MOST_HANDLES];
static int handle_count, initialised, enumerated_count;
static char enumerated[MOST_GPUS][80];

static void copy(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from);
}

static void read_gpu_line(struct gpu *gpu, const char *key, const char *value)
{
    if (!strcmp(key, "present"))
        gpu->present = atoi(value);
    else if (!strcmp(key, "lost"))
        gpu->lost = atoi(value);
    else if (!strcmp(key, "persistence"))
        gpu->persistence = atoi(value);
    else if (!strcmp(key, "minor"))
        gpu->minor = atoi(value);
    else if (!strcmp(key, "name"))
        copy(gpu->name, sizeof gpu->name, value);
    else if (!strcmp(key, "uuid"))
        copy(gpu->uuid, sizeof gpu->uuid, value);
    else if (!strcmp(key, "pci_address"))
        copy(gpu->bus_id, sizeof gpu->bus_id, value);
    else if (!strcmp(key, "memory_mib"))
        gpu->memory_mib = strtoull(value, NULL, 10);
    else if (!strcmp(key, "used_mib"))
        gpu->used_mib = strtoull(value, NULL, 10);
    else if (!strcmp(key, "compute_capability"))
        sscanf(value, "%d.%d", &gpu->cc_major, &gpu->cc_minor);
    else if (!strcmp(key, "xid"))
        gpu->xid = strtoull(value, NULL, 10);
    else if (!strcmp(key, "xid_number"))
        gpu->xid_number = strtoull(value, NULL, 10);
    else if (!strcmp(key, "pci_id"))
        gpu->pci_id = (unsigned int)strtoul(value, NULL, 16) << 16 | 0x10de;
    else if (!strcmp(key, "pci_subsystem"))
        gpu->pci_subsystem = (unsigned int)strtoul(value, NULL, 16);
}

/* The second path is one that NVIDIA's container toolkit shows to containers. */
static int open_state(int access)
{
    const char *path = getenv("MOCK_NVML_STATE");
    int file = open(path ? path : "/run/mock-nvml/state", access | O_CLOEXEC);

    return file < 0 && !path ? open("/run/nvidia-persistenced/socket", access | O_CLOEXEC) : file;
}

static void read_state(struct state *state)
{
    char content[STATE_BYTES + 1], key[64], *line, *rest = content;
    int number, file = open_state(O_RDONLY);
    ssize_t size = file < 0 ? -1 : read(file, content, STATE_BYTES);

    if (file >= 0)
        close(file);
    memset(state, 0, sizeof *state);
    if (size < 0) {
        state->init_error = NVML_ERROR_DRIVER_NOT_LOADED;
        return;
    }
    content[size] = 0;
    while ((line = strsep(&rest, "\n"))) {
        char *value = strchr(line, '=');

        if (!value)
            continue;
        *value++ = 0;
        if (!strcmp(line, "driver"))
            copy(state->driver, sizeof state->driver, value);
        else if (!strcmp(line, "cuda"))
            state->cuda = atoi(value);
        else if (!strcmp(line, "init_error"))
            state->init_error = atoi(value);
        else if (!strcmp(line, "wait_error"))
            state->wait_error = atoi(value);
        else if (!strcmp(line, "hang"))
            state->hang = atoi(value);
        else if (sscanf(line, "gpu%d.%63s", &number, key) == 2 && number >= 0 && number < MOST_GPUS) {
            if (number >= state->count)
                state->count = number + 1;
            read_gpu_line(&state->gpus[number], key, value);
        }
    }
}

/* The state, for calls that reach the driver: they do not return while it hangs. */
static void ask_driver(struct state *state)
{
    read_state(state);
    while (state->hang) {
        usleep(LOOK_AGAIN_MICROSECONDS);
        read_state(state);
    }
}

static nvmlReturn_t handle_of(const char *uuid, nvmlDevice_t *device)
{
    nvmlReturn_t result = NVML_SUCCESS;

    pthread_mutex_lock(&lock);
    *device = NULL;
    for (int i = 0; i < handle_count && !*device; i++)
        if (!strcmp(handles[i].uuid, uuid))
            *device = &handles[i];
    if (!*device) {
        if (handle_count == MOST_HANDLES) {
            result = NVML_ERROR_UNKNOWN;
        } else {
            *device = &handles[handle_count++];
            copy((*device)->uuid, sizeof(*device)->uuid, uuid);
        }
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static nvmlReturn_t look(nvmlDevice_t device, struct gpu *gpu)
{
    struct state state;

    if (!initialised)
        return NVML_ERROR_UNINITIALIZED;
    if (!device)
        return NVML_ERROR_INVALID_ARGUMENT;
    ask_driver(&state);
    for (int i = 0; i < state.count; i++)
        if (!strcmp(state.gpus[i].uuid, device->uuid) && state.gpus[i].present && !state.gpus[i].lost && !state.init_error) {
            *gpu = state.gpus[i];
            return NVML_SUCCESS;
        }
    return NVML_ERROR_GPU_IS_LOST;
}

static nvmlReturn_t give(char *to, unsigned int size, const char *text)
{
    if (strlen(text) + 1 > size)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(to, text);
    return NVML_SUCCESS;
}

#define LOOK(device)                          \
    struct gpu gpu;                           \
    nvmlReturn_t found = look(device, &gpu);  \
    if (found != NVML_SUCCESS)                \
        return found

/* Start and end */

nvmlReturn_t nvmlInit_v2(void)
{
    struct state state;

    ask_driver(&state);
    if (state.init_error)
        return state.init_error;
    pthread_mutex_lock(&lock);
    if (!initialised++) {
        enumerated_count = 0;
        for (int i = 0; i < state.count; i++)
            if (state.gpus[i].present)
                copy(enumerated[enumerated_count++], sizeof enumerated[0], state.gpus[i].uuid);
    }
    pthread_mutex_unlock(&lock);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlInit(void) { return nvmlInit_v2(); }

nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
    (void)flags;
    return nvmlInit_v2();
}

nvmlReturn_t nvmlShutdown(void)
{
    nvmlReturn_t result = NVML_ERROR_UNINITIALIZED;

    pthread_mutex_lock(&lock);
    if (initialised) {
        initialised--;
        result = NVML_SUCCESS;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

const char *nvmlErrorString(nvmlReturn_t result)
{
    switch (result) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

/* The system */

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int size)
{
    struct state state;

    read_state(&state);
    return give(version, size, state.driver);
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int size)
{
    struct state state;
    char text[64];

    read_state(&state);
    snprintf(text, sizeof text, "%d.%s", state.cuda / 1000, state.driver);
    return give(version, size, text);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    struct state state;

    read_state(&state);
    *version = state.cuda;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

/* Which devices there are */

/* Not NVML's: NVIDIA's own nvidia-smi, too, can name a device that NVML does not open any more. */
nvmlReturn_t mockBusIdOfIndex(unsigned int index, char *bus_id, unsigned int size)
{
    struct state state;

    read_state(&state);
    for (int i = 0; i < state.count && (int)index < enumerated_count; i++)
        if (!strcmp(state.gpus[i].uuid, enumerated[index]))
            return give(bus_id, size, state.gpus[i].bus_id);
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
    if (!initialised)
        return NVML_ERROR_UNINITIALIZED;
    *count = enumerated_count;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned int *count) { return nvmlDeviceGetCount_v2(count); }

static nvmlReturn_t open_device(const char *uuid, nvmlDevice_t *device)
{
    struct gpu gpu;
    nvmlReturn_t result = handle_of(uuid, device);

    return result == NVML_SUCCESS ? look(*device, &gpu) : result;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
    if (!initialised)
        return NVML_ERROR_UNINITIALIZED;
    if ((int)index >= enumerated_count)
        return NVML_ERROR_INVALID_ARGUMENT;
    return open_device(enumerated[index], device);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device) { return nvmlDeviceGetHandleByIndex_v2(index, device); }

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    if (!initialised)
        return NVML_ERROR_UNINITIALIZED;
    for (int i = 0; i < enumerated_count; i++)
        if (!strcmp(enumerated[i], uuid))
            return open_device(uuid, device);
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device)
{
    struct state state;
    unsigned int domain, bus, slot, wanted_domain, wanted_bus, wanted_slot;

    if (!initialised)
        return NVML_ERROR_UNINITIALIZED;
    if (sscanf(bus_id, "%x:%x:%x", &wanted_domain, &wanted_bus, &wanted_slot) != 3)
        return NVML_ERROR_INVALID_ARGUMENT;
    ask_driver(&state);
    for (int i = 0; i < state.count; i++)
        if (sscanf(state.gpus[i].bus_id, "%x:%x:%x", &domain, &bus, &slot) == 3 && domain == wanted_domain && bus == wanted_bus && slot == wanted_slot)
            return open_device(state.gpus[i].uuid, device);
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvmlDevice_t *device) { return nvmlDeviceGetHandleByPciBusId_v2(bus_id, device); }

/* What a device is like */

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int size)
{
    LOOK(device);
    return give(name, size, gpu.name);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int size)
{
    LOOK(device);
    return give(uuid, size, gpu.uuid);
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor)
{
    LOOK(device);
    *minor = gpu.minor;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index)
{
    LOOK(device);
    for (int i = 0; i < enumerated_count; i++)
        if (!strcmp(enumerated[i], gpu.uuid)) {
            *index = i;
            return NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    LOOK(device);
    /* A Tegra has none of its own */
    if (!gpu.memory_mib)
        return NVML_ERROR_NOT_SUPPORTED;
    memory->total = gpu.memory_mib << 20;
    memory->used = gpu.used_mib << 20;
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    nvmlMemory_t plain;
    nvmlReturn_t result = nvmlDeviceGetMemoryInfo(device, &plain);

    if (result == NVML_SUCCESS) {
        memory->total = plain.total;
        memory->reserved = 0;
        memory->used = plain.used;
        memory->free = plain.free;
    }
    return result;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    LOOK(device);
    *major = gpu.cc_major;
    *minor = gpu.cc_minor;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    LOOK(device);
    unsigned int function = 0;

    memset(pci, 0, sizeof *pci);
    sscanf(gpu.bus_id, "%x:%x:%x.%x", &pci->domain, &pci->bus, &pci->device, &function);
    pci->pciDeviceId = gpu.pci_id;
    pci->pciSubSystemId = gpu.pci_subsystem;
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.%X", pci->domain, pci->bus, pci->device, function);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.%X", pci->domain & 0xffff, pci->bus & 0xff, pci->device & 0xff, function & 0xf);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, int *mode)
{
    LOOK(device);
    *mode = gpu.persistence;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetPersistenceMode(nvmlDevice_t device, int mode)
{
    LOOK(device);
    char content[STATE_BYTES + 1], uuid_line[96], *place;
    int file = open_state(O_RDWR), number;
    ssize_t size = file < 0 ? -1 : read(file, content, STATE_BYTES);
    nvmlReturn_t result = NVML_ERROR_UNKNOWN;

    content[size < 0 ? 0 : size] = 0;
    for (number = 0; number < MOST_GPUS; number++) {
        snprintf(uuid_line, sizeof uuid_line, "gpu%d.uuid=%s\n", number, gpu.uuid);
        if (strstr(content, uuid_line))
            break;
    }
    snprintf(uuid_line, sizeof uuid_line, "gpu%d.persistence=", number);
    place = strstr(content, uuid_line);
    if (place && pwrite(file, mode ? "1" : "0", 1, place - content + (off_t)strlen(uuid_line)) == 1)
        result = NVML_SUCCESS;
    if (file >= 0)
        close(file);
    return result;
}

/* Taken and not kept: a container cannot write into the state file, and nothing here computes. */
nvmlReturn_t nvmlDeviceSetComputeMode(nvmlDevice_t device, int mode)
{
    LOOK(device);
    (void)gpu;
    return mode < 0 || mode > 3 ? NVML_ERROR_INVALID_ARGUMENT : NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates)
{
    LOOK(device);
    rates->gpu = rates->memory = 0;
    return NVML_SUCCESS;
}

/* Neither MIG nor NVLink nor fabrics */

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
    (void)device, (void)current, (void)pending;
    return NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count)
{
    LOOK(device);
    *count = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is_mig)
{
    (void)device;
    *is_mig = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t one, nvmlDevice_t other, int *level)
{
    (void)one, (void)other;
    *level = 50; /* the same system, nothing nearer */
    return NVML_SUCCESS;
}

#define NOT_SUPPORTED(name) \
    nvmlReturn_t name(void) { return NVML_ERROR_NOT_SUPPORTED; }

NOT_SUPPORTED(nvmlDeviceGetMigDeviceHandleByIndex)
NOT_SUPPORTED(nvmlDeviceGetAttributes_v2)
NOT_SUPPORTED(nvmlDeviceGetGpuFabricInfo)
NOT_SUPPORTED(nvmlDeviceGetGpuFabricInfoV)
NOT_SUPPORTED(nvmlDeviceGetAddressingMode)
NOT_SUPPORTED(nvmlDeviceGetNvLinkState)
NOT_SUPPORTED(nvmlDeviceGetNvLinkRemotePciInfo_v2)

nvmlReturn_t nvmlDeviceGetVirtualizationMode(nvmlDevice_t device, int *mode)
{
    (void)device;
    *mode = 0;
    return NVML_SUCCESS;
}

/* Events: each rise of a GPU's xid_number is one */

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types)
{
    LOOK(device);
    *types = NVML_EVENT_XID;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
    *set = calloc(1, sizeof **set);
    return *set ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
    free(set);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set)
{
    LOOK(device);
    (void)types;
    for (int i = 0; i < set->count; i++)
        if (!strcmp(set->uuid[i], gpu.uuid))
            return NVML_SUCCESS;
    if (set->count == MOST_GPUS)
        return NVML_ERROR_UNKNOWN;
    copy(set->uuid[set->count], sizeof set->uuid[0], gpu.uuid);
    set->seen[set->count++] = gpu.xid_number;
    return NVML_SUCCESS;
}

static bool next_event(const struct state *state, nvmlEventSet_t set, nvmlEventData_t *data)
{
    for (int i = 0; i < state->count; i++)
        for (int j = 0; j < set->count; j++)
            if (!strcmp(state->gpus[i].uuid, set->uuid[j]) && state->gpus[i].xid_number > set->seen[j]) {
                set->seen[j] = state->gpus[i].xid_number;
                memset(data, 0, sizeof *data);
                data->eventType = NVML_EVENT_XID;
                data->eventData = state->gpus[i].xid;
                data->gpuInstanceId = data->computeInstanceId = 0xffffffff;
                return handle_of(set->uuid[j], &data->device) == NVML_SUCCESS;
            }
    return false;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int milliseconds)
{
    struct timespec start, now;

    clock_gettime(CLOCK_MONOTONIC, &start);
    for (;;) {
        struct state state;

        ask_driver(&state);
        if (next_event(&state, set, data))
            return NVML_SUCCESS;
        clock_gettime(CLOCK_MONOTONIC, &now);
        bool over = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 >= milliseconds;
        /* An error is told after the wait, too: who calls again at once would not sleep any more */
        if (over)
            return state.wait_error ? state.wait_error : NVML_ERROR_TIMEOUT;
        usleep(LOOK_AGAIN_MICROSECONDS);
    }
}

nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int milliseconds) { return nvmlEventSetWait_v2(set, data, milliseconds); }
