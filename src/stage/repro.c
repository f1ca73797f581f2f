/* repro: a recipe's figure against the published one. The work is bench's, so everything resumes and is skipped when current;
 * what is added here is the comparison, by the paper's own reporting rule (matching.md 5).
 *
 * The figure is the mean over all students of all constructions. "last" is the last epoch of the finished set. "best" is what
 * several papers report: the highest over evaluation points, chosen on test data. There it is the highest mean over the
 * finished set and its snapshots, of each student's best check where eval.check_every asks for checks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "stage/stages.h"

/* Accuracy over the networks of one point: a method's finished sets, or their snapshots at one iteration. Fractions. */
typedef struct figure {
    double mean, sd;
    int n, sets;
    int64_t iteration;       /* 0: the finished set */
} figure;

/* What it took, summed over constructions; seconds and bytes. */
typedef struct effort {
    double build_s, flops, peak, images, teach_s, eval_s;
    int builds;
} effort;

/* --- reading what the stages left ---------------------------------------------------------------------------------------- */

static double number_at(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static double or_zero(double x) { return isnan(x) ? 0 : x; }

static rt_status read_eval(rt_run *r, const rt_set_name *name, int network, bool best, double *accuracy, double *wall_s)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], file[PATH_MAX];
    json_t *m = NULL, *e = NULL;
    json_error_t err;
    RT_TRY(rt_run_path(r, path, "evals/%s/%s-%s-n%d", name->text, r->c->repro.protocol, r->c->eval.students.v[0], network));
    RT_TRY(rt_artefact_open(path, "eval", false, &m));
    RT_TRY(rt_fs_join(file, sizeof file, path, "result.json"));
    if (!(e = json_load_file(file, JSON_REJECT_DUPLICATES, &err))) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s:%d: %s", file, err.line, err.text);
        goto out;
    }
    double last = number_at(e, "accuracy"), highest = number_at(e, "best");
    *accuracy = best && !isnan(highest) ? highest : last;
    *wall_s = or_zero(number_at(json_object_get(m, "cost"), "wall_s"));
    if (isnan(*accuracy)) st = RT_RAISE(RT_ERR_FORMAT, "%s: no accuracy", file);
out:
    json_decref(m);
    json_decref(e);
    return st;
}

static rt_status add_cost(rt_run *r, const rt_set_name *name, effort *f)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    json_t *m = NULL;
    RT_TRY(rt_run_path(r, path, "sets/%s", name->text));
    RT_TRY(rt_artefact_open(path, "set", false, &m));
    const json_t *c = json_object_get(m, "cost");
    double device = number_at(c, "peak_device_bytes"), host = number_at(c, "peak_host_bytes"), peak = device > 0 ? device : host;
    f->build_s += or_zero(number_at(c, "wall_s"));
    f->flops += or_zero(number_at(c, "flops"));
    f->images += or_zero(number_at(c, "images_seen"));
    f->teach_s = or_zero(number_at(c, "teacher_wall_s")) + or_zero(number_at(c, "experts_wall_s")); /* shared, not per set */
    if (peak > f->peak) f->peak = peak;
    f->builds++;
out:
    json_decref(m);
    return st;
}

/* All students of `method` at one iteration (0: finished sets). n stays 0 when there is no such set. */
static rt_status figure_of(rt_run *r, const char *method, int64_t iteration, bool best, effort *f, figure *out)
{
    rt_status st = RT_OK;
    rt_set_name name;
    double sum = 0, sum2 = 0, a = 0, wall = 0;
    figure g = {.iteration = iteration};
    for (int i = 0; rt_run_set_name(r, i, &name); i++) {
        if (strcmp(name.method, method) || name.iteration != iteration) continue;
        int networks = rt_run_networks(r, &name);
        for (int k = 0; k < networks; k++, g.n++) {
            RT_TRYF(read_eval(r, &name, k, best, &a, &wall), "set %s", name.text);
            sum += a;
            sum2 += a * a;
            if (f) f->eval_s += wall;
        }
        g.sets++;
        if (f && !iteration) RT_TRYF(add_cost(r, &name, f), "set %s", name.text);
    }
    g.mean = g.n ? sum / g.n : NAN;
    double spread = g.n > 1 ? (sum2 - sum * g.mean) / (g.n - 1) : NAN;
    g.sd = spread > 0 ? sqrt(spread) : g.n > 1 ? 0 : NAN;
    *out = g;
out:
    return st;
}

