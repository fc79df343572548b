// SPDX-License-Identifier: Apache-2.0
#define EDGE_VLM_ISA avxvnni
#include "kernels.h"
#ifdef EDGE_VLM_AVXVNNI_COMPILES
#include "accumulate_avxvnni.h"
#include "table.h"

namespace edge_vlm {
extern const Kernels avxvnni_kernels;
const Kernels avxvnni_kernels = avxvnni::make_table("avxvnni");
}  // namespace edge_vlm
#endif
