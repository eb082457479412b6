/* Copyright (c) 2026, homelab.gpu contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * As much of nvidia-smi as automation uses, over whatever libnvidia-ml.so.1 there is: -L, and --query-gpu with --format=csv. Texts and
 * exit codes of failures are nvidia-smi's own. */

#include <ctype.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nvml_abi.h"

static nvmlReturn_t (*init)(void), (*count_devices)(unsigned int *), (*device_at)(unsigned int, nvmlDevice_t *);
static nvmlReturn_t (*name_of)(nvmlDevice_t, char *, unsigned int), (*uuid_of)(nvmlDevice_t, char *, unsigned int);
static nvmlReturn_t (*pci_of)(nvmlDevice_t, nvmlPciInfo_t *), (*memory_of)(nvmlDevice_t, nvmlMemory_t *);
static nvmlReturn_t (*capability_of)(nvmlDevice_t, int *, int *), (*persistence_of)(nvmlDevice_t, int *);
static nvmlReturn_t (*set_persistence)(nvmlDevice_t, int), (*set_compute_mode)(nvmlDevice_t, int);
static nvmlReturn_t (*driver_version)(char *, unsigned int), (*library_version)(char *, unsigned int);
static nvmlReturn_t (*bus_id_of)(unsigned int, char *, unsigned int);
static const char *(*text_of)(nvmlReturn_t);

static const struct {
    const char *name;
    void *function;
} symbols[] = {
    {"nvmlInit_v2", &init},
    {"nvmlDeviceGetCount_v2", &count_devices},
    {"nvmlDeviceGetHandleByIndex_v2", &device_at},
    {"nvmlDeviceGetName", &name_of},
    {"nvmlDeviceGetUUID", &uuid_of},
    {"nvmlDeviceGetPciInfo_v3", &pci_of},
    {"nvmlDeviceGetMemoryInfo", &memory_of},
    {"nvmlDeviceGetCudaComputeCapability", &capability_of},
    {"nvmlDeviceGetPersistenceMode", &persistence_of},
    {"nvmlDeviceSetPersistenceMode", &set_persistence},
    {"nvmlDeviceSetComputeMode", &set_compute_mode},
    {"nvmlSystemGetDriverVersion", &driver_version},
    {"nvmlSystemGetNVMLVersion", &library_version},
    {"nvmlErrorString", &text_of},
    {"mockBusIdOfIndex", &bus_id_of},
};

static bool load(void)
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);

    for (size_t i = 0; library && i < sizeof symbols / sizeof *symbols; i++)
        if (!(*(void **)symbols[i].function = dlsym(library, symbols[i].name)))
            return false;
    return library;
}

static int start(void)
{
    char version[80] = "";
    nvmlReturn_t result;

    if (!load()) {
        puts("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the NVIDIA Display Driver is properly installed "
             "and present in your system.\nPlease also try adding directory that contains libnvidia-ml.so to your system PATH.");
        return 12;
    }
    result = init();
    if (result == NVML_ERROR_DRIVER_NOT_LOADED) {
        puts("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed "
             "and running.\n");
        return 9;
    }
    if (result != NVML_SUCCESS) {
        printf("Failed to initialize NVML: %s\n", text_of(result));
        if (result == NVML_ERROR_LIB_RM_VERSION_MISMATCH && library_version(version, sizeof version) == NVML_SUCCESS)
            printf("NVML library version: %s\n", strchr(version, '.') ? strchr(version, '.') + 1 : version);
        return result == NVML_ERROR_UNKNOWN ? 255 : result;
    }
    return 0;
}

