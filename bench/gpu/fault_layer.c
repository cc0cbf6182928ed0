// A layer for Vulkan's loader that lets the n-th call of a function fail, as a card does that is full or lost, and counts the calls.
//
//   cc -O1 -shared -fPIC -o libfault_layer.so fault_layer.c        (Khronos's headers: libvulkan-dev)
//
// It is loaded by VK_INSTANCE_LAYERS=VK_LAYER_FORGE_fault with VK_LAYER_PATH naming the folder of its manifest. What is set:
//
//   FAULT_LAYER_ONLY    the function that fails, by its name in Vulkan
//   FAULT_LAYER_FAIL    which of its calls fails, counted from 1
//   FAULT_LAYER_CODE    the VkResult that it answers, such as -2, out of device memory, and -4, device lost
//   FAULT_LAYER_TIMES   how many calls in a row fail; 1 without it
//   FAULT_LAYER_COUNTS  a file for what the process asked for, as JSON, when it ends: `of` is the number of calls of each function, `peak`
//                       the most memory that it had of the driver at once
//
// Behind a lost device all calls that may answer so do, unless FAULT_LAYER_ONCE is 1. One device of a process is watched, the last.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define EXPORT __attribute__((visibility("default")))
// Functions that can fail: name, whether a lost device is an answer, parameters, arguments.
#define FUNCTIONS(X)                                                                                                                    \
  X(AllocateMemory, 0, (VkDevice d, const VkMemoryAllocateInfo *i, const VkAllocationCallbacks *a, VkDeviceMemory *o), (d, i, a, o))     \
  X(CreateBuffer, 0, (VkDevice d, const VkBufferCreateInfo *i, const VkAllocationCallbacks *a, VkBuffer *o), (d, i, a, o))               \
  X(BindBufferMemory, 0, (VkDevice d, VkBuffer b, VkDeviceMemory m, VkDeviceSize o), (d, b, m, o))                                       \
  X(MapMemory, 0, (VkDevice d, VkDeviceMemory m, VkDeviceSize o, VkDeviceSize s, VkMemoryMapFlags f, void **p), (d, m, o, s, f, p))      \
  X(CreateShaderModule, 0, (VkDevice d, const VkShaderModuleCreateInfo *i, const VkAllocationCallbacks *a, VkShaderModule *o),           \
    (d, i, a, o))                                                                                                                       \
  X(CreateDescriptorSetLayout, 0,                                                                                                       \
    (VkDevice d, const VkDescriptorSetLayoutCreateInfo *i, const VkAllocationCallbacks *a, VkDescriptorSetLayout *o), (d, i, a, o))      \
  X(CreatePipelineLayout, 0, (VkDevice d, const VkPipelineLayoutCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineLayout *o),     \
    (d, i, a, o))                                                                                                                       \
  X(CreateComputePipelines, 0,                                                                                                          \
    (VkDevice d, VkPipelineCache c, uint32_t n, const VkComputePipelineCreateInfo *i, const VkAllocationCallbacks *a, VkPipeline *o),    \
    (d, c, n, i, a, o))                                                                                                                 \
  X(CreateDescriptorPool, 0, (VkDevice d, const VkDescriptorPoolCreateInfo *i, const VkAllocationCallbacks *a, VkDescriptorPool *o),     \
    (d, i, a, o))                                                                                                                       \
  X(AllocateDescriptorSets, 0, (VkDevice d, const VkDescriptorSetAllocateInfo *i, VkDescriptorSet *o), (d, i, o))                        \
  X(AllocateCommandBuffers, 0, (VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *o), (d, i, o))                        \
  X(BeginCommandBuffer, 0, (VkCommandBuffer b, const VkCommandBufferBeginInfo *i), (b, i))                                               \
  X(EndCommandBuffer, 0, (VkCommandBuffer b), (b))                                                                                       \
  X(QueueSubmit, 1, (VkQueue q, uint32_t n, const VkSubmitInfo *s, VkFence f), (q, n, s, f))                                             \
  X(QueueSubmit2, 1, (VkQueue q, uint32_t n, const VkSubmitInfo2 *s, VkFence f), (q, n, s, f))                                           \
  X(WaitForFences, 1, (VkDevice d, uint32_t n, const VkFence *f, VkBool32 all, uint64_t t), (d, n, f, all, t))                           \
  X(GetFenceStatus, 1, (VkDevice d, VkFence f), (d, f))                                                                                  \
  X(WaitSemaphores, 1, (VkDevice d, const VkSemaphoreWaitInfo *i, uint64_t t), (d, i, t))                                                \
  X(GetSemaphoreCounterValue, 1, (VkDevice d, VkSemaphore s, uint64_t *v), (d, s, v))                                                    \
  X(QueueWaitIdle, 1, (VkQueue q), (q))                                                                                                  \
  X(DeviceWaitIdle, 1, (VkDevice d), (d))

