#define TOPOS_ROWS_LANES 4
#define TOPOS_ROWS_HEIGHT 4
#define TOPOS_ROWS_WIDTH 2
#include "graph_rows_body.h"

namespace topos {

const RowCode kPlainRows = {"plain", kLanes, scratch_of, block, pack, weighted_sum};

}  // namespace topos
