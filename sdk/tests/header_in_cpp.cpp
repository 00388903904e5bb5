// The header is C++98.
#include "topos_rt.h"

int main() {
  TOPOS_STRUCT(topos_request, request);
  return request.struct_size == sizeof(topos_request) && topos_abi_version() == TOPOS_ABI_VERSION ? 0 : 1;
}
