// The mathematics of one bilinear sample of deformable attention, Deformable
// DETR (https://arxiv.org/abs/2010.04159), section 4.1, and its derivatives.
//
// Shared by the CUDA kernels, where Real is a float or double, and the CPU
// kernels, where Real is a vector of them (cpu/simd.h) and all of its samples
// are computed at once.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define PIIP_D2_INLINE __host__ __device__ __forceinline__
#elif defined(__SANITIZE_ADDRESS__)
// With everything in one function, the sanitizer would take an hour to compile.
#define PIIP_D2_INLINE inline
#else
#define PIIP_D2_INLINE inline __attribute__((always_inline))
#endif

namespace piip_d2 {

// What belongs to a type of real numbers: its integers and its truth values.
template <class Real>
struct Lanes {
  using Int = int32_t;
  using Mask = bool;
};

template <class Real>
PIIP_D2_INLINE Real select(bool condition, Real yes, Real no) {
  return condition ? yes : no;
}

PIIP_D2_INLINE int32_t truncate(float x) { return static_cast<int32_t>(x); }
PIIP_D2_INLINE int32_t truncate(double x) { return static_cast<int32_t>(x); }

// The largest whole number that is not above x > -1.
template <class Real>
PIIP_D2_INLINE typename Lanes<Real>::Int round_down(Real x) {
  const auto whole = truncate(x);
  return select(x < Real(0), whole - 1, whole);
}

template <class Real>
PIIP_D2_INLINE Real to_real(int32_t x) {
  return static_cast<Real>(x);
}

PIIP_D2_INLINE bool is_zero(float x) { return x == 0.0f; }
PIIP_D2_INLINE bool is_zero(double x) { return x == 0.0; }

// The affine map from what a caller gives (a location, or an offset from a
// reference) to a pixel coordinate: pixel = origin + scale * given.
template <class Real>
struct Anchor {
  Real origin_x, origin_y, scale_x, scale_y;
};

// For sampling locations in [0, 1] over the whole map.
template <class Real>
PIIP_D2_INLINE Anchor<Real> location_anchor(Real width, Real height) {
  return {Real(-0.5), Real(-0.5), width, height};
}

// For offsets in pixels from a reference point in [0, 1].
template <class Real>
PIIP_D2_INLINE Anchor<Real> point_anchor(Real reference_x, Real reference_y,
                                         Real width, Real height) {
  return {reference_x * width - Real(0.5), reference_y * height - Real(0.5),
          Real(1), Real(1)};
}

// How far a unit of offset reaches for a reference box of size 1 on a map of
// the given size: half a box, divided evenly among the points.
template <class Real>
PIIP_D2_INLINE Real box_reach(Real map_size, Real num_points) {
  return map_size * (Real(0.5) / num_points);
}

// For offsets relative to a reference box (centre and size in [0, 1]).
template <class Real>
PIIP_D2_INLINE Anchor<Real> box_anchor(Real center_x, Real center_y,
                                       Real box_width, Real box_height,
                                       Real width, Real height,
                                       Real num_points) {
  return {center_x * width - Real(0.5), center_y * height - Real(0.5),
          box_width * box_reach(width, num_points),
          box_height * box_reach(height, num_points)};
}

// The centre of cell `index` of `count` cells that divide [0, 1].
template <class Real>
PIIP_D2_INLINE Real cell_center(Real index, Real count) {
  return (index + Real(0.5)) / count;
}

// The four pixels around a sample: rows top and top + 1, columns left and
// left + 1, of which those outside of the map read zero.
template <class Real>
struct Footprint {
  typename Lanes<Real>::Int left, top;
  Real right_share, lower_share;      // in [0, 1]
  typename Lanes<Real>::Mask counts;  // false: reads zero, has no gradient
};

// Takes pixel coordinates; NaN, infinite and far ones give a footprint that
// does not count. Sizes are at most 2^24, so that they and the pixels'
// coordinates are exact: nothing is rounded before the whole part is taken.
template <class Real>
PIIP_D2_INLINE Footprint<Real> make_footprint(Real x, Real y, Real width,
                                              Real height) {
  const typename Lanes<Real>::Mask counts =
      (x > Real(-1)) & (y > Real(-1)) & (x < width) & (y < height);
  const Real kept_x = select(counts, x, Real(0));
  const Real kept_y = select(counts, y, Real(0));
  const auto left = round_down(kept_x);
  const auto top = round_down(kept_y);
  return {left, top, kept_x - to_real<Real>(left), kept_y - to_real<Real>(top),
          counts};
}

// One number for each of the four pixels of a footprint.
template <class Real>
struct Corners {
  Real upper_left, upper_right, lower_left, lower_right;
};

// Bilinear weights times `factor`.
template <class Real>
PIIP_D2_INLINE Corners<Real> corner_weights(const Footprint<Real>& footprint,
                                            Real factor) {
  const Real lower = factor * footprint.lower_share;
  const Real upper = factor - lower;
  const Real upper_right = upper * footprint.right_share;
  const Real lower_right = lower * footprint.right_share;
  return {upper - upper_right, upper_right, lower - lower_right, lower_right};
}

// A gradient times the next factor of the chain rule. What a sample that reads
// nothing depends on has no gradient, even if the factor is infinite or NaN.
template <class Real>
PIIP_D2_INLINE Real chain(Real gradient, Real factor) {
  return select(is_zero(gradient), Real(0), gradient * factor);
}

// Gradients of one sample.
template <class Real>
struct SampleGradient {
  Real weight, pixel_x, pixel_y;
};

// `dots` are the scalar products of the output's gradient with the four pixels
// (zero for pixels outside), `weight` is the sample's attention weight.
template <class Real>
PIIP_D2_INLINE SampleGradient<Real> sample_gradient(
    const Footprint<Real>& footprint, const Corners<Real>& dots, Real weight) {
  const Real right = footprint.right_share;
  const Real lower = footprint.lower_share;
  const Real upper_slope = dots.upper_right - dots.upper_left;
  const Real lower_slope = dots.lower_right - dots.lower_left;
  const Real upper_mean = dots.upper_left + right * upper_slope;
  const Real lower_mean = dots.lower_left + right * lower_slope;
  const Real slope_x = upper_slope + lower * (lower_slope - upper_slope);
  const Real slope_y = lower_mean - upper_mean;
  return {upper_mean + lower * slope_y, chain(slope_x, weight),
          chain(slope_y, weight)};
}

// Gradient of a softmax: `mean` is the sum of gradient * probability over all.
template <class Real>
PIIP_D2_INLINE Real softmax_gradient(Real probability, Real gradient,
                                     Real mean) {
  return probability * (gradient - mean);
}

}  // namespace piip_d2
