/* Expert trajectories: the weights of networks trained on the real images, at their initialisation and after every epoch.
 * Trajectory matching (MTT, TESLA, DATM; matching.md 4.5-4.7) starts at one snapshot and aims at a later one.
 *
 * `<dir>/expert<k>/` is an artefact of kind "expert": one file theta-<epoch>.safetensors per snapshot that is kept, each a
 * float32 vector [P] in the order of the network's flat theta, never rounded: an epoch moves the weights by about a
 * hundredth of their length, which half precision would drown. Snapshots 0..last are there without a gap; `final`, after the
 * last epoch of training, may lie beyond them.
 *
 * Opening reads manifests only and refuses what does not belong to the run; reading a snapshot reads that file alone and
 * checks its SHA-256, so memory holds one vector whatever the number of experts. */
#ifndef RT_TEACHER_EXPERTS_H
#define RT_TEACHER_EXPERTS_H

#include "artefact/artefact.h"
#include "nn/nn.h"

typedef struct rt_experts rt_experts;

/* Opens experts 0..n-1 below dir. Every one must be of this network's architecture, this class list and this ZCA transform
 * ("" for none), and keep snapshots 0..last at least (and the final one when `final`). RT_ERR_MISSING when an expert is not
 * there, RT_ERR_FORMAT when it is damaged or foreign; the error names the folder and what to do. */
rt_status rt_experts_open(const char *dir, int64_t n, const rt_model *net, const char *classes_hash, const char *zca, int64_t last,
                          bool final, rt_experts **out);
void rt_experts_close(rt_experts *e); /* accepts NULL */
int64_t rt_experts_count(const rt_experts *e);
int64_t rt_experts_last(const rt_experts *e);              /* snapshots 0..last can be read of every expert */
int64_t rt_experts_final(const rt_experts *e, int64_t k);  /* epoch of expert k's final snapshot; -1: not kept */
const json_t *rt_experts_manifest(const rt_experts *e, int64_t k); /* borrowed; inputs_hash, content_hash, cost, ... */
/* Snapshot of expert k after `epoch` epochs (0: initial weights) into theta [P]. RT_ERR_FORMAT when the bytes are not those
 * that were committed or a weight is not finite; theta may then hold anything. */
rt_status rt_experts_read(const rt_experts *e, int64_t k, int64_t epoch, float *theta);

/* --- writing (stage/experts.c) ------------------------------------------------------------------------------------------ */
enum { RT_EXPERT_NAME = 40, RT_EXPERT_ARCH = 128 };
/* File name of a snapshot: "theta-0007.safetensors". */
void rt_expert_file(int64_t epoch, char out[RT_EXPERT_NAME]);
/* What two networks must share for their weight vectors to mean the same. */
void rt_expert_arch(const rt_model *m, char out[RT_EXPERT_ARCH]);

#endif