/* The figure by the recipe's rule. */
static rt_status reported(rt_run *r, const char *method, effort *f, figure *out)
{
    rt_status st = RT_OK;
    bool best = !strcmp(r->c->repro.report, "best");
    const rt_int_list *at = &r->c->methods.snapshots;
    figure top, g;
    RT_TRY(figure_of(r, method, 0, best, f, &top));
    for (int32_t i = 0; best && i < at->n; i++) {
        if (!at->v[i]) continue;
        RT_TRY(figure_of(r, method, at->v[i], best, f, &g));
        if (g.n && g.mean > top.mean) top = g;
    }
    *out = top;
out:
    return st;
}

/* --- saying it ----------------------------------------------------------------------------------------------------------- */

typedef struct page {
    char *s;
    size_t n;
    FILE *f;
} page;

static void put_figure(FILE *f, const char *what, const figure *g)
{
    if (isnan(g->sd)) fprintf(f, "  %-10s %6.2f %%        ", what, 100 * g->mean);
    else fprintf(f, "  %-10s %6.2f ± %.2f %%", what, 100 * g->mean, 100 * g->sd);
}

static void put_seconds(FILE *f, double s)
{
    if (s < 120) fprintf(f, "%.1f s", s);
    else if (s < 7200) fprintf(f, "%.1f min", s / 60);
    else fprintf(f, "%.1f h", s / 3600);
}

/* Prints a pass or a miss and returns 1 for the latter. `room`: points between the figure and the limit. */
static int put_gate(FILE *f, const char *what, double room)
{
    fprintf(f, "  %-10s %s: %s by %.2f points\n", "gate", what, room < 0 ? "FAIL" : "pass", fabs(room));
    return room < 0;
}

static int put_comparison(rt_run *r, const char *method, const figure *g, const figure *random, FILE *f)
{
    const rt_config *c = r->c;
    bool best = !strcmp(c->repro.report, "best"), shortened = c->repro.shortened[0] != 0;
    int missed = 0;
    fprintf(f, "%s: %s on %s, %lld image%s per class\n", c->name, method, c->data.kind, (long long)c->set.ipc.v[0],
            c->set.ipc.v[0] == 1 ? "" : "s");
    put_figure(f, "figure", g);
    fprintf(f, "   %s, %s, %d network%s on %d construction%s, ", c->repro.protocol, c->eval.students.v[0], g->n, g->n == 1 ? "" : "s",
            g->sets, g->sets == 1 ? "" : "s");
    if (!best) fprintf(f, "last epoch\n");
    else if (g->iteration) fprintf(f, "best over checks: snapshot after %lld iterations\n", (long long)g->iteration);
    else fprintf(f, "best over checks: the finished set\n");
    if (c->repro.published > 0)
        fprintf(f, "  %-10s %6.2f %%          %s; tolerance %.2f points\n", "published", c->repro.published, c->repro.source,
                c->repro.tolerance);
    if (random->n) {
        put_figure(f, "random", random);
        fprintf(f, "   the figure lies %+.2f points from it\n", 100 * (g->mean - random->mean));
    }
    if (c->repro.published > 0 && !shortened)
        missed += put_gate(f, "published - tolerance", 100 * g->mean - (c->repro.published - c->repro.tolerance));
    if (c->repro.above_random > 0)
        missed += put_gate(f, "above random", 100 * (g->mean - random->mean) - c->repro.above_random);
    if (shortened) fprintf(f, "  %-10s %s; not a reproduction of the published figure\n", "shortened", c->repro.shortened);
    return missed;
}

static void put_cost(const effort *e, FILE *f)
{
    double per = e->builds ? e->builds : 1;
    fprintf(f, "  %-10s construction ", "cost");
    put_seconds(f, e->build_s / per);
    fprintf(f, ", %.4g TFLOP, %.4g images, peak %.0f MB", e->flops / per / 1e12, e->images / per, e->peak / 1e6);
    if (e->teach_s > 0) {
        fprintf(f, "; teachers and experts ");
        put_seconds(f, e->teach_s);
    }
    fprintf(f, "; students ");
    put_seconds(f, e->eval_s);
    fprintf(f, "\n");
}

