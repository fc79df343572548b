// SPDX-License-Identifier: Apache-2.0
#define EDGE_VLM_ISA scalar
#include "accumulate_scalar.h"
#include "table.h"

namespace edge_vlm {
extern const Kernels scalar_kernels;
const Kernels scalar_kernels = scalar::make_table("scalar");
}  // namespace edge_vlm
