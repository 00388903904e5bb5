#include "texture.h"

#include <algorithm>
#include <memory>

#include "picture_files.h"
#include "raster.h"
#include "shims.h"
#include "spectacles_weights.h"

namespace {

struct Prepared {
  topos::Atlas atlas;
  topos::TexturePlan plan;
  topos::TextureMaps maps;  // the last

  Prepared(const topos::Atlas& of, int side) : atlas(of), plan(of, side) {}
};

template <class T>
const T* array(const void* from) {
  return static_cast<const T*>(from);
}

template <class T>
uint64_t copied(const std::vector<T>& values, void* out) {
  if (out != nullptr) std::copy(values.begin(), values.end(), static_cast<T*>(out));
  return values.size();
}

topos::Grid grid_of(const float* values, uint64_t height, uint64_t width, uint64_t channels) {
  topos::Grid made(static_cast<int>(height), static_cast<int>(width), static_cast<int>(channels));
  std::copy_n(values, made.values.size(), made.values.begin());
  return made;
}

}  // namespace

// arrays and sizes: of topos::Atlas, in its order. sizes: vertices, copies, triangles, sides, base_side, warp's rows and
// columns, and the side of the texture.
SHIM void* texture_new(const void* const* arrays, const uint64_t* sizes, double mirror) {
  topos::Atlas atlas;
  atlas.vertices = sizes[0];
  atlas.copies = sizes[1];
  atlas.triangles = sizes[2];
  atlas.sides = sizes[3];
  atlas.base_side = static_cast<int>(sizes[4]);
  atlas.warp_rows = sizes[5];
  atlas.warp_columns = sizes[6];
  atlas.corners = array<int32_t>(arrays[0]);
  atlas.copy_corners = array<int32_t>(arrays[1]);
  atlas.uvs = array<float>(arrays[2]);
  atlas.parts = array<uint8_t>(arrays[3]);
  atlas.ends = array<int32_t>(arrays[4]);
  atlas.landmark_uvs = array<float>(arrays[5]);
  atlas.masks = array<uint8_t>(arrays[6]);
  atlas.base = array<uint8_t>(arrays[7]);
  atlas.warp = array<uint16_t>(arrays[8]);
  atlas.warp_vertices = array<int32_t>(arrays[9]);
  atlas.warp_landmarks = array<int32_t>(arrays[10]);
  atlas.mirror = mirror;
  return new Prepared(atlas, static_cast<int>(sizes[7]));
}

SHIM void texture_delete(Prepared* made) { delete made; }

// window: rows and columns of texels. Returns the number of texels' vertices.
SHIM void texture_window(const Prepared* made, int32_t* window) {
  const topos::Window& at = made->plan.window;
  const int32_t values[] = {at.top, at.bottom, at.left, at.right};
  std::copy(std::begin(values), std::end(values), window);
}

// Returns how many numbers a table of the plan has, and writes them where `out` is given.
SHIM uint64_t texture_table(const Prepared* made, int64_t which, void* out) {
  const topos::TexturePlan& plan = made->plan;
  switch (which) {
    case 0: return copied(plan.vertices, out);
    case 1: return copied(plan.weights, out);
    case 2: return copied(plan.base.values, out);
    case 3: return copied(plan.log_base, out);
    case 4: return copied(plan.depth.values, out);
    case 5: return copied(plan.skin.values, out);
    case 6: return copied(plan.covered.values, out);
    case 7: return copied(plan.samples, out);
    case 8: return copied(plan.eyes, out);
    case 9: return copied(plan.scalp, out);
    case 10: return copied(plan.parts.values, out);
    case 11: return copied(plan.grain.values, out);
    default: return copied(topos::spectacles_zone(made->atlas).values, out);
  }
}

SHIM void texture_of_nothing(Prepared* made) { made->maps = topos::base_texture(made->plan, made->atlas); }

