// Systems of linear equations.
#ifndef TOPOS_SDK_LINEAR_H
#define TOPOS_SDK_LINEAR_H

#include <vector>

namespace topos {

// Solves matrix [n][n] x = right [n] by elimination with row exchanges and puts x in `right`. Returns false where the
// matrix is singular.
bool solve(std::vector<double> matrix, std::vector<double>& right);

}  // namespace topos

#endif