/* What the set says about itself: iterations it skipped, where it deviates from the paper. */
static rt_status put_notes(rt_run *r, const char *method, FILE *f)
{
    rt_status st = RT_OK;
    rt_set_name name;
    char path[PATH_MAX];
    json_t *m = NULL;
    for (int i = 0; rt_run_set_name(r, i, &name); i++) {
        if (strcmp(name.method, method) || name.iteration || name.seed) continue;
        RT_TRY(rt_run_path(r, path, "sets/%s", name.text));
        RT_TRY(rt_artefact_open(path, "set", false, &m));
        const json_t *notes = json_object_get(m, "notes"), *list = json_object_get(notes, "deviations");
        json_int_t skipped = json_integer_value(json_object_get(notes, "skipped"));
        if (skipped) fprintf(f, "  %-10s %lld iterations made no update\n", "skipped", (long long)skipped);
        for (size_t k = 0; k < json_array_size(list); k++)
            if (json_string_value(json_array_get(list, k)))
                fprintf(f, "  %-10s %s\n", "deviates", json_string_value(json_array_get(list, k)));
        json_decref(m);
        m = NULL;
    }
out:
    json_decref(m);
    return st;
}

static rt_status write_json(rt_run *r, const char *method, const figure *g, const figure *random, const effort *e, int missed)
{
    rt_status st = RT_OK;
    const rt_config *c = r->c;
    char path[PATH_MAX], *text = NULL;
    double per = e->builds ? e->builds : 1;
    json_t *o = json_pack(
        "{s:s, s:s, s:I, s:s, s:s, s:s, s:f, s:o, s:i, s:i, s:I, s:f, s:f, s:s, s:o, s:f, s:s, s:b, s:{s:f, s:f, s:f, s:f, s:f, s:f}}",
        "recipe", c->name, "method", method, "ipc", (json_int_t)c->set.ipc.v[0], "protocol", c->repro.protocol, "student",
        c->eval.students.v[0], "report", c->repro.report, "accuracy", 100 * g->mean, "sd",
        isnan(g->sd) ? json_null() : json_real(100 * g->sd), "networks", g->n, "constructions", g->sets, "iteration",
        (json_int_t)g->iteration, "published", c->repro.published, "tolerance", c->repro.tolerance, "source", c->repro.source,
        "random", random->n ? json_real(100 * random->mean) : json_null(), "above_random", c->repro.above_random, "shortened",
        c->repro.shortened, "passed", missed == 0, "cost", "construction_s", e->build_s / per, "construction_flops",
        e->flops / per, "construction_images", e->images / per, "peak_bytes", e->peak, "teach_s", e->teach_s, "eval_s", e->eval_s);
    if (o) text = json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(9));
    if (!text) {
        st = RT_RAISE(RT_ERR_NOMEM, "repro.json");
        goto out;
    }
    RT_TRY(rt_run_path(r, path, "repro.json"));
    RT_TRY(rt_fs_write_atomic(path, text, strlen(text)));
out:
    free(text); /* jansson's allocator */
    json_decref(o);
    return st;
}

/* --- the verb ------------------------------------------------------------------------------------------------------------ */

