// The materials of a GLB. Twin of topos_rt/formats/materials.py and textures.gltf_material.
#ifndef TOPOS_SDK_GLB_MATERIALS_H
#define TOPOS_SDK_GLB_MATERIALS_H

#include <map>
#include <string>
#include <vector>

#include "glb_buffer.h"

namespace topos {

class GlbMaterials {
 public:
  // Adds the scene's pictures to the buffer.
  GlbMaterials(const GlbScene& scene, GlbBuffer& out);

  // The materials of these names, as a JSON array.
  std::string list(const std::vector<std::string_view>& names) const;
  // The document's images, samplers and textures as members of an object; empty without pictures.
  const std::string& tables() const { return tables_; }

 private:
  std::map<std::string_view, std::string> found_;
  std::string tables_;
};

}  // namespace topos

#endif
