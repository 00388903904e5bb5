#include "model_data.h"

#include <algorithm>
#include <string>

#include "model_checks.h"
#include "solvers.h"

namespace topos {
namespace {

constexpr uint64_t kMostNumbers = 1U << 24;  // of a tensor that an image, its tokens or a latent are
constexpr uint32_t kMostVertices = 1U << 24, kLargest = 1U << 20;
constexpr double kMostMemory = 1e12;  // bytes
constexpr int64_t kSurfaces = 3;
constexpr const char* kGraphNames[kGraphs] = {"image_encoder", "dit_modulation", "dit_context",
                                              "dit_step", "dit_step_guided", "vae_decoder"};

}  // namespace

const std::vector<Evidence>& evidence_table() {
  static const std::vector<Evidence> kTable = {
      {"landmarks", {1, 478, 3}, false}, {"pose", {1, 2}, false},     {"expression", {1, 52}, false},
      {"identity", {1, 128}, true},      {"features", {1, 128, 8, 8}, true}, {"aligned", {1, 150, 150, 3}, false},
  };
  return kTable;
}

ModelData::ModelData(const Pack& from) : pack(from) {
  read_settings();
  read_presets();
  read_meshes();
  read_rig();
  read_regions();
  read_parts();
  read_faces();
  read_atlas();
}

void ModelData::read_settings() {
  if (pack.strings(Kind::kAbout) != kAbouts) {
    wrong("texts", std::to_string(pack.strings(Kind::kAbout)), std::to_string(static_cast<int>(kAbouts)));
  }
  for (size_t at = 0; at < kAbouts; ++at) about.push_back(pack.string(Kind::kAbout, at));
  const auto sizes = pack.exactly<uint32_t>(Kind::kSizes, 1, kSizesCount);
  const auto numbers = pack.exactly<double>(Kind::kNumbers, 1, kNumbersCount);
  const auto turn = pack.exactly<float>(Kind::kRotation, 3, 3);
  std::copy(sizes.data, sizes.data + kSizesCount, size);
  std::copy(numbers.data, numbers.data + kNumbersCount, number);
  std::copy(turn.data, turn.data + 9, rotation);
  require_finite(turn, "rotation");
  topology_id = pack.exactly<uint8_t>(Kind::kTopologyId, 1, 32).data;
  for (int at = kImageHeight; at <= kLatentChannels; ++at) {
    if (size[at] == 0 || size[at] > kLargest) wrong("sizes", std::to_string(size[at]), "1 to 2^20");
  }
  const uint64_t products[] = {uint64_t{3} * size[kImageHeight] * size[kImageWidth],
                               uint64_t{size[kTokens]} * size[kTokenChannels],
                               uint64_t{size[kLatentTokens]} * size[kLatentChannels]};
  for (const uint64_t count : products) {
    if (count > kMostNumbers) wrong("sizes", "a tensor of " + std::to_string(count) + " numbers", "up to 2^24");
  }
  if (size[kVertices] == 0 || size[kVertices] > kMostVertices) {
    wrong("vertices", std::to_string(size[kVertices]), "1 to 2^24");
  }
  const std::vector<Evidence>& table = evidence_table();
  if (size[kEvidence] >> table.size() != 0) {
    fail(TOPOS_E_UNSUPPORTED, "evidence that the model takes", "some that this library does not know", "",
         "use a later version of this library");
  }
  for (size_t at = 0; at < table.size(); ++at) {
    if ((size[kEvidence] >> at & 1U) != 0) evidence.push_back(&table[at]);
  }
  const auto within = [this](Number which, double low, double high) {
    if (!(number[which] >= low && number[which] <= high)) {
      wrong("numbers", std::to_string(number[which]), std::to_string(low) + " to " + std::to_string(high));
    }
  };
  within(kSigmaMin, 0, 1);
  within(kGuidance, 0, 1000);
  within(kTemperature, 0, 2);
  within(kRadius, 1e-9, 1e6);
  if (estimates()) within(kResidualScale, 1e-30, 1e3);
  memory = pack.rows<double>(Kind::kMemory, kMeasuredCount);
  for (size_t at = 0; at < memory.count(); ++at) {
    if (!(memory[at] >= 0 && memory[at] <= kMostMemory)) wrong("memory", "a number out of range", "0 to 1e12 bytes");
  }
  if (pack.strings(Kind::kLicenceNames) != pack.strings(Kind::kLicenceTexts)) {
    wrong("licences", "other names than texts", "a text for each");
  }
  variation = pack.rows<float>(Kind::kVariation, 0);
  if (variation.rows > 0) {
    within(kOpenTemperature, 0, 2);
    require_finite(variation, "variation");
    if (variation.columns != latent()) {
      wrong("variation", std::to_string(variation.columns) + " columns", std::to_string(latent()));
    }
  }
}

void ModelData::read_presets() {
  const size_t count = pack.strings(Kind::kPresetNames), solvers = pack.strings(Kind::kSolverNames);
  const auto counts = pack.exactly<uint32_t>(Kind::kPresetCounts, count, 3);
  const auto numbers = pack.exactly<double>(Kind::kPresetNumbers, count, 5);
  if (count == 0 || size[kDefaultPreset] >= count) wrong("presets", std::to_string(count), "one or more");
  for (size_t at = 0; at < count; ++at) {
    const uint32_t* whole = counts.row(at);
    const double* real = numbers.row(at);
    presets.push_back({whole[0], whole[1], whole[2], real[0], real[1], real[2], real[3], real[4], {}});
    const auto row = static_cast<uint16_t>(at);
    if (pack.has(Kind::kPresetTimes, row)) {
      const auto own = pack.rows<double>(Kind::kPresetTimes, 1, row);
      PackPreset& preset = presets.back();
      preset.times.assign(own.data, own.data + own.count());
      preset.shift = 1;  // of the grid that steps of the caller's get; the pack's is NaN for libraries before this one
      if (!is_time_grid(preset.times) || preset.times.size() != size_t{whole[0]} + 1) {
        wrong("times of a preset", std::to_string(own.count()) + " numbers", "its steps + 1, falling from 1 to 0");
      }
    }
    preset_names.push_back(pack.string(Kind::kPresetNames, at));
    if (whole[1] >= solvers) wrong("solver of a preset", std::to_string(whole[1]), "one of its names");
  }
}

std::vector<MeshData> ModelData::levels_from(uint16_t first) const {
  std::vector<MeshData> levels;
  const int end = first + kAtlasMesh;
  for (uint16_t level = first; level < end && pack.has(Kind::kMeshVertices, level); ++level) {
    MeshData mesh;
    mesh.vertices = *pack.exactly<uint32_t>(Kind::kMeshVertices, 1, 1, level).data;
    mesh.source = pack.rows<int32_t>(Kind::kMeshSource, 1, level);
    mesh.triangles = pack.rows<int32_t>(Kind::kMeshTriangles, 3, level);
    mesh.uvs = pack.rows<float>(Kind::kMeshUvs, 2, level);
    const size_t count = mesh.source.rows;
    const bool fits = mesh.vertices > 0 && mesh.vertices <= count && count <= kMostVertices &&
                      mesh.triangles.rows > 0 && (mesh.uvs.rows == 0 || mesh.uvs.rows == count);
    if (!fits) wrong("mesh " + std::to_string(level), std::to_string(count) + " vertices", "a whole mesh");
    require_below(mesh.source, 0, size[kVertices], "mesh_source");
    require_below(mesh.triangles, 0, static_cast<int64_t>(count), "mesh_triangles");
    require_finite(mesh.uvs, "mesh_uvs");
    if (pack.has(Kind::kMeshSurfaces, level)) {
      mesh.surfaces = pack.exactly<uint8_t>(Kind::kMeshSurfaces, mesh.triangles.rows, 1, level);
      mesh.shade = pack.exactly<uint8_t>(Kind::kMeshShade, count, 1, level);
      require_below(mesh.surfaces, 0, kSurfaces, "mesh_surfaces");
    }
    std::vector<int32_t> own(size[kVertices], 0);
    for (uint32_t at = 0; at < mesh.vertices; ++at) {
      own[static_cast<size_t>(mesh.source[at])] = static_cast<int32_t>(at);
    }
    for (size_t at = 0; at < mesh.triangles.count(); ++at) {
      const auto copy = static_cast<size_t>(mesh.triangles[at]);
      mesh.corners.push_back(own[static_cast<size_t>(mesh.source[copy])]);
    }
    levels.push_back(std::move(mesh));
  }
  return levels;
}

void ModelData::read_meshes() {
  meshes = levels_from(0);
  if (meshes.empty() || meshes[0].vertices != size[kVertices]) wrong("meshes", "none of all vertices", "one");
}

void ModelData::read_regions() {
  region_offsets = pack.exactly<int32_t>(Kind::kRegionOffsets, pack.strings(Kind::kRegionNames) + 1, 1);
  region_vertices = pack.rows<int32_t>(Kind::kRegionVertices, 1);
  require_offsets(region_offsets, region_vertices.rows, "region_offsets");
  require_below(region_vertices, 0, size[kVertices], "region_vertices");
}

EngineSource ModelData::graph(Graph which, bool half) const {
  half = half && pack.has(Kind::kGraphFp16, static_cast<uint16_t>(which));
  const auto files = pack.exactly<int32_t>(Kind::kGraphWeights, kGraphs, 2);
  const char* location = pack.string(half ? Kind::kGraphFp16Locations : Kind::kGraphLocations, which);
  const int32_t weights = files.row(which)[half ? 1 : 0];
  EngineSource source;
  source.name = kGraphNames[which];
  source.graph = pack.hashed_file(half ? Kind::kGraphFp16 : Kind::kGraph, static_cast<uint16_t>(which));
  if (weights >= 0 && weights < 0xffff) {
    source.location = location == nullptr ? "" : location;
    source.weights = pack.hashed_file(Kind::kWeights, static_cast<uint16_t>(weights));
  }
  return source;
}

}  // namespace topos
