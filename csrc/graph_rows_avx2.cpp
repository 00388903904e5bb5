#define TOPOS_ROWS_LANES 8
#define TOPOS_ROWS_HEIGHT 4
#define TOPOS_ROWS_WIDTH 3
#include "graph_rows_body.h"

namespace topos {

const RowCode kAvx2Rows = {"avx2", kLanes, scratch_of, block, pack, weighted_sum};

}  // namespace topos
