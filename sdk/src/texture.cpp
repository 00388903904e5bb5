#include "texture.h"

#include <cmath>

#include "colour.h"
#include "head_fit.h"
#include "json.h"
#include "resample.h"

namespace topos {
namespace {

constexpr double kRoom = 0.35;  // around the landmarks, of their larger extent, that the photograph is cut to
constexpr double kPixelsPerTexel = 1.5;  // at most: a finer photograph is scaled down, or it would be sampled with gaps
constexpr float kFacing = 0.3F;          // weight that a texel must have to serve the fit of the light
constexpr double kDarkestSkin = 0.035, kLightestSkin = 0.60;  // luminance of albedo: beyond is the exposure's doing
constexpr size_t kLeastSamples = 200;    // with fewer the light is unknown
constexpr float kCover = 0.80F;          // of the skin, by cropped hair
constexpr float kSeenCell = 0.6F, kMirroredCell = 0.2F;  // confidence above which a cell counts
constexpr size_t kAllLandmarks = 478;
constexpr uint8_t kFlat[] = {128, 128, 255};
constexpr int kFlatSide = 4, kLeastCut = 4;

// A part of a picture that may reach beyond it; there it is black.
Picture cut_out(const Picture& picture, const Box& box) {
  Picture made(box.width(), box.height(), picture.channels);
  for (int y = std::max(box.top, 0); y < std::min(box.bottom, picture.height); ++y) {
    const int left = std::max(box.left, 0), right = std::min(box.right, picture.width);
    if (left >= right) continue;
    const uint8_t* row = picture.at(left, y);
    std::copy(row, row + static_cast<size_t>(right - left) * made.depth(), made.at(left - box.left, y - box.top));
  }
  return made;
}

// Cuts a picture to the landmarks and scales it down to what that many texels show.
Photograph photograph_of(const Picture& picture, const float* landmarks, double texels_across) {
  float low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
  for (size_t i = 0; i < kAllLandmarks; ++i) {
    for (size_t k = 0; k < 2; ++k) {
      low[k] = std::min(low[k], landmarks[3 * i + k]);
      high[k] = std::max(high[k], landmarks[3 * i + k]);
    }
  }
  const float extent[] = {high[0] - low[0], high[1] - low[1]};
  const float room = static_cast<float>(kRoom * static_cast<double>(std::max(extent[0], extent[1])));
  const int size[] = {picture.width, picture.height};
  int from[2], to[2];
  for (size_t k = 0; k < 2; ++k) {
    // Landmarks far outside of the picture show none of it.
    from[k] = static_cast<int>(bounded(std::floor(low[k] - room), 0.0F, 1e9F));
    to[k] = static_cast<int>(bounded(std::ceil(high[k] + room), -1e9F, static_cast<float>(size[k])));
    to[k] = std::max(to[k], from[k] + kLeastCut);
  }
  Picture part = on_black(cut_out(picture, {from[0], from[1], to[0], to[1]}));
  const int step = std::max(1, static_cast<int>(static_cast<double>(extent[0]) / (kPixelsPerTexel * texels_across)));
  if (step > 1) part = reduced(part, step, {0, 0, part.width, part.height});
  Photograph made;
  made.pixels = Grid(part.height, part.width, 3);
  for (size_t i = 0; i < part.bytes(); ++i) made.pixels[i] = linear_of()[part.pixels[i]];
  made.corner[0] = from[0];
  made.corner[1] = from[1];
  made.scale = 1.0 / step;
  return made;
}

std::vector<float> attributes_of(const HeadSeen& seen, const Photograph& photograph) {
  std::vector<float> made;
  for (size_t i = 0; i < seen.facing.size(); ++i) {
    const auto place = photograph.place(seen.places[2 * i], seen.places[2 * i + 1]);
    made.insert(made.end(), {static_cast<float>(place[0]), static_cast<float>(place[1]), seen.facing[i]});
    made.insert(made.end(), seen.normals.begin() + static_cast<std::ptrdiff_t>(3 * i),
                seen.normals.begin() + static_cast<std::ptrdiff_t>(3 * i + 3));
  }
  return made;
}

// Log ratios to the base, without light, and weights, of texels [n][4].
std::vector<float> sampled(const std::vector<int32_t>& vertices, const std::vector<float>& weights,
                           const std::vector<float>& base, const std::vector<float>& attributes,
                           const Photograph& photograph, const Light& light) {
  TexelsToProject given;
  given.vertices = vertices.data();
  given.weights = weights.data();
  given.base = base.data();
  given.attributes = attributes.data();
  given.picture = photograph.pixels.values.data();
  given.light = light.terms[0];
  given.texels = vertices.size() / 3;
  given.height = photograph.pixels.height;
  given.width = photograph.pixels.width;
  std::vector<float> made(4 * given.texels);
  if (given.height >= 2 && given.width >= 2) project_texels(given, made.data());
  return made;
}

// The light of a photograph; lit: whether enough was seen to know it.
Light light_of(const TexturePlan& plan, const std::vector<float>& attributes, const Photograph& photograph, bool* lit) {
  std::vector<int32_t> vertices;
  std::vector<float> weights, base;
  for (const size_t at : plan.samples) {
    const auto from = static_cast<std::ptrdiff_t>(3 * at), to = from + 3;
    vertices.insert(vertices.end(), plan.vertices.begin() + from, plan.vertices.begin() + to);
    weights.insert(weights.end(), plan.weights.begin() + from, plan.weights.begin() + to);
    base.insert(base.end(), plan.log_base.begin() + from, plan.log_base.begin() + to);
  }
  const std::vector<float> texels = sampled(vertices, weights, base, attributes, photograph, {});
  std::vector<LitSample> samples;
  for (size_t i = 0; i < plan.samples.size(); ++i) {
    const float* texel = texels.data() + 4 * i;
    if (!(texel[3] > kFacing)) continue;
    float normal[3] = {};
    for (size_t k = 0; k < 3; ++k) {
      const float* row = attributes.data() + 6 * static_cast<size_t>(vertices[3 * i + k]) + 3;
      for (size_t c = 0; c < 3; ++c) normal[c] += row[c] * weights[3 * i + k];
    }
    const float squares = (normal[0] * normal[0] + normal[1] * normal[1]) + normal[2] * normal[2];
    const float length = std::max(std::sqrt(squares), 1e-6F);
    for (float& value : normal) value /= length;
    samples.push_back({vec(normal), vec(texel), static_cast<double>(texel[3])});
  }
  *lit = samples.size() >= kLeastSamples;
  return *lit ? fit_light(samples) : Light{};
}

// What a log colour of the photograph is over the albedo's, and the scale of chroma.
Balance exposure_of(const Vec3& skin, const Grid& pixels) {
  Balance found;
  if (is_grey(pixels)) {
    const Vec3 own = logs(kSkinColour);
    const double up = std::log(dot(kLuminance, exps(skin))) - std::log(dot(kLuminance, exps(own)));
    found = {own + Vec3{up, up, up} - skin, 0};
  } else {
    found = balanced(skin);
  }
  const double luminance = dot(kLuminance, exps(skin + found.shift));
  const double up = std::log(bounded(luminance, kDarkestSkin, kLightestSkin) / luminance);
  return {-(found.shift + Vec3{up, up, up}), found.chroma};
}

SeenCells cells_of(const TexturePlan& plan, const Grid& image) {
  Grid any(image.height, image.width);
  for (size_t i = 0; i < any.cells(); ++i) any[i] = image[4 * i + 3] > 0 ? 1.0F : 0.0F;
  const Grid share = shrunk(any, plan.step), mean = shrunk(image, plan.step);
  SeenCells made = {Grid(mean.height, mean.width, 3), Grid(mean.height, mean.width)};
  for (size_t i = 0; i < mean.cells(); ++i) {
    for (size_t c = 0; c < 3; ++c) made.ratio[3 * i + c] = mean[4 * i + c] / std::max(share[i], 1e-3F);
    made.weight[i] = mean[4 * i + 3];
  }
  return made;
}

// Where the middles of the window's cells are in the photograph; far off without skin.
Grid cell_places(const TexturePlan& plan, const HeadSeen& seen) {
  Grid made(plan.cells.height(), plan.cells.width(), 2, -1e6F);
  for (int y = 0; y < made.height; ++y) {
    for (int x = 0; x < made.width; ++x) {
      const size_t texel = plan.covered.index(y * plan.step + plan.step / 2, x * plan.step + plan.step / 2);
      if (plan.covered[texel] == 0) continue;
      for (size_t c = 0; c < 2; ++c) {
        float sum = 0;
        for (size_t k = 0; k < 3; ++k) {
          sum += seen.places[2 * static_cast<size_t>(plan.vertices[3 * texel + k]) + c] * plan.weights[3 * texel + k];
        }
        made.at(y, x)[c] = sum;
      }
    }
  }
  return made;
}

// Takes the colours out of log ratios, in groups of `depth` numbers, as far as they are a cast.
void dull(Grid& values, float chroma) {
  for (size_t i = 0; i < values.cells(); ++i) {
    float* cell = values.values.data() + values.depth() * i;
    const float mean = mean_of_channels(cell);
    for (size_t c = 0; c < 3; ++c) cell[c] = mean + chroma * (cell[c] - mean);
  }
}

std::vector<uint8_t> finished(const TexturePlan& plan, const Atlas& atlas, const Blend& made, const Grid& image,
                              const std::optional<Colour>& hair, const Vec3& tone) {
  const Grid scalp = atlas.area(kScalpArea);
  Grid cells(kAtlasSide, kAtlasSide, 4);
  for (size_t i = 0; i < cells.cells(); ++i) {
    std::copy_n(made.cells.values.data() + 3 * i, 3, cells.values.data() + 4 * i);
    cells[4 * i + 3] = hair ? scalp[i] * kCover : 0.0F;
  }
  const Colour colour = hair.value_or(Colour{});
  const float of_skin[] = {static_cast<float>(tone[0]), static_cast<float>(tone[1]), static_cast<float>(tone[2])};
  TexelsToFinish given;
  given.base = plan.base.values.data();
  given.cells = cells.values.data();
  given.texels = image.values.data();
  given.window = made.window.values.data();
  given.skin = plan.skin.values.data();
  given.grain = plan.grain.values.data();
  given.hair = colour.data();
  given.tone = of_skin;
  given.srgb = srgb_of().data();
  given.side = plan.side;
  given.step = plan.step;
  given.top = plan.window.top;
  given.left = plan.window.left;
  given.height = plan.window.height();
  given.width = plan.window.width();
  given.mirror = plan.mirrors;
  std::vector<uint8_t> albedo(3 * plan.base.cells());
  finish_texels(given, albedo.data());
  return albedo;
}

TextureMaps flat(const TexturePlan& plan, const Atlas& atlas) {
  TextureMaps made;
  made.side = plan.side;
  made.relief_side = kFlatSide;
  made.orm = orm_of(plan, atlas);
  for (int i = 0; i < kFlatSide * kFlatSide; ++i) made.relief.insert(made.relief.end(), std::begin(kFlat), std::end(kFlat));
  made.confidence.assign(size_t{kAtlasSide} * kAtlasSide, 0);
  return made;
}

double share_of(const Grid& area, const Grid& confidence, float above, float upto) {
  double inside = 0, all = 0;
  for (size_t i = 0; i < area.cells(); ++i) {
    all += static_cast<double>(area[i]);
    if (confidence[i] > above && confidence[i] <= upto) inside += static_cast<double>(area[i]);
  }
  return inside / all;
}

}  // namespace

TextureMaps base_texture(const TexturePlan& plan, const Atlas& atlas) {
  TextureMaps made = flat(plan, atlas);
  const Grid image(plan.window.height(), plan.window.width(), 4);
  made.albedo = finished(plan, atlas, blend_of_nothing(plan), image, kUsualHair, {});
  return made;
}

TextureMaps projected_texture(const TexturePlan& plan, const Atlas& atlas, const Sitter& sitter, const Picture& picture,
                              double face_size, double yaw) {
  TextureMaps made = flat(plan, atlas);
  made.projected = true;
  made.turned = std::fabs(yaw) > kTurnedDegrees;
  const HeadSeen seen = look(sitter, atlas);
  float least = INFINITY, most = -INFINITY;
  for (size_t i = 0; i < kSkinLandmarks; ++i) {
    least = std::min(least, atlas.landmark_uvs[2 * i]);
    most = std::max(most, atlas.landmark_uvs[2 * i]);
  }
  const auto across = static_cast<double>((most - least) * static_cast<float>(plan.side));
  const Photograph photograph = photograph_of(picture, sitter.landmarks, across);
  const std::vector<float> attributes = attributes_of(seen, photograph);
  bool lit = false;
  const Light light = light_of(plan, attributes, photograph, &lit);
  std::vector<float> base = plan.log_base;
  for (size_t i = 0; i < base.size(); ++i) base[i] += static_cast<float>(light.tone[i % 3]);
  Grid image(plan.window.height(), plan.window.width(), 4);
  image.values = sampled(plan.vertices, plan.weights, base, attributes, photograph, light);
  const Vec3 in_photograph = logs(kSkinColour) + light.tone;
  SeenCells cells = cells_of(plan, image);
  Kept kept = judge(plan, atlas, cells, sitter.landmarks, cell_places(plan, seen), in_photograph);
  const Balance exposure = exposure_of(in_photograph, photograph.pixels);
  if (exposure.chroma < 1) {
    dull(image, static_cast<float>(exposure.chroma));
    dull(cells.ratio, static_cast<float>(exposure.chroma));
  }
  const Vec3 tone = light.tone - exposure.shift;
  if (kept.spectacles) {
    made.notes.emplace_back("the person seems to wear spectacles; the base material is shown in their place");
  }
  const bool small = face_size < kSmallFace;
  if (small || !lit) {
    const char* why = small ? "the face is too small" : "too little of the face is lit and free";
    made.notes.push_back(std::string("the texture takes only the tone of the photograph: ") + why);
    std::fill(kept.feather.values.begin(), kept.feather.values.end(), 0.0F);
  }
  Blend blended = blend(plan, atlas, cells, kept.feather, tone);
  const std::optional<Colour> hair = hair_colour(plan, seen, photograph, exposure.shift, logs(kSkinColour) + tone);
  made.albedo = finished(plan, atlas, blended, image, hair, tone);
  if (const auto iris = iris_colour(photograph, sitter.landmarks, exposure.shift)) {
    paint_irises(made.albedo.data(), plan, *iris);
  }
  const Grid scalp = atlas.area(kScalpArea), face = atlas.area(kFaceArea);
  Grid& confidence = blended.confidence;
  for (size_t i = 0; hair && i < confidence.cells(); ++i) confidence[i] *= 1 - scalp[i];
  for (size_t i = 0; i < confidence.cells(); ++i) {
    made.confidence[i] = static_cast<uint8_t>(unit(confidence[i]) * 255 + 0.5F);
  }
  if (face_size >= kReliefFace) {
    GridOf<uint8_t> relief = relief_of(made.albedo, plan.side, atlas, confidence);
    made.relief_side = relief.height;
    made.relief = std::move(relief.values);
  }
  made.seen = share_of(face, confidence, kSeenCell, INFINITY);
  made.mirrored = share_of(face, confidence, kMirroredCell, kSeenCell);
  made.mouth_open = kept.mouth_open;
  made.spectacles = kept.spectacles;
  return made;
}

std::string TextureMaps::facts() const {
  Json json;
  json.key("texture").open('{').text("kind", projected ? "projected" : "base").whole("size", side);
  if (projected) {
    json.raw("seen", rounded_text(seen, 3)).raw("mirrored", rounded_text(mirrored, 3)).key("turned").truth(turned);
    json.raw("mouth_open", rounded_text(mouth_open, 3)).key("spectacles").truth(spectacles);
  }
  return json.close('}').str();
}

}  // namespace topos
