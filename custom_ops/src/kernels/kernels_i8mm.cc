// SPDX-License-Identifier: Apache-2.0
#define EDGE_VLM_ISA i8mm
#include "accumulate_i8mm.h"
#include "table.h"

namespace edge_vlm {
extern const Kernels i8mm_kernels;
const Kernels i8mm_kernels = i8mm::make_table("i8mm");
}  // namespace edge_vlm
