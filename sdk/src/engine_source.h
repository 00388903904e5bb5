// What a network is made of: files within a pack.
#ifndef TOPOS_SDK_ENGINE_SOURCE_H
#define TOPOS_SDK_ENGINE_SOURCE_H

#include <string>

#include "pack.h"

namespace topos {

struct EngineSource {
  std::string name;  // for messages
  PackFile graph;
  std::string location;  // what the graph calls its file of weights; "" where they are inside
  PackFile weights;
};

}  // namespace topos

#endif
