/*
 * A libnvidia-ml.so.1 without a GPU: it answers what the file named by FAKE_NVML says, read anew at every call.
 *
 * Each line is: SUBJECT KEY VALUE. The subject is `system`, a GPU's UUID, or `pid`. A missing line is NOT_SUPPORTED,
 * `!15` is error 15, `hang` blocks until the line is gone. Without a file the driver is not loaded.
 * FAKE_INIT, at compile time, is the key by which opening it is asked for: so one library can fail and another not.
 * Only what the tests need of NVML's interface is here, with the layouts that pynvml declares.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#ifndef FAKE_INIT
#define FAKE_INIT "init"
#endif
#define MAX_NAMES 64
#define NAME_SIZE 96
#define VALUE_SIZE 1024

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };

typedef unsigned long long u64;

static char uuids[MAX_NAMES][NAME_SIZE]; /* a handle points at one */
static struct {
  char key[NAME_SIZE];
  unsigned count;
} calls[MAX_NAMES];
static int initialised;
static u64 nanoseconds;

static u64 now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

/* How often a key was asked for since the process began. */
API unsigned fake_calls(const char *key) {
  for (int i = 0; i < MAX_NAMES && calls[i].count; i++)
    if (!strcmp(calls[i].key, key)) return calls[i].count;
  return 0;
}

/* The time that was spent in here. */
API u64 fake_nanoseconds(void) { return nanoseconds; }

static void count(const char *key) {
  for (int i = 0; i < MAX_NAMES; i++)
    if (!calls[i].count || !strcmp(calls[i].key, key)) {
      snprintf(calls[i].key, NAME_SIZE, "%s", key);
      calls[i].count++;
      return;
    }
}

/* Copy the value of a line; 0 when there is no file, 1 when there is no line, 2 when it was found. */
static int find(const char *subject, const char *key, char *value) {
  const char *path = getenv("FAKE_NVML");
  FILE *file = path ? fopen(path, "r") : NULL;
  if (!file) return 0;
  char line[VALUE_SIZE + 2 * NAME_SIZE], wanted[2 * NAME_SIZE + 2];
  size_t length = (size_t)snprintf(wanted, sizeof wanted, "%s %s ", subject, key);
  int found = 1;
  while (found == 1 && fgets(line, sizeof line, file))
    if (!strncmp(line, wanted, length)) {
      line[strcspn(line, "\n")] = 0;
      snprintf(value, VALUE_SIZE, "%s", line + length);
      found = 2;
    }
  fclose(file);
  return found;
}

static int ask(const char *subject, const char *key, char *value) {
  u64 began = now();
  count(key);
  int found = find(subject, key, value);
  while (found == 2 && !strcmp(value, "hang")) {
    usleep(1000);
    found = find(subject, key, value);
  }
  int result = found == 0 ? DRIVER_NOT_LOADED : found == 1 ? NOT_SUPPORTED : value[0] == '!' ? atoi(value + 1) : SUCCESS;
  nanoseconds += now() - began;
  return result;
}

static int initialise(void) {
  char value[VALUE_SIZE];
  int result = ask("system", FAKE_INIT, value);
  if (result == NOT_SUPPORTED) result = SUCCESS;
  if (result == SUCCESS) initialised++;
  return result;
}

API int nvmlInit_v2(void) { return initialise(); }
API int nvmlInitWithFlags(unsigned flags) { return (void)flags, initialise(); }

API int nvmlShutdown(void) {
  count("shutdown");
  if (!initialised) return UNINITIALIZED;
  initialised--;
  return SUCCESS;
}

API const char *nvmlErrorString(int code) {
  static char text[32];
  snprintf(text, sizeof text, "fake error %d", code);
  return text;
}

static int ask_text(const char *subject, const char *key, char *text, unsigned size) {
  char value[VALUE_SIZE];
  if (!initialised) return UNINITIALIZED;
  int result = ask(subject, key, value);
  if (result == SUCCESS) snprintf(text, size, "%s", value);
  return result;
}

