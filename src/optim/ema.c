/* Exponential moving average of a flat vector, as a graph. */
#include "optim/optim.h"

rt_val rt_ema_step(rt_graph *g, rt_val avg, rt_val theta, double decay)
{
    return rt_add(g, rt_mul_scalar(g, avg, decay), rt_mul_scalar(g, theta, 1.0 - decay));
}
