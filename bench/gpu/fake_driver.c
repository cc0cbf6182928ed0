/* A CUDA driver without a card, for tests: it calls itself an H200 (or what FAKE_CUDA_CAPABILITY says, such as 89), keeps the card's
 * memory on the host, takes kernels that the real NVRTC compiled, and counts their launches. It runs none of them, unless there is a card that
 * a CPU plays.
 *
 *   cc -O1 -shared -fPIC -o libcuda.so.1 fake_driver.c
 *
 * FAKE_CUDA_COUNTS=FILE    at the end, what was called how often and how many bytes went which way, as one line of JSON; `of` tells it of
 *                          each function that FAKE_CUDA_FAIL counts, `kernels` of each kernel's launches
 * FAKE_CUDA_FAIL=N         the N-th call that work needs, from 1, fails …
 * FAKE_CUDA_CODE=CODE      … with this CUresult (default 719, a launch that failed); behind one of which CUDA's documentation says that
 *                          any further work returns it, all that follows fails with it, whatever is counted
 * FAKE_CUDA_TIMES=N        … and so do as many calls, it and those behind it (default 1) …
 * FAKE_CUDA_ONLY=NAME      … counting the calls of this function alone
 * FAKE_CUDA_MEMORY=BYTES   how much memory the card has
 * FAKE_CUDA_NAN=N          the N-th answer to whether all values are finite, from 1, is no
 * FAKE_CUDA_COPY=BYTES     how many bytes a card would copy each way in a microsecond …
 * FAKE_CUDA_BLOCK=PS       … and how many picoseconds it would take for a block of threads, one launch after the other, for `elapsed`: when
 *                          it would be done with all of it, in picoseconds, if who asks for it took no time but to wait for the card, or
 *                          to copy memory that is not pinned; `computing` and `copying` tell how long the card does either, and `blocks`
 *                          of how many blocks
 *
 * FAKE_CUDA_CARD=FILE      the library that runs kernels (`card`). The card's memory is no numbers before it is written then
 *
 * Without it some downloads answer as a card would that computes: 16 bytes are the square of the matrix 1 2 3 4, which a program asks for to find out
 * just that, and one byte is 1, the answer to whether all values are finite. A page or more is one float over and over that counts what
 * was launched, and what was uploaded that is no list of shapes, so that a picture tells whether all of it was; what lies in the card's
 * memory depends on which threads were free. All else is what was uploaded, or zeros.
 *
 * The functions and their numbers are those of CUDA's driver API, https://docs.nvidia.com/cuda/cuda-driver-api. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef int Result;
typedef unsigned long long Address;

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_IMAGE = 200, NOT_FOUND = 500, LAUNCH_FAILED = 719 };

/* CUresult's that leave the process "in an inconsistent state and any further CUDA work will return the same error", in the words of
 * cuda.h, or a context that "must be destroyed" or is: errors of memory and links that can't be corrected, an illegal address, a launch
 * that takes too long, a context that is gone, an assertion, and what a kernel may do wrong otherwise. */
