/* The demo data set: ten classes of drawn shapes in ImageFolder layout, made on the spot so that a first run needs no
 * download. The class is the shape; position, size, rotation, stretch, colours, textures, clutter, occlusion, lighting and
 * noise vary, some of them with a class habit (as grass goes with cows), so a network with little data learns the habits
 * and one with much data learns the shapes. Not a benchmark: figures on it compare methods in a minute, nothing more. */
#ifndef RT_DATA_DEMO_H
#define RT_DATA_DEMO_H

#include <stdint.h>

#include "retort/status.h"

enum { RT_DEMO_CLASSES = 10, RT_DEMO_MIN_SIZE = 16, RT_DEMO_MAX_SIZE = 512 };
typedef enum rt_demo_split { RT_DEMO_TRAIN = 0, RT_DEMO_TEST = 1 } rt_demo_split;

extern const char *const rt_demo_class[RT_DEMO_CLASSES]; /* in byte order, as ImageFolder numbers them */

/* One picture, a pure function of its arguments. rgb: size x size x 3 bytes, interleaved, written whole.
 * cls in [0, RT_DEMO_CLASSES), size in [RT_DEMO_MIN_SIZE, RT_DEMO_MAX_SIZE]. */
void rt_demo_render(uint64_t seed, rt_demo_split split, int cls, uint32_t index, int size, uint8_t *rgb);

/* Writes dir/train/<class>/00000.jpg ... and dir/test/<class>/... dir must not exist, or be empty: the set is built in
 * the sibling dir + ".partial" and renamed, so dir holds all of it or nothing. Same arguments: same bytes, on any number
 * of threads. Cancelled by rt_stop_request. */
rt_status rt_demo_generate(const char *dir, uint64_t seed, int per_class_train, int per_class_test, int size);

#endif
