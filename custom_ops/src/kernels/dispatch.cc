// SPDX-License-Identifier: Apache-2.0
// Which kernels this CPU runs. The build defines EDGE_VLM_X86_KERNELS or EDGE_VLM_ARM_KERNELS where it compiled those
// tables.
#include <cstring>
#include <string>

#include "kernels.h"
#ifdef EDGE_VLM_X86_KERNELS
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#ifdef EDGE_VLM_ARM_KERNELS
#include <sys/auxv.h>
#endif

namespace edge_vlm {

extern const Kernels scalar_kernels;
#ifdef EDGE_VLM_X86_KERNELS
extern const Kernels avx2_kernels;
extern const Kernels avx512vnni_kernels;
#endif
#ifdef EDGE_VLM_AMX_COMPILES
extern const Kernels amx_kernels;
#endif
#ifdef EDGE_VLM_AVXVNNI_COMPILES
extern const Kernels avxvnni_kernels;
#endif
#ifdef EDGE_VLM_ARM_KERNELS
extern const Kernels neon_kernels;
extern const Kernels neondot_kernels;
extern const Kernels i8mm_kernels;
#endif

namespace {

struct Candidate {
  const Kernels* kernels;
  bool (*runs_here)();
};

#ifdef EDGE_VLM_X86_KERNELS
// CPUID leaf 1; older compilers do not know the name for __builtin_cpu_supports.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

// __builtin_cpu_supports also asks whether the operating system saves the registers.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
bool has_avx512vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#endif

#ifdef EDGE_VLM_AMX_COMPILES
// The CPU has tiles, and the system lets this process use them, which must be asked for once (Linux 5.16).
bool has_amx() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kTilesAndInt8 = 3u << 24;  // leaf 7, EDX
  if (!has_avx512vnni() || __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  if ((edx & kTilesAndInt8) != kTilesAndInt8) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

#ifdef EDGE_VLM_AVXVNNI_COMPILES
bool has_avxvnni() { return has_avx2() && __builtin_cpu_supports("avxvnni"); }
#endif

#ifdef EDGE_VLM_ARM_KERNELS
// What the kernel says of the CPU; NEON itself belongs to Armv8.
bool has_dot_product() {
  constexpr unsigned long kAsimdDp = 1ul << 20;  // HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & kAsimdDp) != 0;
}

bool has_matrix_product() {
  constexpr unsigned long kI8mm = 1ul << 13;  // HWCAP2_I8MM
  return has_dot_product() && (getauxval(AT_HWCAP2) & kI8mm) != 0;
}
#endif

const Candidate kBestFirst[] = {
#ifdef EDGE_VLM_AMX_COMPILES
    {&amx_kernels, has_amx},
#endif
#ifdef EDGE_VLM_X86_KERNELS
    {&avx512vnni_kernels, has_avx512vnni},
#endif
#ifdef EDGE_VLM_AVXVNNI_COMPILES
    {&avxvnni_kernels, has_avxvnni},
#endif
#ifdef EDGE_VLM_X86_KERNELS
    {&avx2_kernels, has_avx2},
#endif
#ifdef EDGE_VLM_ARM_KERNELS
    {&i8mm_kernels, has_matrix_product},
    {&neondot_kernels, has_dot_product},
    {&neon_kernels, [] { return true; }},
#endif
    {&scalar_kernels, [] { return true; }},
};

}  // namespace

const Kernels* select_kernels(const char* name) {
  for (const Candidate& candidate : kBestFirst)
    if (candidate.runs_here() && (name == nullptr || std::strcmp(name, candidate.kernels->isa) == 0))
      return candidate.kernels;
  return nullptr;
}

bool is_instruction_set(const char* name) {
  for (const char* known : {"scalar", "avx2", "avxvnni", "avx512vnni", "amx", "neon", "neondot", "i8mm"})
    if (std::strcmp(name, known) == 0) return true;
  return false;
}

const char* available_isas() {
  static const std::string names = [] {
    std::string joined;
    for (const Candidate& candidate : kBestFirst)
      if (candidate.runs_here()) joined += (joined.empty() ? "" : ",") + std::string(candidate.kernels->isa);
    return joined;
  }();
  return names.c_str();
}

int attention_tiles(const AttentionShape& shape, int rows) {
  const int pairs = rows * (shape.query_heads / shape.kv_heads);
  return shape.kv_heads * ((pairs + kQueryTile - 1) / kQueryTile);
}

size_t attention_scratch_bytes(const AttentionCache& cache) {
  const size_t scores = sizeof(float) * kQueryTile * score_stride(cache);
  const size_t planes = 2 * kQueryTile * weight_stride(cache);
  return cache.shape.format == CacheFormat::kInt8 ? scores + planes : scores;
}

void embed(WeightFormat format, const void* table, const float* scale, int width, const int32_t* ids, int rows,
           float* y) {
  const int blocks = blocks_across(WeightFormat::kInt8, width);
  for (int row = 0; row < rows; row++, y += width) {
    const size_t id = ids[row];
    if (format == WeightFormat::kFloat32) {
      std::memcpy(y, static_cast<const float*>(table) + id * width, sizeof(float) * width);
      for (int k = 0; k < width; k++) y[k] *= scale[id];
      continue;
    }
    const int8_t* lane = static_cast<const int8_t*>(table) + (id / kBlockRows * blocks * kBlockBytes) + id % kBlockRows * 4;
    for (int k = 0; k < width; k++) y[k] = static_cast<float>(lane[k / 4 * kBlockBytes + k % 4]) * scale[id];
  }
}

}  // namespace edge_vlm
