/* The CUDA backend of a build without CUDA. */
#include "backend/backend.h"

rt_status rt_cuda_open(const rt_backend_opts *o, rt_backend **out)
{
    (void)o;
    (void)out;
    rt_status st = RT_RAISE(RT_ERR_UNSUPPORTED, "backend 'cuda': this program was built without CUDA");
    return rt_error_fix(st, "use --set backend.device=cpu, or rebuild where nvcc is on PATH (cmake -DRT_CUDA=ON)");
}
