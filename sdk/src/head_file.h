// A head as a GLB file, and what is said of it there.
#ifndef TOPOS_SDK_HEAD_FILE_H
#define TOPOS_SDK_HEAD_FILE_H

#include <string>

#include "head.h"
#include "settings.h"

namespace topos {

// The bytes of a GLB; flags: TOPOS_EXPORT_*.
std::string glb_of_head(const Head& head, uint32_t lod, uint32_t flags);

// The start of a head's metadata, as HeadPipeline writes it, without the closing brace: of any head of a model, and of
// one that was sampled.
std::string origin_of(const ModelData& data);
std::string about_sampling(const ModelData& data, const Settings& settings);

}  // namespace topos

#endif
