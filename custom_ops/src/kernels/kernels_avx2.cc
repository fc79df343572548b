// SPDX-License-Identifier: Apache-2.0
#define EDGE_VLM_ISA avx2
#include "accumulate_avx2.h"
#include "table.h"

namespace edge_vlm {
extern const Kernels avx2_kernels;
const Kernels avx2_kernels = avx2::make_table("avx2");
}  // namespace edge_vlm