/* One field of one device, as nvidia-smi writes it. */
static bool show(nvmlDevice_t device, unsigned int index, const char *field, bool units)
{
    char text[96] = "";
    nvmlPciInfo_t pci;
    nvmlMemory_t memory;
    int one, other;
    nvmlReturn_t result;

    if (!strcmp(field, "index")) {
        result = NVML_SUCCESS;
        snprintf(text, sizeof text, "%u", index);
    } else if (!strcmp(field, "name") || !strcmp(field, "gpu_name")) {
        result = name_of(device, text, sizeof text);
    } else if (!strcmp(field, "uuid") || !strcmp(field, "gpu_uuid")) {
        result = uuid_of(device, text, sizeof text);
    } else if (!strcmp(field, "driver_version")) {
        result = driver_version(text, sizeof text);
    } else if (!strcmp(field, "pci.bus_id") || !strcmp(field, "gpu_bus_id")) {
        if ((result = pci_of(device, &pci)) == NVML_SUCCESS)
            snprintf(text, sizeof text, "%s", pci.busId);
    } else if (!strcmp(field, "memory.total") || !strcmp(field, "memory.used") || !strcmp(field, "memory.free")) {
        if ((result = memory_of(device, &memory)) == NVML_SUCCESS) {
            unsigned long long bytes = field[7] == 't' ? memory.total : field[7] == 'u' ? memory.used : memory.free;

            snprintf(text, sizeof text, "%llu%s", bytes >> 20, units ? " MiB" : "");
        }
    } else if (!strcmp(field, "compute_cap")) {
        if ((result = capability_of(device, &one, &other)) == NVML_SUCCESS)
            snprintf(text, sizeof text, "%d.%d", one, other);
    } else if (!strcmp(field, "persistence_mode")) {
        if ((result = persistence_of(device, &one)) == NVML_SUCCESS)
            snprintf(text, sizeof text, "%s", one ? "Enabled" : "Disabled");
    } else {
        return false;
    }
    printf("%s", result == NVML_SUCCESS ? text : result == NVML_ERROR_NOT_SUPPORTED ? "[N/A]" : result == NVML_ERROR_GPU_IS_LOST ? "[GPU is lost]" : "[Unknown Error]");
    return true;
}

static int query(char *fields, bool header, bool units)
{
    unsigned int count = 0, told = 0;
    char *names[32];
    int field_count = 0, code = 0;

    for (char *name = strtok(fields, ", "); name && field_count < 32; name = strtok(NULL, ", "))
        names[field_count++] = name;
    count_devices(&count);
    for (unsigned int i = 0; i < count; i++) {
        nvmlDevice_t device;
        nvmlReturn_t result = device_at(i, &device);

        if (result != NVML_SUCCESS) {
            char bus_id[32] = "";

            bus_id_of(i, bus_id, sizeof bus_id);
            for (char *letter = bus_id; *letter; letter++)
                *letter = toupper(*letter);
            printf("Unable to determine the device handle for GPU%s: %s.  Reboot the system to recover this GPU\n", bus_id, text_of(result));
            code = result == NVML_ERROR_UNKNOWN ? 255 : result;
            continue;
        }
        if (header && !told)
            for (int j = 0; j < field_count; j++)
                printf("%s%s%s", names[j], units && !strncmp(names[j], "memory.", 7) ? " [MiB]" : "", j + 1 < field_count ? ", " : "\n");
        for (int j = 0; j < field_count; j++) {
            if (!show(device, i, names[j], units)) {
                printf("Field \"%s\" is not a valid field to query.\n\n", names[j]);
                return 2;
            }
            printf("%s", j + 1 < field_count ? ", " : "\n");
        }
        told++;
    }
    if (!count) {
        puts("No devices were found");
        return 6;
    }
    return code;
}

static int list(void)
{
    unsigned int count = 0;

    count_devices(&count);
    for (unsigned int i = 0; i < count; i++) {
        nvmlDevice_t device;
        char name[96], uuid[80];
        nvmlReturn_t result = device_at(i, &device);

        if (result == NVML_SUCCESS)
            result = name_of(device, name, sizeof name);
        if (result == NVML_SUCCESS)
            result = uuid_of(device, uuid, sizeof uuid);
        if (result != NVML_SUCCESS) {
            printf("Unable to determine the device handle for gpu %u: %s.  Reboot the system to recover this GPU\n", i, text_of(result));
            return result;
        }
        printf("GPU %u: %s (UUID: %s)\n", i, name, uuid);
    }
    if (!count) {
        puts("No devices found.");
        return 6;
    }
    return 0;
}