// shown: positions, normals and landmarks; map: as of head_fit; camera: as of camera_project. face: size and yaw.
SHIM void texture_project(Prepared* made, const void* const* shown, const void* const* map, const double* camera,
                          const uint8_t* pixels, uint64_t width, uint64_t height, uint64_t channels, const double* face) {
  topos::Sitter sitter;
  sitter.positions = array<float>(shown[0]);
  sitter.normals = array<float>(shown[1]);
  sitter.landmarks = array<float>(shown[2]);
  sitter.landmark_map = {array<int32_t>(map[0]), array<float>(map[1]), array<float>(map[2]), array<int32_t>(map[3]),
                         array<int32_t>(map[4])};
  std::copy_n(camera, 9, sitter.camera.turn.begin());
  std::copy_n(camera + 9, 3, sitter.camera.shift.begin());
  sitter.camera.focal = camera[12];
  sitter.camera.centre = {camera[13], camera[14]};
  topos::Picture picture(static_cast<int>(width), static_cast<int>(height), static_cast<int>(channels));
  std::copy_n(pixels, picture.bytes(), picture.pixels.begin());
  made->maps = topos::projected_texture(made->plan, made->atlas, sitter, picture, face[0], face[1]);
}

// A map of the last texture: albedo, ORM, normals, confidence.
SHIM uint64_t texture_map(const Prepared* made, int64_t which, void* out) {
  const topos::TextureMaps& maps = made->maps;
  const std::vector<uint8_t>* all[] = {&maps.albedo, &maps.orm, &maps.relief, &maps.confidence};
  return copied(*all[which], out);
}

// The facts of the last texture and its notes, each ended by a line feed.
SHIM void texture_facts(const Prepared* made, char* text) {
  std::string said = "{" + made->maps.facts() + "}\n";
  for (const std::string& note : made->maps.notes) said += note + "\n";
  *std::copy(said.begin(), said.end(), text) = 0;
}

// which: 0 blurred by `amount`, 1 shrunk, 2 grown.
SHIM void scale_grid(int64_t which, const float* values, uint64_t height, uint64_t width, uint64_t channels,
                     double amount, float* out) {
  const topos::Grid given = grid_of(values, height, width, channels);
  const int step = static_cast<int>(amount);
  copied((which == 0 ? topos::blurred(given, amount) : which == 1 ? shrunk(given, step) : grown(given, step)).values, out);
}

SHIM void fill_grid(const float* values, const float* weights, uint64_t side, uint64_t channels, float* out) {
  copied(topos::filled(grid_of(values, side, side, channels), grid_of(weights, side, side, 1)).values, out);
}

// which: 0 the piece of an area that is reached from a seed, 1 how far inside the area cells are.
SHIM void area_grid(int64_t which, const uint8_t* area, const uint8_t* seed, uint64_t height, uint64_t width, float* out) {
  topos::Area inside(static_cast<int>(height), static_cast<int>(width)), from = inside;
  std::copy_n(area, inside.cells(), inside.values.begin());
  std::copy_n(seed, from.cells(), from.values.begin());
  if (which == 1) {
    copied(topos::depth_inside(inside).values, out);
    return;
  }
  const topos::Area found = topos::largest_piece(inside, from);
  std::copy(found.values.begin(), found.values.end(), out);
}

SHIM void rasterize(const double* screen, uint64_t count, const int32_t* triangles, uint64_t number, uint64_t height,
                    uint64_t width, int64_t cull, int32_t* triangle, float* weights) {
  std::vector<topos::Vec3> points;
  for (uint64_t i = 0; i < count; ++i) points.push_back(topos::vec(screen + 3 * i));
  const topos::Raster made = topos::rasterize(points, std::vector<int32_t>(triangles, triangles + 3 * number),
                                              static_cast<int>(height), static_cast<int>(width), cull != 0);
  copied(made.triangle.values, triangle);
  copied(made.weights.values, weights);
}

SHIM const float* spectacles_weights() { return topos::kSpectaclesWeights; }
SHIM float spectacles_bias() { return topos::kSpectaclesBias; }

// which: 0 PNG, 1 PNG without compression, 2 JPEG. Returns the size of the file, which is written where `out` is given.
SHIM uint64_t picture_file(int64_t which, const uint8_t* pixels, uint64_t side, uint8_t* out) {
  const int wide = static_cast<int>(side);
  const std::string file = which == 0   ? topos::png_file(pixels, wide)
                           : which == 1 ? topos::plain_png(pixels, wide)
                                        : topos::jpeg_file(pixels, wide);
  if (out != nullptr) std::copy(file.begin(), file.end(), out);
  return file.size();
}
