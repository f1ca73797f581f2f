#include "stage/stages.h"
rt_status rt_run_measure(rt_run *r, const rt_stage_opts *o) { (void)r; (void)o; return RT_OK; }