static int persist(const char *uuid, bool on)
{
    unsigned int count = 0;
    int told = 0;

    count_devices(&count);
    for (unsigned int i = 0; i < count; i++) {
        nvmlDevice_t device;
        nvmlPciInfo_t pci;
        char own[80];

        if (device_at(i, &device) != NVML_SUCCESS || uuid_of(device, own, sizeof own) != NVML_SUCCESS || (uuid && strcmp(uuid, own)))
            continue;
        if (pci_of(device, &pci) != NVML_SUCCESS || set_persistence(device, on) != NVML_SUCCESS) {
            printf("Unable to set persistence mode for GPU %s\n", own);
            return 4;
        }
        printf("%s persistence mode for GPU %s.\n", on ? "Enabled" : "Disabled", pci.busId);
        told++;
    }
    puts(told ? "All done." : "No devices were found");
    return told ? 0 : 6;
}

/* NVML's number of a mode that is given by number or name, or -1. */
static int compute_mode(const char *text)
{
    static const char *const modes[] = {"DEFAULT", NULL, "PROHIBITED", "EXCLUSIVE_PROCESS"};

    for (int i = 0; i < 4; i++)
        if (modes[i] && (!strcmp(text, modes[i]) || (text[0] == '0' + i && !text[1])))
            return i;
    return -1;
}

static int compute(const char *uuid, const char *text)
{
    unsigned int count = 0;
    int told = 0, mode = compute_mode(text);

    if (mode < 0) {
        printf("Invalid compute mode: %s\n", text);
        return 2;
    }
    count_devices(&count);
    for (unsigned int i = 0; i < count; i++) {
        nvmlDevice_t device;
        nvmlPciInfo_t pci;
        char own[80];
        nvmlReturn_t result = device_at(i, &device);

        if (result == NVML_SUCCESS)
            result = uuid_of(device, own, sizeof own);
        if (result == NVML_SUCCESS && uuid && strcmp(uuid, own))
            continue;
        if (result == NVML_SUCCESS)
            result = pci_of(device, &pci);
        if (result == NVML_SUCCESS)
            result = set_compute_mode(device, mode);
        if (result != NVML_SUCCESS) {
            printf("Unable to set the compute mode of gpu %u: %s\n", i, text_of(result));
            return result;
        }
        printf("Set compute mode to %s for GPU %s.\n", text, pci.busId);
        told++;
    }
    puts(told ? "All done." : "No devices were found");
    return told ? 0 : 6;
}

int main(int argc, char **argv)
{
    char *fields = NULL, *uuid = NULL, *persistence = NULL, *mode = NULL;
    bool header = true, units = true, wants_list = false;
    int code;

    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "--query-gpu=", 12)) {
            fields = argv[i] + 12;
        } else if (!strncmp(argv[i], "--format=", 9)) {
            header = !strstr(argv[i], "noheader");
            units = !strstr(argv[i], "nounits");
        } else if (!strcmp(argv[i], "-L") || !strcmp(argv[i], "--list-gpus")) {
            wants_list = true;
        } else if (!strcmp(argv[i], "-i") && i + 1 < argc) {
            uuid = argv[++i];
        } else if (!strcmp(argv[i], "-pm") && i + 1 < argc) {
            persistence = argv[++i];
        } else if (!strcmp(argv[i], "-c") && i + 1 < argc) {
            mode = argv[++i];
        } else {
            printf("Option \"%s\" is not recognized. Please run 'nvidia-smi -h'.\n", argv[i]);
            return 2;
        }
    }
    if (!fields && !wants_list && !persistence && !mode) {
        puts("This stand-in answers -L, -pm, -c, and --query-gpu=... --format=csv only.");
        return 2;
    }
    code = start();
    return code ? code : persistence ? persist(uuid, *persistence == '1') : mode ? compute(uuid, mode) : fields ? query(fields, header, units) : list();
}
