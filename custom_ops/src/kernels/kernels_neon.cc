// SPDX-License-Identifier: Apache-2.0
#define EDGE_VLM_ISA neon
#include "accumulate_neon.h"
#include "table.h"

namespace edge_vlm {
extern const Kernels neon_kernels;
const Kernels neon_kernels = neon::make_table("neon");
}  // namespace edge_vlm