static int ask_uint(const char *subject, const char *key, unsigned *out) {
  char value[VALUE_SIZE];
  if (!initialised) return UNINITIALIZED;
  int result = ask(subject, key, value);
  if (result == SUCCESS) *out = (unsigned)strtoul(value, NULL, 10);
  return result;
}

static int ask_u64(const char *subject, const char *key, u64 *out) {
  char value[VALUE_SIZE];
  if (!initialised) return UNINITIALIZED;
  int result = ask(subject, key, value);
  if (result == SUCCESS) *out = strtoull(value, NULL, 10);
  return result;
}

/* Point at the name of that number in a list like `GPU-1 GPU-2`; `-` is a gap. A name of its own may be a fault. */
static int nth(char *list, unsigned index, char **device) {
  char *name = strtok(list, " ");
  while (name && index--) name = strtok(NULL, " ");
  if (!name || !strcmp(name, "-")) return NOT_FOUND;
  for (int i = 0; i < MAX_NAMES; i++)
    if (!uuids[i][0] || !strcmp(uuids[i], name)) {
      snprintf(uuids[i], NAME_SIZE, "%s", name);
      *device = uuids[i];
      return SUCCESS;
    }
  return INVALID_ARGUMENT;
}

API int nvmlSystemGetDriverVersion(char *text, unsigned size) { return ask_text("system", "driver", text, size); }

API int nvmlSystemGetProcessName(unsigned pid, char *text, unsigned size) {
  char key[NAME_SIZE];
  snprintf(key, sizeof key, "%u", pid);
  return ask_text("pid", key, text, size);
}

API int nvmlDeviceGetCount_v2(unsigned *out) {
  char list[VALUE_SIZE];
  if (!initialised) return UNINITIALIZED;
  int result = ask("system", "gpus", list);
  if (result == SUCCESS) {
    *out = 0;
    for (char *name = strtok(list, " "); name; name = strtok(NULL, " ")) ++*out;
  }
  return result == NOT_SUPPORTED ? (*out = 0, SUCCESS) : result;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, char **device) {
  char list[VALUE_SIZE], fault[VALUE_SIZE];
  if (!initialised) return UNINITIALIZED;
  int result = ask("system", "gpus", list);
  if (result == SUCCESS) result = nth(list, index, device);
  if (result == SUCCESS) result = ask(*device, "handle", fault);
  return result == NOT_SUPPORTED ? SUCCESS : result;
}

API int nvmlDeviceGetUUID(char *device, char *text, unsigned size) {
  char fault[VALUE_SIZE];
  int result = ask(device, "uuid", fault);
  snprintf(text, size, "%s", device);
  return result == NOT_SUPPORTED ? SUCCESS : result;
}

API int nvmlDeviceGetName(char *device, char *text, unsigned size) { return ask_text(device, "name", text, size); }

API int nvmlDeviceGetUtilizationRates(char *device, unsigned *out) {
  out[1] = 0; /* of the memory's bus, which nobody asks for */
  return ask_uint(device, "utilization", out);
}

typedef struct {
  u64 total, free, used;
} Memory;

typedef struct {
  unsigned version;
  u64 total, reserved, free, used;
} MemoryV2;

/* The value is: total reserved used. */
static int ask_memory(const char *device, const char *key, u64 *total, u64 *reserved, u64 *used) {
  char value[VALUE_SIZE];
  if (!initialised) return UNINITIALIZED;
  int result = ask(device, key, value);
  if (result == SUCCESS && sscanf(value, "%llu %llu %llu", total, reserved, used) != 3) return INVALID_ARGUMENT;
  return result;
}

API int nvmlDeviceGetMemoryInfo(char *device, Memory *out) {
  u64 reserved = 0;
  int result = ask_memory(device, "memory_v1", &out->total, &reserved, &out->used);
  out->free = out->total - out->used;
  return result;
}