static int is_sticky(Result code) {
  static const Result all[] = {214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (all[i] == code) return 1;
  return 0;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long calls, modules, launches, uploads, large, downloads, answers;
static size_t uploaded, downloaded, live, peak;
static unsigned long long blocks;
static int broken;

/* Names, and how often each came. */
typedef struct { const char *name; unsigned long times; } Count;

/* Each function that can fail, and each kernel by its name in the source. */
static Count functions[64], kernels[256];

static Count *counted(Count *counts, size_t room, const char *name) {
  for (size_t i = 0; i < room; i++) {
    if (!counts[i].name) counts[i].name = strdup(name);
    if (!strcmp(counts[i].name, name)) return &counts[i];
  }
  return &counts[room - 1];
}
#define COUNTED(counts, name) counted(counts, sizeof counts / sizeof *counts, name)

/* When what was asked for would be done, in picoseconds: of each stream and event, of each part of the card, which does one thing at a
 * time; and when who asks goes on. The main thread, which computes, and the one that copies weights ahead ask, on streams of their own; while
 * the thread waits that passes on what they ask for, both do. Others only free memory. */
typedef unsigned long long Time;
typedef struct { Time at; int computes; } Clock;
typedef struct { Time free, busy; } Part;
static Part computing, copying, copying_back;
static Time work_goes_on, weights_go_on, last;
static Clock default_stream;
static pthread_t passes_on;

static Clock *clock_of(void *stream) { return stream ? stream : &default_stream; }
static void later(Time *time, Time other) { if (*time < other) *time = other; }

/* A part of the card does something for a stream. */
static void done(Part *part, void *stream, Time takes) {
  pthread_mutex_lock(&lock);
  Clock *clock = clock_of(stream);
  if (part == &computing) clock->computes = 1, passes_on = pthread_self();
  later(&clock->at, clock->computes ? work_goes_on : weights_go_on);
  later(&clock->at, part->free);
  clock->at += takes;
  part->free = clock->at;
  part->busy += takes;
  later(&last, clock->at);
  pthread_mutex_unlock(&lock);
}

/* Who calls goes on when the card has come to a time. */
static Result waits(Time time) {
  char name[16] = "";
  pthread_getname_np(pthread_self(), name, sizeof name);
  pthread_mutex_lock(&lock);
  int is_of_weights = !strcmp(name, "weights"), is_of_both = pthread_equal(pthread_self(), passes_on), is_of_work = gettid() == getpid();
  /* What the one who asked has waited for already keeps nobody. */
  int is_over = is_of_both && time <= weights_go_on;
  if (is_of_weights || is_of_both) later(&weights_go_on, time);
  if (is_of_work || (is_of_both && !is_over)) later(&work_goes_on, time);
  pthread_mutex_unlock(&lock);
  return OK;
}

/* A stream or an event comes to a time. */
static Result comes_to(Clock *clock, Time time) {
  pthread_mutex_lock(&lock);
  later(&clock->at, time);
  pthread_mutex_unlock(&lock);
  return OK;
}

static unsigned long setting(const char *name, unsigned long fallback) {
  const char *text = getenv(name);
  return text ? strtoul(text, 0, 10) : fallback;
}

static void list(FILE *file, const char *key, const Count *counts, size_t room) {
  fprintf(file, ", \"%s\": {", key);
  for (size_t i = 0; i < room && counts[i].name; i++)
    fprintf(file, "%s\"%s\": %lu", i ? ", " : "", counts[i].name, counts[i].times);
  fprintf(file, "}");
}

static void tell(void) {
  const char *path = getenv("FAKE_CUDA_COUNTS");
  FILE *file = path ? fopen(path, "w") : 0;
  if (!file) return;
  fprintf(file,
          "{\"calls\": %lu, \"modules\": %lu, \"launches\": %lu, \"uploads\": %lu, \"uploaded\": %zu, \"downloads\": %lu, "
          "\"downloaded\": %zu, \"answers\": %lu, \"peak\": %zu, \"live\": %zu, \"blocks\": %llu, \"elapsed\": %llu, "
          "\"computing\": %llu, \"copying\": %llu",
          calls, modules, launches, uploads, uploaded, downloads, downloaded, answers, peak, live, blocks, last, computing.busy,
          copying.busy);
  list(file, "of", functions, sizeof functions / sizeof *functions);
  list(file, "kernels", kernels, sizeof kernels / sizeof *kernels);
  fprintf(file, "}\n");
  fclose(file);
}

/* What a call answers before it does anything: the fault, if this is the one that was asked for, or comes behind a sticky one. */
static Result fault(const char *function) {
  const char *only = getenv("FAKE_CUDA_ONLY");
  unsigned long wanted = setting("FAKE_CUDA_FAIL", 0), times = setting("FAKE_CUDA_TIMES", 1);
  Result code = setting("FAKE_CUDA_CODE", LAUNCH_FAILED), answer = OK;
  pthread_mutex_lock(&lock);
  COUNTED(functions, function)->times++;
  if (broken) answer = broken;
  else if ((!only || !strcmp(only, function)) && ++calls >= wanted && wanted && calls - wanted < times) {
    answer = code;
    if (is_sticky(code)) broken = code;
    if (calls == wanted) fprintf(stderr, "fake driver: %s answers %d\n", function, code);
  }
  pthread_mutex_unlock(&lock);
  return answer;
}
#define WORK                          \
  do {                                \
    Result answer_ = fault(__func__); \
    if (answer_) return answer_;      \
  } while (0)

/* The same of calls that only end something: they don't fail by themselves. */
#define GONE               \
  do {                     \
    if (broken) return broken; \
  } while (0)

static void count(unsigned long *times, size_t *bytes, size_t more) {
  pthread_mutex_lock(&lock);
  ++*times;
  if (bytes) *bytes += more;
  pthread_mutex_unlock(&lock);
}

/* The card that a CPU plays, where there is one: see its `driver.rs`. */
static struct {
  void (*memory)(Address address, size_t bytes);
  void *(*module)(const char *text);
  const void *(*kernel)(const void *module, const char *name);
  bool (*launch)(const void *kernel, const unsigned *shape, void **arguments);
} card;

static void played(const char *path) {
  void *library = dlopen(path, RTLD_NOW);
  if (library) {
    card.memory = dlsym(library, "card_memory"), card.module = dlsym(library, "card_module");
    card.kernel = dlsym(library, "card_kernel"), card.launch = dlsym(library, "card_launch");
  }
  if (!card.memory || !card.module || !card.kernel || !card.launch) {
    fprintf(stderr, "fake driver: no card in FAKE_CUDA_CARD: %s\n", library ? path : dlerror());
    exit(1);
  }
}

/* The driver and its one card. */

Result cuInit(unsigned flags) {
  static int is_known;
  if (!is_known) {
    is_known = 1, atexit(tell);
    if (getenv("FAKE_CUDA_CARD")) played(getenv("FAKE_CUDA_CARD"));
  }
  return OK;
}
Result cuGetExportTable(const void **table, const void *id) { return NOT_FOUND; }
Result cuDriverGetVersion(int *version) { return *version = 13000, OK; }
Result cuDeviceGetCount(int *count) { return *count = 1, OK; }
Result cuDeviceGet(int *device, int index) { return index ? INVALID_DEVICE : (*device = 0, OK); }
Result cuDeviceGetName(char *name, int room, int device) { return snprintf(name, room, "Fake H200"), OK; }
Result cuDeviceGetPCIBusId(char *id, int room, int device) { return snprintf(id, room, "0000:01:00.0"), OK; }
Result cuDeviceGetUuid_v2(char *id, int device) { return memset(id, 7, 16), OK; }
static size_t memory(void) { return setting("FAKE_CUDA_MEMORY", 150123446272ul); }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = memory(), OK; }
Result cuMemGetInfo_v2(size_t *left, size_t *all) {
  *all = memory();
  *left = live < *all ? *all - live : 0;
  return OK;
}
Result cuDeviceGetAttribute(int *value, int which, int device) {
  int capability = setting("FAKE_CUDA_CAPABILITY", 90);
  static const int known[][2] = {
      {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, {8, 49152}, {10, 32}, {12, 65536},
      {16, 132}, {81, 233472}, {97, 232448}, {115, 1},
  };
  *value = which == 75 ? capability / 10 : which == 76 ? capability % 10 : 0;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (known[i][0] == which) *value = known[i][1];
  return OK;
}

/* Contexts, streams, events: nothing is ever late. A handle is where its time is kept, and stays. */

static Result handle(void **to) { return *to = calloc(1, sizeof(Clock)), *to ? OK : OUT_OF_MEMORY; }
Result cuDevicePrimaryCtxRetain(void **context, int device) { return *context = (void *)1, OK; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
Result cuCtxSetCurrent(void *context) { return OK; }
Result cuCtxGetCurrent(void **context) { return *context = (void *)1, OK; }
Result cuCtxSynchronize(void) { WORK; return waits(last); }
Result cuCtxGetStreamPriorityRange(int *least, int *most) {
  if (least) *least = 0;
  if (most) *most = -5;
  return OK;
}
Result cuStreamCreate(void **stream, unsigned flags) { WORK; return handle(stream); }
Result cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) { WORK; return handle(stream); }
Result cuStreamDestroy_v2(void *stream) { GONE; return OK; }
Result cuStreamSynchronize(void *stream) { WORK; return waits(clock_of(stream)->at); }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { WORK; return comes_to(clock_of(stream), clock_of(event)->at); }
Result cuStreamIsCapturing(void *stream, int *is) { return *is = 0, OK; }
Result cuEventCreate(void **event, unsigned flags) { WORK; return handle(event); }
Result cuEventRecord(void *event, void *stream) { WORK; return comes_to(event, clock_of(stream)->at); }
Result cuEventQuery(void *event) { WORK; return OK; }
Result cuEventSynchronize(void *event) { WORK; return waits(clock_of(event)->at); }
Result cuEventDestroy_v2(void *event) { GONE; return OK; }
Result cuEventElapsedTime(float *ms, void *from, void *to) { return *ms = 0.01f, OK; }
Result cuEventElapsedTime_v2(float *ms, void *from, void *to) { return *ms = 0.01f, OK; }

/* Memory. The two MiB before a block hold its size, so that blocks are aligned as a driver's are. */

#define HEAD (2ul << 20)
static Result taken(Address *to, size_t bytes) {
  char *block;
  pthread_mutex_lock(&lock);
  int fits = live + bytes <= memory();
  if (fits && (live += bytes) > peak) peak = live;
  pthread_mutex_unlock(&lock);
  if (!fits) return OUT_OF_MEMORY;
  block = mmap(0, bytes + HEAD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) return OUT_OF_MEMORY;
  *(size_t *)block = bytes;
  *to = (Address)(uintptr_t)(block + HEAD);
  if (card.memory) card.memory(*to, bytes), memset(block + HEAD, 0xff, bytes);
  return OK;
}
static Result freed(Address from) {
  if (!from) return OK;
  char *block = (char *)(uintptr_t)from - HEAD;
  size_t bytes = *(size_t *)block;
  if (card.memory) card.memory(from, 0);
  munmap(block, bytes + HEAD);
  pthread_mutex_lock(&lock);
  live -= bytes;
  pthread_mutex_unlock(&lock);
  return OK;
}
Result cuMemAlloc_v2(Address *to, size_t bytes) { WORK; return taken(to, bytes); }
Result cuMemAllocAsync(Address *to, size_t bytes, void *stream) { WORK; return taken(to, bytes); }
Result cuMemFree_v2(Address from) { GONE; return freed(from); }
Result cuMemFreeAsync(Address from, void *stream) { GONE; return freed(from); }
/* Memory of the host that a card reads by itself. */
static struct { char *start; size_t bytes; } pinned[1024];
static Result pin(void **to, size_t bytes) {
  if (posix_memalign(to, 4096, bytes ? bytes : 1)) return OUT_OF_MEMORY;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
    if (!pinned[i].start) {
      pinned[i].start = *to, pinned[i].bytes = bytes;
      break;
    }
  pthread_mutex_unlock(&lock);
  return OK;
}
static int is_pinned(const char *at) {
  int is = 0;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
    is |= pinned[i].start && at >= pinned[i].start && at < pinned[i].start + pinned[i].bytes;
  pthread_mutex_unlock(&lock);
  return is;
}
Result cuMemAllocHost_v2(void **to, size_t bytes) { WORK; return pin(to, bytes); }
Result cuMemHostAlloc(void **to, size_t bytes, unsigned flags) { WORK; return pin(to, bytes); }
Result cuMemFreeHost(void *from) {
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
    if (pinned[i].start == from) pinned[i].start = 0;
  pthread_mutex_unlock(&lock);
  return free(from), OK;
}

static void *host(Address address) { return (void *)(uintptr_t)address; }
static Time copied(size_t bytes) {
  unsigned long rate = setting("FAKE_CUDA_COPY", 0);
  return rate ? (Time)bytes * 1000000 / rate : 0;
}
static void up(const void *from, size_t bytes, void *stream) {
  done(&copying, stream, copied(bytes));
  if (!is_pinned(from)) waits(clock_of(stream)->at);
  count(&uploads, &uploaded, bytes);
  /* How many shapes are uploaded depends on which threads were free. */
  if (bytes >= 512) count(&large, 0, 0);
}
static void down(void *to, size_t bytes, void *stream) {
  done(&copying_back, stream, copied(bytes));
  count(&downloads, &downloaded, bytes);
  if (card.launch) return;
  static const float square[4] = {7, 10, 15, 22};
  if (bytes == sizeof square) memcpy(to, square, bytes);
  pthread_mutex_lock(&lock);
  if (bytes == 1) *(char *)to = ++answers != setting("FAKE_CUDA_NAN", 0);
  /* A float whose halves are numbers too. */
  float counted = (launches + large) % 127 / 128.0f;
  for (size_t i = 0; bytes >= 4096 && i < bytes / sizeof counted; i++) ((float *)to)[i] = counted;
  pthread_mutex_unlock(&lock);
}
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *stream) {
  WORK;
  return memcpy(host(to), from, bytes), up(from, bytes, stream), OK;
}
Result cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) {
  WORK;
  return memcpy(host(to), from, bytes), up(from, bytes, 0), waits(default_stream.at);
}
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *stream) {
  WORK;
  return memcpy(to, host(from), bytes), down(to, bytes, stream), OK;
}
Result cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) {
  WORK;
  return memcpy(to, host(from), bytes), down(to, bytes, 0), waits(default_stream.at);
}
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *stream) {
  WORK;
  return memmove(host(to), host(from), bytes), OK;
}
Result cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void *stream) {
  WORK;
  return memset(host(to), value, bytes), OK;
}
/* CUDA_MEMCPY2D: on both sides a corner, the kind of memory (1 for the host's), its address by kind, and bytes from row to row. */
typedef struct { size_t x, y; unsigned kind; void *host; Address device; void *array; size_t pitch; } Side;
typedef struct { Side from, to; size_t width, height; } Rectangle;
static char *row(const Side *side, size_t y) {
  char *start = side->kind == 1 ? side->host : host(side->device);
  return start + (side->y + y) * side->pitch + side->x;
}
Result cuMemcpy2DAsync_v2(const Rectangle *copy, void *stream) {
  WORK;
  for (size_t y = 0; y < copy->height; y++) memcpy(row(&copy->to, y), row(&copy->from, y), copy->width);
  if (copy->from.kind == 1) up(row(&copy->from, 0), copy->width * copy->height, stream);
  else if (copy->to.kind == 1) down(row(&copy->to, 0), copy->width * copy->height, stream);
  return OK;
}