#define NUMBER(name, ...) OF_##name,
enum { FUNCTIONS(NUMBER) COUNT, CREATE_DEVICE = COUNT };
#define NAME(name, ...) "vk" #name,
static const char *const names[] = {FUNCTIONS(NAME) "vkCreateDevice"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long calls[COUNT + 1];
static int is_lost;
static PFN_vkGetInstanceProcAddr of_instance;
static PFN_vkGetDeviceProcAddr of_device;
static VkDevice watched;
#define POINTER(name, ...) static PFN_vk##name next_##name;
FUNCTIONS(POINTER)

static long set(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text ? atol(text) : otherwise;
}

// What a call answers in place of the driver; VK_SUCCESS where it is the driver's.
static VkResult fault(int function, int can_be_lost) {
  const char *only = getenv("FAULT_LAYER_ONLY");
  pthread_mutex_lock(&lock);
  unsigned long call = ++calls[function];
  VkResult answer = is_lost && can_be_lost ? VK_ERROR_DEVICE_LOST : VK_SUCCESS;
  if (only && !strcmp(only, names[function])) {
    unsigned long first = (unsigned long)set("FAULT_LAYER_FAIL", 0);
    if (first && call >= first && call - first < (unsigned long)set("FAULT_LAYER_TIMES", 1)) {
      answer = (VkResult)set("FAULT_LAYER_CODE", VK_ERROR_DEVICE_LOST);
      fprintf(stderr, "fault layer: %s, call %lu, answers %d\n", names[function], call, answer);
      // A card that is lost does not go on computing, as the driver below would.
      if (answer == VK_ERROR_DEVICE_LOST && watched) next_DeviceWaitIdle(watched);
      is_lost |= answer == VK_ERROR_DEVICE_LOST && !set("FAULT_LAYER_ONCE", 0);
    }
  }
  pthread_mutex_unlock(&lock);
  return answer;
}

#define WRAPPER(name, can_be_lost, parameters, arguments)                                                                               \
  static VKAPI_ATTR VkResult VKAPI_CALL own_##name parameters {                                                                         \
    VkResult answer = fault(OF_##name, can_be_lost);                                                                                    \
    return answer == VK_SUCCESS ? next_##name arguments : answer;                                                                       \
  }
FUNCTIONS(WRAPPER)

// What the driver gave of memory and has not got back, and the most that this was.
#define LARGEST 65536
static struct { VkDeviceMemory memory; VkDeviceSize bytes; } given[LARGEST];
static unsigned long long in_use, most;

static VKAPI_ATTR VkResult VKAPI_CALL counted_AllocateMemory(VkDevice d, const VkMemoryAllocateInfo *i, const VkAllocationCallbacks *a,
                                                             VkDeviceMemory *o) {
  VkResult answer = own_AllocateMemory(d, i, a, o);
  if (answer != VK_SUCCESS) return answer;
  pthread_mutex_lock(&lock);
  for (int at = 0;; at++) {
    if (at == LARGEST) abort();
    if (given[at].memory) continue;
    given[at].memory = *o;
    given[at].bytes = i->allocationSize;
    in_use += i->allocationSize;
    if (in_use > most) most = in_use;
    break;
  }
  pthread_mutex_unlock(&lock);
  return answer;
}

static PFN_vkFreeMemory next_FreeMemory;
static VKAPI_ATTR void VKAPI_CALL counted_FreeMemory(VkDevice d, VkDeviceMemory m, const VkAllocationCallbacks *a) {
  pthread_mutex_lock(&lock);
  for (int at = 0; m && at < LARGEST; at++) {
    if (given[at].memory != m) continue;
    given[at].memory = VK_NULL_HANDLE;
    in_use -= given[at].bytes;
    break;
  }
  pthread_mutex_unlock(&lock);
  next_FreeMemory(d, m, a);
}

__attribute__((destructor)) static void tell(void) {
  const char *path = getenv("FAULT_LAYER_COUNTS");
  FILE *file = path ? fopen(path, "w") : NULL;
  if (!file) return;
  fprintf(file, "{\"peak\":%llu,\"of\":{", most);
  const char *between = "";
  for (int i = 0; i <= COUNT; i++) {
    if (!calls[i]) continue;
    fprintf(file, "%s\"%s\":%lu", between, names[i], calls[i]);
    between = ",";
  }
  fputs("}}\n", file);
  fclose(file);
}

static VKAPI_ATTR VkResult VKAPI_CALL own_CreateInstance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *a, VkInstance *o) {
  VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)info->pNext;
  while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO && link->function == VK_LAYER_LINK_INFO))
    link = (VkLayerInstanceCreateInfo *)link->pNext;
  if (!link) return VK_ERROR_INITIALIZATION_FAILED;
  PFN_vkGetInstanceProcAddr next = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  of_instance = next;
  return ((PFN_vkCreateInstance)next(VK_NULL_HANDLE, "vkCreateInstance"))(info, a, o);
}

