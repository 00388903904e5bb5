// The arrays of a GLB: one buffer, and the views and accessors that describe it. Twin of formats/gltf_document.py.
#ifndef TOPOS_SDK_GLB_BUFFER_H
#define TOPOS_SDK_GLB_BUFFER_H

#include <cstdint>
#include <string>
#include <vector>

#include "glb.h"
#include "json.h"

namespace topos {

class GlbBuffer {
 public:
  GlbBuffer();

  // Each adds an accessor and returns its number. values: [n][width].
  int floats(const std::vector<float>& values, size_t width, bool bounds = false);
  int bytes(const std::vector<uint8_t>& values, bool normalized);           // four of a vertex
  int joints(const std::vector<uint16_t>& values, bool as_bytes);           // four of a vertex
  int indices(const std::vector<int32_t>& values, size_t vertices);
  int matrices(const std::vector<float>& values);
  // The morph targets of shapes, as JSON: sparse accessors of the copies [copies] of vertices that move.
  std::string targets(const Shapes& shapes, const MorphNormals& normals, const std::vector<int32_t>& source);
  // Adds the bytes of a file and returns their view.
  int file(std::string_view bytes);

  const std::string& data() const { return data_; }
  std::string views() const { return views_.str() + ']'; }
  std::string accessors() const { return accessors_.str() + ']'; }

 private:
  int view(const void* values, size_t size, int target);
  int accessor(int view, int component, bool normalized, size_t count, const char* type, const std::string& bounds);

  std::string data_;
  Json views_, accessors_;
  int num_views_ = 0, num_accessors_ = 0;
};

}  // namespace topos

#endif
