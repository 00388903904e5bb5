// What a layout chooses of a model: a level of detail, axes and units.
#ifndef TOPOS_SDK_CHOSEN_H
#define TOPOS_SDK_CHOSEN_H

#include "model.h"
#include "streams.h"

namespace topos {

struct Chosen {
  const MeshData* mesh;
  const AxesFacts* axes;
  float unit;     // units a metre
  bool in_order;  // the level's own vertices, without copies for seams

  size_t count() const { return in_order ? mesh->vertices : mesh->source.rows; }
};

// Throws a Fault for a layout that the model does not have; NULL is the default.
Chosen chosen(const Model& model, const topos_layout* given);

// Streams of the caller's, checked against what is to be written of a surface. Throws a Fault.
std::vector<Stream> checked_streams(const topos_stream* streams, uint32_t count, const Surface& surface);

// A vector of the glTF layout in other axes.
inline void turned(const AxesFacts& axes, const float* from, float scale, float* out) {
  for (size_t k = 0; k < 3; ++k) out[k] = from[static_cast<size_t>(axes.from[k])] * axes.sign[k] * scale + 0.0F;
}

}  // namespace topos

#endif