/* The one method a recipe is about, or an error that says what is missing. */
static rt_status check_recipe(const rt_config *c, const char **method)
{
    const char *found = NULL;
    bool random = false, evaluated = false;
    int others = 0;
    for (int32_t i = 0; i < c->methods.names.n; i++) {
        if (!strcmp(c->methods.names.v[i], "random")) random = true;
        else found = c->methods.names.v[i], others++;
    }
    for (int32_t i = 0; i < c->eval.protocols.n; i++) evaluated |= !strcmp(c->eval.protocols.v[i], c->repro.protocol);
    rt_status st = RT_OK;
    if (!(c->repro.published > 0) && !(c->repro.above_random > 0)) {
        st = RT_RAISE(RT_ERR_CONFIG, "%s is no recipe: it names neither repro.published nor repro.above_random", c->name);
        return rt_error_fix(st, "give one of configs/recipes, or set what the figure is held against");
    }
    if (c->repro.shortened[0] && !(c->repro.above_random > 0)) {
        st = RT_RAISE(RT_ERR_CONFIG, "%s is shortened and asks for nothing that it could fail", c->name);
        return rt_error_fix(st, "set repro.above_random and add random to methods.names");
    }
    if (others > 1 || (!others && !random)) {
        st = RT_RAISE(RT_ERR_CONFIG, "%s names %d methods beside random, a recipe is about one", c->name, others);
        return rt_error_fix(st, "set methods.names to the method, and random to compare with");
    }
    if (c->repro.above_random > 0 && (!random || !others)) {
        st = RT_RAISE(RT_ERR_CONFIG, "repro.above_random compares a method with random; methods.names has %s", others ? "no random" : "random alone");
        return rt_error_fix(st, "set methods.names to both");
    }
    if (c->set.ipc.n != 1) {
        st = RT_RAISE(RT_ERR_CONFIG, "%s constructs sets of %d sizes, a published figure is of one", c->name, c->set.ipc.n);
        return rt_error_fix(st, "set set.ipc to one number");
    }
    if (!evaluated) {
        st = RT_RAISE(RT_ERR_CONFIG, "repro.protocol is %s, which eval.protocols does not run", c->repro.protocol);
        return rt_error_fix(st, "add %s to eval.protocols", c->repro.protocol);
    }
    *method = others ? found : "random";
    return st;
}

static rt_status compare(rt_run *r, const char *method, char **text)
{
    rt_status st = RT_OK;
    figure g, random = {0};
    effort e = {0};
    page p = {0};
    int missed = 0;
    RT_TRY(reported(r, method, &e, &g));
    if (strcmp(method, "random")) RT_TRY(reported(r, "random", NULL, &random));
    if (!(p.f = open_memstream(&p.s, &p.n))) {
        st = RT_RAISE(RT_ERR_NOMEM, "text of the comparison");
        goto out;
    }
    missed = put_comparison(r, method, &g, &random, p.f);
    put_cost(&e, p.f);
    st = put_notes(r, method, p.f);
    if ((ferror(p.f) | fclose(p.f)) && st == RT_OK) st = RT_RAISE(RT_ERR_NOMEM, "text of the comparison");
    if (st != RT_OK) goto out;
    RT_TRY(write_json(r, method, &g, &random, &e, missed));
    if (!(*text = rt_strdup(p.s))) {
        st = RT_RAISE(RT_ERR_NOMEM, "text of the comparison");
        goto out;
    }
    if (missed) {
        st = RT_RAISE(RT_ERR_GATE, "%s: %.2f %% misses %s", r->c->name, 100 * g.mean, missed > 1 ? "both gates" : "its gate");
        rt_error_fix(st, "the lines above say by how much; `retort help config` lists what the recipe sets");
    }
out:
    free(p.s); /* of open_memstream */
    return st;
}

rt_status rt_stage_repro(const rt_config *c, const rt_stage_opts *o, char **text)
{
    static const rt_stage_opts none;
    rt_status st = RT_OK;
    rt_run r = {0};
    const char *method = NULL;
    char *table = NULL, *path = NULL;
    bool open = false;
    RT_TRY(check_recipe(c, &method));
    RT_TRY(rt_run_open(c, &r));
    open = true;
    if (!o) o = &none;
    RT_TRY(rt_run_index(&r, o));
    if (rt_run_teachers_wanted(&r) || rt_run_needs_experts(&r)) RT_TRY(rt_run_teach(&r, o));
    RT_TRY(rt_run_build(&r, o));
    RT_TRY(rt_run_eval(&r, o));
    if (c->metrics.enabled) RT_TRY(rt_run_measure(&r, o));
    RT_TRY(rt_run_report(&r, &table, &path));
    RT_TRY(compare(&r, method, text));
out:
    rt_free(table);
    rt_free(path);
    if (open) rt_run_close(&r);
    return st == RT_OK || st == RT_ERR_GATE ? st : rt_error_frame(st, __FILE__, __LINE__, "repro");
}