API int nvmlDeviceGetMemoryInfo_v2(char *device, MemoryV2 *out) {
  int result = ask_memory(device, "memory", &out->total, &out->reserved, &out->used);
  out->free = out->total - out->reserved - out->used;
  return result;
}

#define UINT(function, key) \
  API int function(char *device, unsigned *out) { return ask_uint(device, key, out); }
#define U64(function, key) \
  API int function(char *device, u64 *out) { return ask_u64(device, key, out); }
#define CHOICE(function, first, second) \
  API int function(char *device, unsigned which, unsigned *out) { return ask_uint(device, which ? second : first, out); }
#define SAMPLED(function, key) \
  API int function(char *device, unsigned *out, unsigned *period) { return *period = 0, ask_uint(device, key, out); }

UINT(nvmlDeviceGetPowerUsage, "power")
UINT(nvmlDeviceGetEnforcedPowerLimit, "power_limit")
UINT(nvmlDeviceGetFanSpeed, "fan")
UINT(nvmlDeviceGetPerformanceState, "pstate")
UINT(nvmlDeviceGetMaxMigDeviceCount, "mig_count")
U64(nvmlDeviceGetTotalEnergyConsumption, "energy")
U64(nvmlDeviceGetCurrentClocksEventReasons, "reasons")
U64(nvmlDeviceGetCurrentClocksThrottleReasons, "reasons_v1")
CHOICE(nvmlDeviceGetTemperature, "temperature", "temperature_max")
CHOICE(nvmlDeviceGetClockInfo, "clock", "memory_clock")
CHOICE(nvmlDeviceGetPcieThroughput, "pcie_tx", "pcie_rx")
SAMPLED(nvmlDeviceGetEncoderUtilization, "encoder")
SAMPLED(nvmlDeviceGetDecoderUtilization, "decoder")

API int nvmlDeviceGetTotalEccErrors(char *device, unsigned type, unsigned counter, u64 *out) {
  return counter != 1 ? NOT_SUPPORTED : ask_u64(device, type ? "ecc_uncorrected" : "ecc_corrected", out);
}

API int nvmlDeviceGetMigMode(char *device, unsigned *current, unsigned *pending) {
  int result = ask_uint(device, "mig_mode", current);
  *pending = *current;
  return result;
}

API int nvmlDeviceGetMigDeviceHandleByIndex(char *device, unsigned index, char **instance) {
  char list[VALUE_SIZE];
  if (!initialised) return UNINITIALIZED;
  int result = ask(device, "mig", list);
  return result == SUCCESS ? nth(list, index, instance) : result;
}

typedef struct {
  unsigned pid;
  u64 memory;
  unsigned gpu_instance, compute_instance;
} Process;

/* The value is: pid bytes pid bytes ... */
static int ask_processes(const char *device, const char *key, unsigned *size, Process *out) {
  char value[VALUE_SIZE];
  if (!initialised) return UNINITIALIZED;
  int result = ask(device, key, value);
  if (result != SUCCESS) return result;
  unsigned room = *size, used = 0;
  char *at = value;
  unsigned pid;
  u64 memory;
  int length;
  while (sscanf(at, "%u %llu%n", &pid, &memory, &length) == 2) {
    if (used < room && out) out[used] = (Process){pid, memory, ~0u, ~0u};
    used++;
    at += length;
  }
  *size = used;
  return used > room ? INSUFFICIENT_SIZE : SUCCESS;
}

API int nvmlDeviceGetComputeRunningProcesses_v3(char *device, unsigned *size, Process *out) {
  return ask_processes(device, "compute", size, out);
}
API int nvmlDeviceGetGraphicsRunningProcesses_v3(char *device, unsigned *size, Process *out) {
  return ask_processes(device, "graphics", size, out);
}
