/* Multi-formation (Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022; matching.md
 * 4.4): a stored image is factor x factor tiles, each enlarged to a training image of its own. IPC stored images are
 * factor^2 IPC training images; storage counts the stored pixels. Shared by IDC and NCFM, whose pixels live in [0,1]. */
#ifndef RT_METHODS_FORMATION_H
#define RT_METHODS_FORMATION_H

#include "methods/distill/distill.h"

/* Pixels of [0,1] in the hands of functions that normalise. */
extern const rt_normalise rt_unit_pixels;

/* Side of a tile of images of `size` pixels: size / factor rounded up. */
int64_t rt_formation_tile(int64_t size, int64_t factor);
/* x [classes*ipc, s, s, ch] class by class -> [classes*factor^2*ipc, s, s, ch], within a class tile by tile in row-major
 * order, all images of the first tile first. Where factor does not divide s the image counts as padded right and below with
 * 0.5. Bilinear, corners not aligned, edges repeated. Linear in x: its adjoint is rt_grad. factor 1 returns x. */
rt_val rt_formation_decode(rt_graph *g, rt_val x, int64_t classes, int64_t factor);
/* images [classes*ipc, size, size, 3] in [0,1]: from set.init_images when that is given, else every tile is a real image of
 * the class scaled down by nearest neighbour (pixel floor(i * size / tile)). The real images are random, or with `first` the
 * first ones of the class in data-set order, as the released codes take them; a class with fewer repeats them. */
rt_status rt_formation_mix(const rt_draws *d, int64_t factor, bool first, float *images);
/* The set: stored images in [0,1] with their factor. */
rt_status rt_formation_set(const rt_build_ctx *ctx, const char *method, int64_t factor, const float *images, rt_set *out);

#endif
