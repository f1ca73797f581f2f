/* Cases of the shared crop. Boxes: the whole image; inside, mirrored and shifted; a corner, enlarged; shrunk to few pixels with
 * a shift backwards; one pixel. */
#include "case.h"

static void five_by_six(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_crop_view(g, x[0], x[1], 5, 6); }
static void seven(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_crop_view(g, x[0], x[1], 7, 7); }
static void back(rt_graph *g, const rt_val *x, rt_val *y)
{
    const int64_t a[2] = {5, 6}; /* height and width of the image */
    y[0] = rt_graph_append(g, RT_OP_CROP_VIEW_DX, x, 2, a, sizeof a);
}

static const double views[] = {0, 0, 5, 6, 0, 0, 0, 0, 1, 2, 3, 4, 1, 2, 1, 0};
static const double corners[] = {3, 4, 2, 2, 0, 0, 0, 0, 0, 0, 4, 5, 1, -2, 9, 0, 2, 3, 1, 1, 0, 1, 0, 0};

static const rt_case cases[] = {
    {.name = "crop_view.same", .op = RT_OP_CROP_VIEW, .build = five_by_six, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 4, 5, 6, 3), IN_DATA(views, 2, 8)}},
    {.name = "crop_view.resize", .op = RT_OP_CROP_VIEW, .build = seven, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 3, 5, 6, 2), IN_DATA(corners, 3, 8)}},
    {.name = "crop_view.shrink", .op = RT_OP_CROP_VIEW, .build = five_by_six, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 2, 11, 13, 1), IN_DATA(views, 2, 8)}},
    {.name = "crop_view_dx.same", .op = RT_OP_CROP_VIEW_DX, .build = back, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 4, 5, 6, 3), IN_DATA(views, 2, 8)}},
    {.name = "crop_view_dx.resize", .op = RT_OP_CROP_VIEW_DX, .build = back, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 3, 7, 7, 2), IN_DATA(corners, 3, 8)}},
};
RT_CASE_TABLE(crop, cases)