/* Kernels: each has its count, and what the card knows it by. */

typedef struct { Count *count; const void *kernel; } Function;

Result cuModuleLoadData(void **module, const void *image) {
  WORK;
  count(&modules, 0, 0);
  if (!card.module) return handle(module);
  return *module = card.module(image), *module ? OK : INVALID_IMAGE;
}
Result cuModuleUnload(void *module) { GONE; return OK; }
Result cuModuleGetFunction(void **function, void *module, const char *name) {
  WORK;
  Function *found = malloc(sizeof *found);
  if (!found) return OUT_OF_MEMORY;
  pthread_mutex_lock(&lock);
  found->count = COUNTED(kernels, name);
  pthread_mutex_unlock(&lock);
  found->kernel = card.kernel ? card.kernel(module, name) : 0;
  return *function = found, card.kernel && !found->kernel ? NOT_FOUND : OK;
}
Result cuFuncSetAttribute(void *function, int which, int value) { return which == 8 && value > 232448 ? INVALID_VALUE : OK; }
Result cuFuncGetAttribute(int *value, int which, void *function) { return *value = 0, OK; }
Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                      void *stream, void **arguments, void **extra) {
  WORK;
  count(&launches, 0, 0);
  const Function *called = function;
  count(&called->count->times, 0, 0);
  Time all = (Time)gx * gy * gz;
  done(&computing, stream, all * setting("FAKE_CUDA_BLOCK", 0));
  __sync_add_and_fetch(&blocks, all);
  if (!gx || !gy || !gz || bx * by * bz > 1024 || shared > 232448) return INVALID_VALUE;
  if (!card.launch) return OK;
  const unsigned shape[] = {gx, gy, gz, bx, by, bz, shared};
  if (card.launch(called->kernel, shape, arguments)) return OK;
  return broken = LAUNCH_FAILED;
}
Result cuLaunchKernelEx(const unsigned *shape, void *function, void **arguments, void **extra) {
  return cuLaunchKernel(function, shape[0], shape[1], shape[2], shape[3], shape[4], shape[5], shape[6],
                        *(void **)(shape + 8), arguments, extra);
}
Result cuTensorMapEncodeTiled(void *map, ...) { return OK; }
Result cuTensorMapEncodeIm2col(void *map, ...) { return OK; }

Result cuGetErrorName(Result code, const char **name) { return *name = code ? "FAKE_ERROR" : "CUDA_SUCCESS", OK; }
Result cuGetErrorString(Result code, const char **text) { return *text = code ? "a fault that was asked for" : "no error", OK; }
