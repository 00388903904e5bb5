#define TOPOS_ROWS_LANES 16
#define TOPOS_ROWS_HEIGHT 8
#define TOPOS_ROWS_WIDTH 3
#include "graph_rows_body.h"

namespace topos {

const RowCode kAvx512Rows = {"avx512", kLanes, scratch_of, block, pack, weighted_sum};

}  // namespace topos
