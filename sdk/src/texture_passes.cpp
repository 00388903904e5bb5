#include "texture_passes.h"

// One build for all processors: what chooses between builds when a library is loaded does not go with sanitizers.
#define TOPOS_WIDE
#include "texture_rows.h"

namespace topos {

static_assert(kDarkestColour == kDarkest && kTexelGain == kWeightGain && kSrgbTable == kSrgbSteps);

void project_texels(const TexelsToProject& given, float* out) {
  ProjectTexture args{};
  args.vertices = given.vertices;
  args.weights = given.weights;
  args.attributes = given.attributes;
  args.picture = given.picture;
  args.light = given.light;
  args.base = given.base;
  args.texels = static_cast<int64_t>(given.texels);
  args.height = given.height;
  args.width = given.width;
  args.out = out;
  for (int64_t i = 0; i < args.texels; ++i) make_texel(args, i);
}

void finish_texels(const TexelsToFinish& given, uint8_t* out) {
  FinishTexture args{};
  args.base = given.base;
  args.cells = given.cells;
  args.texels = given.texels;
  args.window_cells = given.window;
  args.skin = given.skin;
  args.grain = given.grain;
  args.hair = given.hair;
  args.tone = given.tone;
  args.srgb = given.srgb;
  args.side = given.side;
  args.step = given.step;
  args.top = given.top;
  args.left = given.left;
  args.height = given.height;
  args.width = given.width;
  args.mirror = given.mirror ? 1 : 0;
  args.out = out;
  const Columns columns(args);
  for (int row = 0; row < args.side; ++row) finish_row(args, columns, row);
}

void box_filter(float* values, int height, int width, int channels, const std::vector<int64_t>& radii) {
  box_means(values, height, width, channels, radii);
}

void box_filter(double* values, int height, int width, int channels, const std::vector<int64_t>& radii) {
  box_means(values, height, width, channels, radii);
}

}  // namespace topos
