#include "colour.h"

namespace topos {
namespace {

constexpr double kGrey = 0.02;  // below this mean difference of channels a photograph has no colours
constexpr double kLeastChroma = 0.55;

}  // namespace

const LinearTable& linear_of() {
  static const LinearTable kTable = [] {
    LinearTable made;
    for (size_t i = 0; i < made.size(); ++i) {
      const double step = static_cast<double>(i) / 255;
      made[i] = static_cast<float>(step <= 0.04045 ? step / 12.92 : std::pow((step + 0.055) / 1.055, 2.4));
    }
    return made;
  }();
  return kTable;
}

const std::array<uint8_t, kSrgbTable>& srgb_of() {
  static const std::array<uint8_t, kSrgbTable> kTable = [] {
    std::array<uint8_t, kSrgbTable> made;
    for (size_t i = 0; i < made.size(); ++i) {
      // As numpy.linspace(0, 1, 4096) counts.
      const double linear = i + 1 == made.size() ? 1.0 : static_cast<double>(i) * (1.0 / (kSrgbTable - 1));
      const double encoded = linear <= 0.0031308 ? 12.92 * linear : 1.055 * std::pow(linear, 1 / 2.4) - 0.055;
      made[i] = static_cast<uint8_t>(encoded * 255 + 0.5);
    }
    return made;
  }();
  return kTable;
}

uint8_t srgb_byte(float linear) {
  const float last = kSrgbTable - 1;
  return srgb_of()[static_cast<size_t>(bounded(linear * last + 0.5F, 0.0F, last))];
}

Balance balanced(const Vec3& skin) {
  const double ratios[] = {skin[0] - skin[1], skin[1] - skin[2]};
  const double wanted[] = {bounded(ratios[0], kSkinRedGreen[0], kSkinRedGreen[1]),
                           bounded(ratios[1], kSkinGreenBlue[0], kSkinGreenBlue[1])};
  const Vec3 shift = {wanted[0] - ratios[0], 0.0, -(wanted[1] - ratios[1])};
  const double before = dot(kLuminance, exps(skin)), after = dot(kLuminance, exps(skin + shift));
  const double scale = std::min(wanted[0] / std::max(ratios[0], wanted[0]), wanted[1] / std::max(ratios[1], wanted[1]));
  const double up = std::log(before / after);
  return {shift + Vec3{up, up, up}, bounded(scale, kLeastChroma, 1.0)};
}

bool is_grey(const Grid& pixels) {
  double apart = 0, total = 0;
  for (size_t i = 0; i < pixels.cells(); ++i) {
    const float* pixel = pixels.values.data() + 3 * i;
    const float mean = mean_of_channels(pixel);
    total += static_cast<double>(mean);
    for (size_t c = 0; c < 3; ++c) apart += static_cast<double>(std::fabs(pixel[c] - mean));
  }
  const auto count = static_cast<double>(pixels.cells());
  return apart / (3 * count) < kGrey * std::max(total / count, 1e-6);
}

}  // namespace topos
