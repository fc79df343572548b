// SPDX-License-Identifier: Apache-2.0
#define EDGE_VLM_ISA avx512vnni
#include "accumulate_avx512vnni.h"
#include "table.h"

namespace edge_vlm {
extern const Kernels avx512vnni_kernels;
const Kernels avx512vnni_kernels = avx512vnni::make_table("avx512vnni");
}  // namespace edge_vlm
