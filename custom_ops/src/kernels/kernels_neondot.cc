// SPDX-License-Identifier: Apache-2.0
#define EDGE_VLM_ISA neondot
#include "accumulate_neondot.h"
#include "table.h"

namespace edge_vlm {
extern const Kernels neondot_kernels;
const Kernels neondot_kernels = neondot::make_table("neondot");
}  // namespace edge_vlm
