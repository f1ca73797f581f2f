/* Internal to src/stage: the stages over an open run, in their order. */
#ifndef RT_STAGE_STAGES_H
#define RT_STAGE_STAGES_H

#include "eval/eval.h"
#include "methods/method.h"
#include "stage/run.h"

rt_status rt_run_index(rt_run *r, const rt_stage_opts *o);
rt_status rt_run_teach(rt_run *r, const rt_stage_opts *o);   /* teachers, where something needs one, and experts */
rt_status rt_run_teach_committee(rt_run *r, const rt_stage_opts *o); /* its members alone, asked for or not */
rt_status rt_run_experts(rt_run *r, const rt_stage_opts *o); /* trains the expert trajectories the config's methods read */
rt_status rt_run_build(rt_run *r, const rt_stage_opts *o);
rt_status rt_run_eval(rt_run *r, const rt_stage_opts *o);
rt_status rt_run_measure(rt_run *r, const rt_stage_opts *o);
rt_status rt_run_results(rt_run *r); /* artefacts -> results.db */
/* Which teachers the config asks for: all net<k>, the committee. */
enum { RT_WANT_NETS = 1, RT_WANT_COMMITTEE = 2 };
unsigned rt_run_teachers_wanted(const rt_run *r);
bool rt_run_needs_experts(const rt_run *r);
rt_status rt_run_report(rt_run *r, char **table, char **path); /* results.db and the page; both texts owned */

/* The experts of this run, checked against its network, classes, data and settings; owned. */
rt_status rt_run_experts_open(rt_run *r, rt_experts **out);
/* What all of them cost. */
void rt_run_experts_cost(const rt_experts *e, double *wall_s, double *flops);
/* Recipe of the experts with the epochs that will be trained, and how many snapshots of each are kept (may be NULL). */
rt_status rt_run_experts_recipe(const rt_run *r, rt_recipe *out, int64_t *kept);

/* How config keys become recipes and contexts: shared by the stages and by plan. */
rt_status rt_run_teach_recipe(const rt_config *c, rt_recipe *out);
void rt_run_eval_recipe(const rt_config *c, rt_protocol p, const char *student, int64_t n, int32_t classes, bool full, rt_recipe *out);
/* Whether a protocol's students have teachers, and which. */
bool rt_run_lesson(rt_protocol p, rt_teachers *which);
enum { RT_RECIPE_TEXT = 768 };
void rt_run_recipe_text(const rt_recipe *r, char out[RT_RECIPE_TEXT]); /* all of it, for keys */
/* Trains what is missing of the method's pool (m->pool) and reads all of it; owned. Nothing where set.network_weights stands
 * for it. */
rt_status rt_run_pool(rt_run *r, const rt_method *m, rt_pool *out);
void rt_pool_fini(rt_pool *p);
rt_build_ctx rt_run_build_ctx(const rt_run *r, const rt_set_name *name); /* without back end, data, network, teacher, ledger */

#endif