static VkInstance instance_of_layer;
static VKAPI_ATTR VkResult VKAPI_CALL own_CreateDevice(VkPhysicalDevice p, const VkDeviceCreateInfo *info, const VkAllocationCallbacks *a,
                                                       VkDevice *o) {
  VkResult answer = fault(CREATE_DEVICE, 1);
  if (answer != VK_SUCCESS) return answer;
  VkLayerDeviceCreateInfo *link = (VkLayerDeviceCreateInfo *)info->pNext;
  while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO && link->function == VK_LAYER_LINK_INFO))
    link = (VkLayerDeviceCreateInfo *)link->pNext;
  if (!link) return VK_ERROR_INITIALIZATION_FAILED;
  PFN_vkGetInstanceProcAddr next = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  of_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  answer = ((PFN_vkCreateDevice)next(instance_of_layer, "vkCreateDevice"))(p, info, a, o);
  if (answer != VK_SUCCESS) return answer;
#define RESOLVE(name, ...) next_##name = (PFN_vk##name)of_device(*o, "vk" #name);
  FUNCTIONS(RESOLVE)
  RESOLVE(FreeMemory)
  watched = *o;
#define RESOLVE_KHR(name) \
  if (!next_##name) next_##name = (PFN_vk##name)of_device(*o, "vk" #name "KHR");
  RESOLVE_KHR(QueueSubmit2) RESOLVE_KHR(WaitSemaphores) RESOLVE_KHR(GetSemaphoreCounterValue)
  return VK_SUCCESS;
}

static PFN_vkVoidFunction own(const char *name) {
  if (!strcmp(name, "vkAllocateMemory")) return (PFN_vkVoidFunction)counted_AllocateMemory;
  if (!strcmp(name, "vkFreeMemory")) return (PFN_vkVoidFunction)counted_FreeMemory;
#define OWN(function, ...) \
  if (!strcmp(name, "vk" #function)) return (PFN_vkVoidFunction)own_##function;
  FUNCTIONS(OWN)
  OWN(CreateInstance) OWN(CreateDevice)
#define OWN_KHR(function) \
  if (!strcmp(name, "vk" #function "KHR")) return (PFN_vkVoidFunction)own_##function;
  OWN_KHR(QueueSubmit2) OWN_KHR(WaitSemaphores) OWN_KHR(GetSemaphoreCounterValue)
  return NULL;
}

EXPORT VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetDeviceProcAddr(VkDevice device, const char *name) {
  if (!strcmp(name, "vkGetDeviceProcAddr")) return (PFN_vkVoidFunction)vkGetDeviceProcAddr;
  PFN_vkVoidFunction next = of_device(device, name), ours = own(name);
  // What the driver does not have is not there.
  return next && ours ? ours : next;
}

EXPORT VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance instance, const char *name) {
  if (!strcmp(name, "vkGetInstanceProcAddr")) return (PFN_vkVoidFunction)vkGetInstanceProcAddr;
  if (!strcmp(name, "vkGetDeviceProcAddr")) return (PFN_vkVoidFunction)vkGetDeviceProcAddr;
  if (!strcmp(name, "vkCreateInstance")) return (PFN_vkVoidFunction)own_CreateInstance;
  if (!of_instance) return NULL;
  if (instance) instance_of_layer = instance;
  PFN_vkVoidFunction next = of_instance(instance, name), ours = own(name);
  return next && ours ? ours : next;
}

EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *of) {
  if (of->loaderLayerInterfaceVersion < 2) return VK_ERROR_INITIALIZATION_FAILED;
  of->loaderLayerInterfaceVersion = 2;
  of->pfnGetInstanceProcAddr = vkGetInstanceProcAddr;
  of->pfnGetDeviceProcAddr = vkGetDeviceProcAddr;
  of->pfnGetPhysicalDeviceProcAddr = NULL;
  return VK_SUCCESS;
}
